"""Saving and restoring, beside their bounds and beside other ways, from 1 MB to 1 GB (the paper's figure 7: to 100).

Everything is measured in turn, round after round, so that a slow moment of the machine strikes all alike. Before each
save every element is written, as an optimizer does; each restore goes into other tensors, which are compared once.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from plinius.bench import phases
from plinius.bench.clock import Turns, timed
from plinius.bench.folders import new_folder
from plinius.bench.methods import Method, durable_methods, forget, memcpy, without_their_warnings
from plinius.bench.tensors import bytes_of, change, empty_like, equal, transformer
from plinius.errors import PliniusError
from plinius.mirror import Mirror, RollbackWarning
from plinius.mirror.bounds import Bounds
from plinius.pool import Pool
from plinius.seal import Key

OURS: Final = "plinius"
MEGABYTE: Final = 10**6
PM: Final = "pm"
DISK: Final = "disk"
MEMORY: Final = "memory"
SAVE: Final = "save"
BLOCKED: Final = "blocked"
RESTORE: Final = "restore"
BOUND: Final = "bound"
SEAL: Final = "seal in cache"
COPY_IN: Final = "copy in"
OPEN: Final = "open in cache"
COPY_OUT: Final = "copy out"
SIZES_MB: Final = (1, 3, 10, 20, 40, 60, 80, 100, 300, 1000)
QUICK_SIZES_MB: Final = (1, 10, 100)
_MIRROR: Final = "bench"
# Small states are measured more often in a round: they are over quickly, and their ratios are the noisier.
_PAIRS_IN_A_ROUND: Final = (3, 10)

Times = dict[tuple[str, str, str], list[float]]
"""Seconds by system, place and what was done."""


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        pm: A folder on emulated or real PM.
        disk: A folder on a disk.
        turns: How often everything is measured, for each size.
        sizes_mb: Sizes of the state.
        methods: Makes the ways to save that ours is compared with.
        places: Where their files are.
    """

    pm: str
    disk: str
    turns: Turns
    sizes_mb: Sequence[float] = SIZES_MB
    methods: Callable[[], Sequence[Method]] = durable_methods
    places: Sequence[str] = (PM, DISK)


@dataclass
class Measured:
    """What was measured with one size of the state.

    Attributes:
        size_mb: The size that was asked for.
        state_bytes: The size that it has.
        tensors: How many tensors that are.
        rounds: How often everything was measured.
        pairs: How often in a round our mirror and its bounds were.
        times: All single measurements.
        save_phases: For each of our saves, what it spent its time on.
        restore_phases: The same for restores.
    """

    size_mb: float
    state_bytes: int
    tensors: int
    pairs: int
    rounds: int = 0
    times: Times = field(default_factory=lambda: defaultdict(list))
    save_phases: list[phases.Spent] = field(default_factory=list)
    restore_phases: list[phases.Spent] = field(default_factory=list)


def measure(plan: Plan, progress: Callable[[float, float], None] = lambda *_: None) -> list[Measured]:
    """Measures all sizes.

    Args:
        plan: What to measure.
        progress: Called after each round, with the size and how much of its time is over.

    Raises:
        ConfigError: There is no such folder.
        PliniusError: Something did not come back as it was saved.
    """
    with without_their_warnings():
        warnings.simplefilter("ignore", RollbackWarning)
        return [_measure_size(plan, size_mb, progress) for size_mb in plan.sizes_mb]


def _measure_size(plan: Plan, size_mb: float, progress: Callable[[float, float], None]) -> Measured:
    with new_folder(plan.pm) as pm, new_folder(plan.disk) as disk, Pool(pm / "pool") as pool:
        size = _Size(plan, pool, {PM: pm, DISK: disk}, size_mb)
        size.round()  # Takes memory, space and page tables; what it measured is forgotten.
        size.check()
        size.found = size.nothing()
        for share in plan.turns:
            size.round()
            size.found.rounds += 1
            progress(size_mb, share)
        size.check()
        return size.found


class _Size:
    """The measurements with one size of the state."""

    def __init__(self, plan: Plan, pool: Pool, folders: dict[str, Path], size_mb: float) -> None:
        self.places = plan.places
        self.size_mb = size_mb
        self.key = Key.generate()
        self.tensors = transformer(round(size_mb * MEGABYTE))
        self.twin = empty_like(self.tensors)
        self.folders = folders
        self.bounds = Bounds(pool, self.key, bytes_of(self.tensors))
        self.saving = Mirror(pool, self.key, name=_MIRROR, tensors=self.tensors)
        self.restoring = Mirror(pool, self.key, name=_MIRROR, tensors=self.twin)
        self.memcpy, self.methods = memcpy(), plan.methods()
        self.step = 0
        self.pairs = max(_PAIRS_IN_A_ROUND[0], min(_PAIRS_IN_A_ROUND[1], round(100 / size_mb)))
        self.found = self.nothing()

    def nothing(self) -> Measured:
        """A record in which nothing is measured yet."""
        lengths = bytes_of(self.tensors)
        return Measured(self.size_mb, sum(lengths), len(lengths), self.pairs)

    def round(self) -> None:
        """Measures everything in turn."""
        for _ in range(self.pairs):
            self._pair()
        self._peer(self.memcpy, MEMORY, self.folders[PM])
        for place in self.places:
            for method in self.methods:
                with new_folder(str(self.folders[place])) as own:
                    self._peer(method, place, own)
        self._ours_on_disk()

    def check(self) -> None:
        """Saves, restores and compares.

        Raises:
            PliniusError: What was restored is not what was saved.
        """
        self._change()
        self.saving.save(self.step)
        self.restoring.restore()
        if not equal(self.tensors, self.twin):
            raise PliniusError("what was restored is not what was saved")

    def _pair(self) -> None:
        """Our save and our restore, each with its bounds beside it."""
        self._change()
        with phases.watched() as spent:
            self._note(OURS, PM, SAVE, timed(lambda: self.saving.save(self.step)))
        self.found.save_phases.append(dict(spent))
        self._note(BOUND, PM, SEAL, self.bounds.seal_s())
        self._note(BOUND, PM, COPY_IN, self.bounds.copy_in_s())
        with phases.watched() as spent:
            self._note(OURS, PM, RESTORE, timed(self.restoring.restore))
        self.found.restore_phases.append(dict(spent))
        self._note(BOUND, PM, OPEN, self.bounds.open_s())
        self._note(BOUND, PM, COPY_OUT, self.bounds.copy_out_s())

    def _peer(self, method: Method, place: str, folder: Path) -> None:
        self._change()
        blocked_s = timed(lambda: method.save(self.tensors, folder))
        self._note(method.name, place, BLOCKED, blocked_s)
        self._note(method.name, place, SAVE, blocked_s + timed(method.finish))
        if place == DISK:
            forget(folder)
        self._note(method.name, place, RESTORE, timed(lambda: method.load(self.twin, folder)))
        if not equal(self.tensors, self.twin):
            raise PliniusError(f"{method.name}: what was loaded is not what was saved")

    def _ours_on_disk(self) -> None:
        self._change()
        path = self.folders[DISK] / "pool"
        with Pool(path) as pool:
            mirror = Mirror(pool, self.key, name=_MIRROR, tensors=self.tensors)
            self._note(OURS, DISK, SAVE, timed(lambda: mirror.save(self.step, overwrite=True)))
        # A mapped file does not leave the cache.
        forget(self.folders[DISK])
        with Pool(path) as pool:
            mirror = Mirror(pool, self.key, name=_MIRROR, tensors=self.twin)
            self._note(OURS, DISK, RESTORE, timed(mirror.restore))

    def _change(self) -> None:
        self.step += 1
        change(self.tensors)

    def _note(self, system: str, place: str, what: str, seconds: float) -> None:
        self.found.times[system, place, what].append(seconds)
