"""What a save costs when all has changed, half, nothing, and when all is declared frozen, beside one parallel read.

The tensors belong to no optimizer: those that one owns count as changed. The read is torch's sum over as many bytes
in one tensor, with all threads: over each of the tensors in turn it would wait for its threads as often. The ways take
turns.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch

from plinius.bench.clock import timed
from plinius.bench.experiment import Experiment, Plan, Result, Row
from plinius.bench.folders import new_folder
from plinius.bench.intervals import Interval, ratio
from plinius.bench.words import rounded
from plinius.mirror import Mirror
from plinius.mirror.tracking import FROZEN_CHECK_SAVES
from plinius.pool import Pool
from plinius.seal import Key

_MS: Final = 1e3
_ITEM_BYTES: Final = 4
READ: Final = "read"
FROZEN: Final = "all of them frozen"
_LOOK: Final = f" (the median: once in {FROZEN_CHECK_SAVES} saves they are looked at)"
NONE: Final = "none changed"
# Which share of the tensors changes before each save.
_CHANGED: Final[Mapping[str, float]] = {"all changed": 1, "half changed": 0.5, NONE: 0, FROZEN: 0}


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        megabytes: Of all tensors together.
        tensors: How many.
        warm_up: Rounds that do not count.
        rounds: Rounds that do.
    """

    megabytes: int
    tensors: int
    warm_up: int
    rounds: int


@dataclass(frozen=True)
class Unchanged:
    """Saves of the same state, in four ways."""

    quick: Size = Size(100, 24, warm_up=4, rounds=10)
    full: Size = Size(100, 24, warm_up=10, rounds=60)
    name: str = "unchanged"
    title: str = "Beyond the paper: a save of what has not changed, beside one parallel read of it"

    def measure(self, plan: Plan) -> Result:
        """Measures.

        Raises:
            PliniusError: The folder cannot be used.
        """
        size = self.quick if plan.quick else self.full
        plan.tell(f"{self.name}: {size.megabytes} MB in {size.tensors} tensors")
        with new_folder(str(plan.memory)) as place, Pool(place / "pool") as pool, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # there is no anchor
            spent = _measured(pool, size)
            medium = pool.medium
        return {
            "megabytes": size.megabytes,
            "tensors": size.tensors,
            "rounds": size.rounds,
            "threads": torch.get_num_threads(),
            "medium": medium,
            "read_ms": statistics.median(spent[READ]) * _MS,
            "ways": {
                name: {
                    "ms": statistics.median(spent[name]) * _MS,
                    "reads": asdict(ratio(spent[name], spent[READ])),
                }
                for name in _CHANGED
            },
        }

    def draw(self, result: Result, path: Path) -> None:
        """Draws a bar for each way, and a line where the read is."""
        from matplotlib.figure import Figure  # noqa: PLC0415

        figure = Figure(figsize=(7.5, 3.5), layout="constrained")
        axes = figure.subplots()
        ways = result["ways"]
        axes.barh(list(ways), [way["ms"] for way in ways.values()], height=0.6)
        axes.axvline(result["read_ms"], color="C3", linestyle="--", label="one parallel read")
        axes.invert_yaxis()
        axes.set_xlabel("a save, ms")
        axes.set_title(f"{result['megabytes']} MB in {result['tensors']} tensors, {result['medium']}", fontsize="small")
        axes.grid(axis="x", alpha=0.3)
        axes.legend(fontsize="small")
        figure.savefig(path, dpi=150)

    def rows(self, result: Result) -> list[Row]:
        """Each way, in milliseconds and in reads."""
        state = f"{result['megabytes']} MB in {result['tensors']} tensors"
        read = Row(f"one parallel read of {state}", f"{rounded(result['read_ms'])} ms, {result['threads']} threads")
        return [
            read,
            *(
                Row(
                    f"a save of {state}, {name}{_LOOK if name == FROZEN else ''}",
                    f"{rounded(way['ms'])} ms, {Interval(**way['reads']).text(2)} of a read",
                )
                for name, way in result["ways"].items()
            ),
        ]

    def meaning(self, result: Result) -> str:
        """What nothing costs."""
        ways = result["ways"]
        return (
            f"A save of {result['megabytes']} MB in which nothing has changed costs "
            f"{ways[NONE]['reads']['median']:.2f} times one look at every byte, which is the least that it takes to be "
            f"sure; where the tensors were declared frozen it costs {rounded(ways[FROZEN]['ms'])} ms, and such a look "
            f"once in {FROZEN_CHECK_SAVES} saves."
        )


EXPERIMENT: Final[Experiment] = Unchanged()


class _Way:
    """A mirror of tensors of its own, some of which change before each save."""

    def __init__(self, pool: Pool, name: str, size: Size) -> None:
        items = size.megabytes * 10**6 // _ITEM_BYTES // size.tensors
        self.weights = [torch.randn(items) for _ in range(size.tensors)]
        self._changed = self.weights[: round(_CHANGED[name] * size.tensors)]
        frozen: list[Any] = [self.weights] if name == FROZEN else []
        self._mirror = Mirror(pool, Key.generate(), name=name, frozen=frozen, weights=self.weights)

    def save_s(self, step: int) -> float:
        """Seconds that a save takes."""
        for tensor in self._changed:
            tensor.add_(1)
        return timed(lambda: self._mirror.save(step))


def _measured(pool: Pool, size: Size) -> dict[str, list[float]]:
    """Seconds, by way; those of a round stand at the same place."""
    ways = {name: _Way(pool, name, size) for name in _CHANGED}
    whole = torch.cat(ways[NONE].weights)
    spent: dict[str, list[float]] = {name: [] for name in (READ, *ways)}
    for step in range(1, size.warm_up + size.rounds + 1):
        taken = {READ: timed(whole.sum)}
        taken |= {name: way.save_s(step) for name, way in ways.items()}
        if step > size.warm_up:
            for name, seconds in taken.items():
                spent[name].append(seconds)
    return spent
