"""Swaps per second, figure 6 of the paper: random swaps in a persistent array, more and more in one transaction."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

from plinius import pool
from plinius.bench.peers import Fences, Peer, Workload, fences
from plinius.errors import ConfigError

OURS: Final = "plinius"
# From the best on; a CPU that has one has those behind it.
_INSTRUCTIONS: Final = ("clwb", "clflushopt", "clflush")
# No write-back at all: the bound that no pwb can beat.
_BOUND: Final = "none"

Rates = dict[tuple[str, str, int], list[float]]
"""Swaps a second of each round, by system, pwb and swaps in a transaction."""


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        folder: Where the pools are made.
        pwbs: The write-backs.
        peers: The systems beside ours.
        fences: The program that measures what each fence costs, if there is one.
        seconds: Of each single measurement.
        rounds: How often everything is measured, one after the other.
        sizes: Swaps in a transaction.
        array_bytes: Length of the array.
    """

    folder: str
    pwbs: Sequence[str]
    peers: Sequence[Peer] = ()
    fences: str | None = None
    seconds: float = 0.2
    rounds: int = 5
    sizes: Sequence[int] = tuple(2**power for power in range(1, 12))
    array_bytes: int = 10 << 20

    @property
    def measurements(self) -> int:
        """How many single measurements that makes."""
        systems = self.rounds * len(self.sizes) * (1 + len(self.peers))
        return len(self.pwbs) * (systems + bool(self.fences))


def pwbs() -> list[str]:
    """The write-backs that this CPU has, best first, and the bound without any."""
    return [*_INSTRUCTIONS[_INSTRUCTIONS.index(pool.cpu_write_back()) :], _BOUND]


def measure(plan: Plan, done_one: Callable[[], None] = lambda: None) -> tuple[Rates, dict[str, Fences]]:
    """Measures everything in turn, so that a slow moment of the machine strikes all alike.

    Args:
        plan: What to measure.
        done_one: Called after each measurement.

    Returns:
        The rates; and by pwb what the fences cost in the smallest transactions, if a program for that was named.

    Raises:
        ConfigError: There is no such folder, or no such program.
        PliniusError: A system failed.
    """
    rates: Rates = defaultdict(list)
    systems = [(OURS, _ours), *((peer.name, peer.swaps_per_s) for peer in plan.peers)]
    for turn in range(plan.rounds):
        for size, pwb, (name, swaps_per_s) in product(plan.sizes, plan.pwbs, systems):
            with _new_pool(plan.folder) as path:
                work = Workload(path, plan.array_bytes, size, plan.seconds, pwb, seed=turn)
                rates[name, pwb, size].append(swaps_per_s(work))
            done_one()
    costs = {}
    for pwb in plan.pwbs if plan.fences else ():
        with _new_pool(plan.folder) as path:
            work = Workload(path, plan.array_bytes, min(plan.sizes), plan.seconds * plan.rounds, pwb, seed=0)
            costs[pwb] = fences(plan.fences or "", work)
        done_one()
    return rates, costs


def _ours(work: Workload) -> float:
    swaps, seconds = pool.swaps(
        work.pool,
        array_bytes=work.array_bytes,
        swaps_per_transaction=work.swaps_per_transaction,
        seconds=work.seconds,
        flush=work.pwb,
        seed=work.seed,
    )
    return swaps / seconds


@contextmanager
def _new_pool(place: str) -> Iterator[str]:
    """The path of a pool that is not there yet, in a folder that is removed afterwards."""
    try:
        made = tempfile.TemporaryDirectory(prefix="plinius-bench-", dir=place)
    except OSError as error:
        raise ConfigError(f"no pool can be made here: {error.strerror}", path=place) from None
    with made as folder:
        yield str(Path(folder) / "pool")
