"""Figure 8: the time of a training step against the batch size, on sealed and on plain data."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch

from plinius.bench import paper
from plinius.bench.clock import Turns
from plinius.bench.experiment import Experiment, Plan, Result, Row
from plinius.bench.folders import new_folder
from plinius.bench.intervals import Interval, ratio
from plinius.bench.sealed_step import Steps
from plinius.bench.tables import cpu
from plinius.bench.words import rounded
from plinius.bench.workload import network
from plinius.pool import Pool

_MS: Final = 1e3


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        batches: The batch sizes.
        turns: How often a pair is measured, for each batch size.
    """

    batches: tuple[int, ...]
    turns: Turns


@dataclass(frozen=True)
class Fig8:
    """Pairs of neighbouring steps, one on sealed and one on plain data."""

    quick: Size = Size((32, 64, 128), Turns(seconds=3, at_least=3, at_most=40))
    full: Size = Size((16, 32, 64, 128, 256, 512), Turns(seconds=15, at_least=6, at_most=100))
    name: str = "fig8"
    title: str = "Fig. 8: time of a training step against the batch size, on sealed and on plain data"

    def measure(self, plan: Plan) -> Result:
        """Measures.

        Raises:
            PliniusError: The folder cannot be used.
        """
        size = self.quick if plan.quick else self.full
        net = network(plan.data)
        with new_folder(str(plan.memory)) as place, Pool(place / "pool") as pool:
            steps = Steps(net.config, pool, place)
            points = []
            for batch in size.batches:
                plan.tell(f"fig8: batches of {batch}")
                points.append(_point(steps, batch, size.turns))
            return {
                "cpu": cpu(),
                "cores": len(os.sched_getaffinity(0)),
                "threads": torch.get_num_threads(),
                "load": os.getloadavg()[0],
                "medium": pool.medium,
                "network": net.name,
                "points": points,
            }

    def draw(self, result: Result, path: Path) -> None:
        """Draws the time of a step, and beside it the ratio with its interval."""
        from matplotlib.figure import Figure  # noqa: PLC0415

        figure = Figure(figsize=(11, 4.5), layout="constrained")
        times, ratios = figure.subplots(1, 2)
        points = result["points"]
        batches = [point["batch"] for point in points]
        for name, look in (("sealed", {"marker": "o"}), ("plain", {"marker": "x", "linestyle": "--"})):
            times.plot(batches, [point[f"{name}_s"] * _MS for point in points], label=f"{name} data", **look)
        times.set_ylim(bottom=0)
        times.set_ylabel("step, ms")
        middles = [point["ratio"]["median"] for point in points]
        low = [point["ratio"]["median"] - point["ratio"]["low"] for point in points]
        high = [point["ratio"]["high"] - point["ratio"]["median"] for point in points]
        ratios.errorbar(batches, middles, yerr=[low, high], marker="o", capsize=3, label="ours")
        ratios.axhline(1, color="grey", linestyle="--", linewidth=1)
        factor = paper.number("fig8.decryption_factor")
        ratios.axhline(factor.value, color="C3", linestyle=":", label=f"the paper: at most {factor.said}")
        ratios.set_ylabel("step on sealed data / step on plain data")
        for axes in (times, ratios):
            axes.set_xscale("log", base=2)
            axes.set_xticks(batches, [str(batch) for batch in batches])
            axes.set_xlabel("batch size")
            axes.grid(which="both", alpha=0.3)
            axes.legend(fontsize="small")
        figure.suptitle(f"{result['network']}, {result['threads']} threads, {result['medium']}", fontsize="medium")
        figure.savefig(path, dpi=150)

    def rows(self, result: Result) -> list[Row]:
        """The ratio for each batch size."""
        factor = paper.number("fig8.decryption_factor")
        return [
            Row(
                f"step on sealed data / on plain data, batch {point['batch']}",
                f"{Interval(**point['ratio']).text(3)}, {point['pairs']} pairs; "
                f"plain step {rounded(point['plain_s'] * _MS)} ms",
                f"at most {factor}",
            )
            for point in result["points"]
        ]

    def meaning(self, result: Result) -> str:
        """How much longer a step takes at worst, and whether that can be told from nothing."""
        worst = _worst(result["points"])
        low, high = worst["low"], worst["high"]
        told = "which cannot be told from none" if low <= 1 <= high else f"95 % interval {low:.3f} to {high:.3f}"
        return (
            f"Opening its batch makes a step of {result['network']} take {worst['median']:.3f} times as long at the "
            f"batch size where that is the most ({told}), with no SGX here whose memory encryption would add to both."
        )


EXPERIMENT: Final[Experiment] = Fig8()


def _point(steps: Steps, batch: int, turns: Turns) -> dict[str, object]:
    """Pairs of steps; each other pair begins with the other one, so that neither is always the first."""
    steps.plain_s(batch), steps.sealed_s(batch)  # take memory, and choose how to compute this size
    plain, sealed = [], []
    for number, _ in enumerate(turns):
        if number % 2:
            plain.append(steps.plain_s(batch))
            sealed.append(steps.sealed_s(batch))
        else:
            sealed.append(steps.sealed_s(batch))
            plain.append(steps.plain_s(batch))
    return {
        "batch": batch,
        "pairs": len(plain),
        "plain_s": statistics.median(plain),
        "sealed_s": statistics.median(sealed),
        "ratio": asdict(ratio(sealed, plain)),
    }


def _worst(points: Sequence[Result]) -> dict[str, Any]:
    found: dict[str, Any] = max((point["ratio"] for point in points), key=lambda one: one["median"])
    return found
