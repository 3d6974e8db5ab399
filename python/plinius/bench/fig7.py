"""Figure 7 and Table I: save and restore beside an encrypted checkpoint on a disk, in the report."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from plinius.bench import mirror, paper, private_memory
from plinius.bench.clock import Turns
from plinius.bench.experiment import Plan, Result, Row
from plinius.bench.folders import new_folder
from plinius.bench.methods import Method, durable_methods, encrypted_file
from plinius.bench.mirror import DISK, MEGABYTE, RESTORE, SAVE, Measured
from plinius.bench.mirror_report import Bounded, Compared, Report, summarize
from plinius.bench.phases import Timed
from plinius.bench.private_memory import FILE, OURS
from plinius.bench.tensors import Tensors

_SIZES_MB: Final = (10, 20, 40, 60, 80, 100, 300, 1000)
_QUICK_SIZES_MB: Final = (10, 40, 100)
# The paper's figure ends here, and so do the sizes whose speed-ups are held against its.
_PAPERS_LARGEST_MB: Final = 100
_TURNS: Final = Turns(seconds=20, at_least=3, at_most=30)
# A round of the largest takes a good part of a minute on 2 cores; ours is measured three times in each.
_LARGE_TURNS: Final = Turns(seconds=12, at_least=2, at_most=30)
_QUICK_TURNS: Final = Turns(seconds=4, at_least=2, at_most=10)


@dataclass(frozen=True)
class Share:
    """How much of a save or restore is encryption or decryption; the rest writes or reads.

    Attributes:
        system: Ours on PM, or the encrypted file on the disk.
        what: save or restore.
        size_mb: The model's size.
        crypto: From 0 to 1. Ours: sealing or opening the same bytes in cache, as part of the whole.
    """

    system: str
    what: str
    size_mb: float
    crypto: float


@dataclass(frozen=True)
class Beyond:
    """Private memory that a save and a restore take beyond the model."""

    system: str
    size_mb: float
    private_bytes: int


@dataclass(frozen=True)
class Found:
    """Everything."""

    report: Report
    shares: list[Share]
    beyond: list[Beyond]

    def ours(self, what: str) -> list[Bounded]:
        """Our saves or restores."""
        return [one for one in self.report.bounded if one.what == what]

    def files(self) -> list[Compared]:
        """The encrypted file on the disk."""
        return [one for one in self.report.compared if (one.system, one.place) == (FILE, DISK)]


@dataclass(frozen=True)
class SaveAndRestore:
    """The experiment.

    Attributes:
        sizes_mb: Of the model; None: as the plan says.
        turns: How often each size is measured; None: as the plan says.
    """

    sizes_mb: tuple[float, ...] | None = None
    turns: Turns | None = None
    name: str = "fig7"
    title: str = "Fig. 7, Table I: saving and restoring, beside encrypted checkpoints on a disk"

    def measure(self, plan: Plan) -> Result:
        """Measures all sizes, one after the other."""
        sizes = self.sizes_mb or (_QUICK_SIZES_MB if plan.quick else _SIZES_MB)
        measured, shares, beyond = [], [], []
        for size_mb in sizes:
            plan.tell(f"fig7: {size_mb:g} MB")
            divided, turns = _Divided(), self._turns(plan, size_mb)
            methods = [divided, *([] if plan.quick else _others(size_mb))]
            work = mirror.Plan(str(plan.memory), str(plan.disk), turns, [size_mb], lambda: methods, [DISK])  # noqa: B023
            one = mirror.measure(work)[0]
            measured.append(one)
            shares += divided.shares(one)
            beyond += [_beyond(plan, system, size_mb) for system in (OURS, FILE)]
        report = summarize(work, measured)
        shares += [Share(OURS, one.what, one.size_mb, min(1, one.crypto_s / one.seconds)) for one in report.bounded]
        result: Result = msgspec.to_builtins(asdict(Found(report, shares, beyond)))
        return result

    def draw(self, result: Result, path: Path) -> None:
        """Draws seconds, time per byte, and shares."""
        from plinius.bench.fig7_plot import plot  # noqa: PLC0415 (it needs matplotlib)

        plot(_found(result), path)

    def rows(self, result: Result) -> list[Row]:
        """Speed-ups, Table I, time per byte, memory; what SGX would add, `plinius.bench.sgxmodel` says."""
        found = _found(result)
        return [
            *_summary_rows(found),
            *_bound_rows(found),
            *_other_rows(found),
            *_speed_rows(found),
            *_share_rows(found),
            *_memory_rows(found),
        ]

    def meaning(self, result: Result) -> str:
        """How many times faster."""
        found = _found(result)
        files = _papers(found.files())
        saves, restores = ([getattr(one, f"{what}_ratio").median for one in files] for what in (SAVE, RESTORE))
        slower = _slowdown(found, SAVE)
        return (
            f"Up to {max(one.size_mb for one in files):g} MB a sealed mirror on {found.report.pm} is saved "
            f"{min(saves):.1f} to {max(saves):.1f} times and restored {min(restores):.1f} to {max(restores):.1f} times "
            f"as fast as an encrypted file on the disk, and a byte of the largest model takes "
            f"{slower:.2f} times what a byte of the smallest does."
        )

    def _turns(self, plan: Plan, size_mb: float) -> Turns:
        if self.turns is not None:
            return self.turns
        if plan.quick:
            return _QUICK_TURNS
        return _TURNS if size_mb <= _PAPERS_LARGEST_MB else _LARGE_TURNS


class _Divided(Method):
    """The encrypted file, with the time that its encryption and decryption take."""

    name = FILE

    def __init__(self) -> None:
        self._spent: dict[str, float] = {"encrypt": 0.0, "decrypt": 0.0}
        self._inner = encrypted_file(self._watch)
        self._crypto_s: dict[str, list[float]] = {SAVE: [], RESTORE: []}

    def save(self, tensors: Tensors, folder: Path) -> None:
        self._spent["encrypt"] = 0
        self._inner.save(tensors, folder)
        self._crypto_s[SAVE].append(self._spent["encrypt"])

    def load(self, tensors: Tensors, folder: Path) -> None:
        self._spent["decrypt"] = 0
        self._inner.load(tensors, folder)
        self._crypto_s[RESTORE].append(self._spent["decrypt"])

    def shares(self, measured: Measured) -> list[Share]:
        """Of the rounds that count: the first of all was to warm up."""
        return [
            Share(FILE, what, measured.size_mb, _share(self._crypto_s[what], measured.times[FILE, DISK, what]))
            for what in (SAVE, RESTORE)
        ]

    def _watch(self, aead: Any) -> Any:
        return Timed(aead, self._spent)


def _share(crypto_s: Sequence[float], whole_s: Sequence[float]) -> float:
    counted = crypto_s[-len(whole_s) :]
    return statistics.median(part / whole for part, whole in zip(counted, whole_s, strict=True))


def _beyond(plan: Plan, system: str, size_mb: float) -> Beyond:
    with new_folder(str(plan.memory if system == OURS else plan.disk)) as folder:
        return Beyond(system, size_mb, private_memory.beyond_model_bytes(system, size_mb, folder))


def _summary_rows(found: Found) -> list[Row]:
    files = _papers(found.files())
    sizes = f"{min(one.size_mb for one in files):g} to {max(one.size_mb for one in files):g} MB"
    rows = []
    for what in (SAVE, RESTORE):
        ratios = [getattr(one, f"{what}_ratio").median for one in files]
        papers = str(paper.number(f"fig7.{what}_speedup"))
        named = f"{what} of {sizes}, times as fast as the encrypted file"
        rows.append(Row(named, f"{min(ratios):.1f} to {max(ratios):.1f}", papers))
    needed = [one.private_bytes for one in found.beyond if one.system == OURS and one.size_mb <= _PAPERS_LARGEST_MB]
    fits_mb = paper.number("fig7.usable_epc").value - max(needed, default=found.beyond[0].private_bytes) / MEGABYTE
    papers = str(paper.number("fig7.largest_model_in_epc"))
    return [*rows, Row("largest model that would fit the usable EPC (computed)", f"{fits_mb:.1f} MB", papers)]


def _others(size_mb: float) -> list[Method]:
    """Other ways to save, which the paper has not: beside its largest model only."""
    return [method for method in durable_methods() if method.name != FILE] if size_mb == _PAPERS_LARGEST_MB else []


def _bound_rows(found: Found) -> list[Row]:
    bounds = {SAVE: "sealing in cache + copying", RESTORE: "opening in cache + copying"}
    return [
        Row(f"{what} of {our.size_mb:g} MB / its bound, {bounds[what]}", our.ratio.text(2))
        for what in (SAVE, RESTORE)
        for our in found.ours(what)
    ]


def _other_rows(found: Found) -> list[Row]:
    others = [one for one in found.report.compared if one.place == DISK and one.system not in (FILE, mirror.OURS)]
    return [
        Row(f"{what} of {one.size_mb:g} MB, times as fast as {one.system} on the disk", ratio.text(1))
        for one in others
        for what, ratio in ((SAVE, one.save_ratio), (RESTORE, one.restore_ratio))
    ]


def _speed_rows(found: Found) -> list[Row]:
    rows = []
    for one in found.files():
        for what, ratio in ((SAVE, one.save_ratio), (RESTORE, one.restore_ratio)):
            rows.append(Row(f"{what} of {one.size_mb:g} MB, times as fast as the encrypted file", ratio.text(1)))
    return rows + [
        Row(f"{what} of {our.size_mb:g} MB, time per byte", f"{_ns_per_byte(our):.3f} ns")
        for what in (SAVE, RESTORE)
        for our in found.ours(what)
    ]


def _share_rows(found: Found) -> list[Row]:
    other = {SAVE: ("encrypt", "write"), RESTORE: ("decrypt", "read")}
    rows = []
    for share in found.shares:
        crypto, moved = other[share.what]
        where = "on PM" if share.system == OURS else "on the disk"
        what = f"{share.what} of {share.size_mb:g} MB, {share.system} {where} (Table I)"
        rows.append(Row(what, f"{crypto} {share.crypto:.0%}, {moved} {1 - share.crypto:.0%}"))
    return rows


def _memory_rows(found: Found) -> list[Row]:
    return [
        Row(
            f"private memory beyond a model of {one.size_mb:g} MB, {one.system}",
            f"{one.private_bytes / MEGABYTE:.2f} MB",
        )
        for one in found.beyond
    ]


def _ns_per_byte(one: Bounded) -> float:
    return one.seconds / one.state_bytes * 1e9


def _slowdown(found: Found, what: str) -> float:
    rows = sorted(found.ours(what), key=lambda one: one.size_mb)
    return _ns_per_byte(rows[-1]) / _ns_per_byte(rows[0])


def _papers(files: Sequence[Compared]) -> Sequence[Compared]:
    return [one for one in files if one.size_mb <= _PAPERS_LARGEST_MB] or files


def _found(result: Result) -> Found:
    return msgspec.convert(result, Found)


EXPERIMENT: Final = SaveAndRestore()
