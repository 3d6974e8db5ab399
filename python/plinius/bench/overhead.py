"""What a save after every step adds to a training, beside other ways to save: `plinius bench step`, in the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from plinius.bench import step, step_plot
from plinius.bench.clock import Turns
from plinius.bench.experiment import Experiment, Plan, Result, Row
from plinius.bench.nets import Net, darknet, transformer
from plinius.bench.step import OURS, OURS_BEHIND, OURS_ON_DISK
from plinius.bench.step_report import Report, Trained, summarize
from plinius.bench.words import rounded
from plinius.bench.workload import MNIST_CFG

_MS: Final = 1e3
_MEGABYTE: Final = 10**6


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        width: Of the transformer.
        layers: Of the transformer.
        step_s: How long a step of it takes at least; its batch is chosen so.
        papers: Whether the paper's network for MNIST is trained too, where its cfg is there.
        turns: How often all ways are measured, for each network.
    """

    width: int
    layers: int
    step_s: float
    papers: bool
    turns: Turns


@dataclass(frozen=True)
class Overhead:
    """Blocks of steps with a save after each, beside blocks without."""

    quick: Size = Size(96, 4, 0.03, papers=False, turns=Turns(seconds=5, at_least=3, at_most=30))
    # The transformer's state is 100 MB with Adam's.
    full: Size = Size(336, 6, 0.6, papers=True, turns=Turns(seconds=140, at_least=4, at_most=30))
    name: str = "overhead"
    title: str = "Beyond the paper: what a save after every step adds to a training, beside other ways to save"

    def measure(self, plan: Plan) -> Result:
        """Measures each network.

        Raises:
            PliniusError: A folder cannot be used.
        """
        size = self.quick if plan.quick else self.full
        nets: list[Callable[[], Net]] = [partial(transformer, size.width, size.layers, size.step_s)]
        cfg = plan.data / MNIST_CFG if plan.data and size.papers else None
        if cfg is not None and cfg.is_file():
            nets.insert(0, partial(darknet, str(cfg)))
        work = step.Plan(str(plan.memory), str(plan.disk), nets, size.turns, every=(1,))
        plan.tell(f"{self.name}: {len(nets)} networks")
        result: Result = msgspec.to_builtins(asdict(summarize(work, step.measure(work))))
        return result

    def draw(self, result: Result, path: Path) -> None:
        """Draws the ratio for each way, a panel for each network."""
        step_plot.plot(_found(result), str(path))

    def rows(self, result: Result) -> list[Row]:
        """Each way to save, for each network; what stands on which medium, first."""
        report = _found(result)
        places = Row("where it is saved", f"ours: {report.pm}, or {report.disk}; the others: {report.disk}, fsynced")
        return [places] + [
            Row(
                f"step of {net.name}, batch {net.batch}, with a save after it / without: {one.way}",
                f"{one.ratio.text(3)}; a save adds {one.added_s.scaled(_MS).text(1)} ms",
            )
            for net in report.nets
            for one in net.savings
        ]

    def meaning(self, result: Result) -> str:
        """Ours beside the best of the others."""
        report = _found(result)
        return " ".join(_meaning(net, report) for net in report.nets)


EXPERIMENT: Final[Experiment] = Overhead()


def _meaning(net: Trained, report: Report) -> str:
    ratios = {one.way: one.ratio for one in net.savings}
    others = sorted(ratios.keys() - {OURS, OURS_BEHIND, OURS_ON_DISK}, key=lambda way: ratios[way].median)
    return (
        f"With a save after each to {report.pm}, a step of {net.name} (state {net.state_bytes / _MEGABYTE:.1f} MB, "
        f"{rounded(net.plain_step_s * _MS)} ms without) takes {ratios[OURS].text(3)} times as long, "
        f"{ratios[OURS_BEHIND].text(3)} times in the background, and {ratios[OURS_ON_DISK].text(3)} times with the "
        f"pool on the disk; of the others, whose files are fsynced there, {others[0]} is the quickest with "
        f"{ratios[others[0]].text(3)}, and {others[-1]} the slowest with {ratios[others[-1]].text(3)}."
    )


def _found(result: Result) -> Report:
    return msgspec.convert(result, Report)
