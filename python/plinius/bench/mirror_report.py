"""What `plinius bench mirror` reports: ratios to the bounds, phases, and ratios of other ways to ours."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from plinius import pool
from plinius.bench import mirror
from plinius.bench.intervals import Interval, ratio
from plinius.bench.mirror import BOUND, OURS, PM, Measured, Plan
from plinius.bench.phases import Spent
from plinius.bench.tables import Page, busy, cpu, table
from plinius.bench.tensors import DESCRIPTION

_PARTS = {mirror.SAVE: (mirror.SEAL, mirror.COPY_IN), mirror.RESTORE: (mirror.OPEN, mirror.COPY_OUT)}


@dataclass(frozen=True)
class Bounded:
    """Our save or restore of one size, beside its bound.

    Attributes:
        what: save or restore.
        size_mb: The size that was asked for.
        state_bytes: The size that it has.
        seconds: Median, whole.
        crypto_s: Median of sealing or opening in cache.
        copy_s: Median of copying.
        ratio: To the sum of the two, in pairs.
        above_s: What it takes more than that sum, in pairs.
        phases: Median seconds of its phases; what is in none of them is the rest.
    """

    what: str
    size_mb: float
    state_bytes: int
    seconds: float
    crypto_s: float
    copy_s: float
    ratio: Interval
    above_s: float
    phases: dict[str, float]


@dataclass(frozen=True)
class Compared:
    """Another way to save, or ours on the disk, of one size.

    Attributes:
        system: Which.
        place: Where its files are: pm, disk, or memory for none.
        size_mb: The size that was asked for.
        blocked_s: Median until the tensors may change again.
        save_s: Median until it is durable.
        restore_s: Median.
        save_ratio: How often ours on PM fits into its save, the median over rounds.
        restore_ratio: The same for its restore.
    """

    system: str
    place: str
    size_mb: float
    blocked_s: float
    save_s: float
    restore_s: float
    save_ratio: Interval
    restore_ratio: Interval


@dataclass(frozen=True)
class Report:
    """Everything, as `--json` prints it.

    Attributes:
        load: How many programs wanted to run in the last minute, this one among them.
        threads: How many threads our save and its bounds have.
        state: What the state is.
        rounds: By size, how often everything was measured.
        pairs: By size, how many pairs of ours and its bounds that are.
    """

    cpu: str
    cores: int
    load: float
    threads: int
    pm: str
    disk: str
    state: str
    tensors: int
    rounds: dict[str, int]
    pairs: dict[str, int]
    bounded: list[Bounded]
    compared: list[Compared]


def summarize(plan: Plan, measured: Sequence[Measured]) -> Report:
    """Makes the report of what was measured."""
    cores = len(os.sched_getaffinity(0))
    return Report(
        cpu=cpu(),
        cores=cores,
        load=os.getloadavg()[0],
        threads=cores,
        pm=pool.medium_at(plan.pm)[0],
        disk=pool.medium_at(plan.disk)[0],
        state=DESCRIPTION,
        tensors=measured[0].tensors,
        rounds={f"{size.size_mb:g}": size.rounds for size in measured},
        pairs={f"{size.size_mb:g}": size.rounds * size.pairs for size in measured},
        bounded=[_bounded(size, what) for what in _PARTS for size in measured],
        compared=[one for size in measured for one in _compared(size)],
    )


def explain(report: Report) -> str:
    """The report as tables and sentences."""
    page = Page.empty()
    out = page.console
    out.print(f"{report.cpu}, {report.threads} threads; PM: {report.pm}; disk: {report.disk}")
    out.print(f"State: {report.state}; {report.tensors} tensors")
    out.print("Medians; all in turn; ratios in pairs, with 95 % intervals (bootstrap)")
    if (warning := busy(report.load, report.cores)) is not None:
        out.print(warning)
    for what, parts in _PARTS.items():
        out.print(f"\nOur {what}, beside its bound ({parts[0]} + {parts[1]}); milliseconds")
        out.print(_bounded_table([one for one in report.bounded if one.what == what]))
    out.print("\nOther ways, and ours on the disk: milliseconds, and how many of our saves (restores) on PM fit in")
    out.print(_compared_table(report.compared))
    out.print(
        "On the disk, restores begin with a cold cache. A save ends when it is durable; blocked: until it returns."
    )
    return page.text()


def _bounded_table(rows: Sequence[Bounded]) -> Table:
    names = list(dict.fromkeys(name for row in rows for name in row.phases))
    made = table("MB", "ratio (95 %)", "took", "in cache", "copied", "above", *names)
    for row in rows:
        times = (row.seconds, row.crypto_s, row.copy_s, row.above_s, *(row.phases.get(name, 0) for name in names))
        made.add_row(f"{row.size_mb:g}", row.ratio.text(2), *(f"{time * 1e3:.2f}" for time in times))
    return made


def _compared_table(rows: Sequence[Compared]) -> Table:
    made = table("system", "place", "MB", "blocked", "save", "ratio (95 %)", "restore", "ratio (95 %)")
    for row in sorted(rows, key=lambda row: (row.place, row.system, row.size_mb)):
        times = [f"{time * 1e3:.1f}" for time in (row.blocked_s, row.save_s, row.restore_s)]
        ratios = [one.text(1) for one in (row.save_ratio, row.restore_ratio)]
        made.add_row(row.system, row.place, f"{row.size_mb:g}", *times[:2], ratios[0], times[2], ratios[1])
    return made


def _bounded(size: Measured, what: str) -> Bounded:
    crypto, copy = (size.times[BOUND, PM, part] for part in _PARTS[what])
    took = size.times[OURS, PM, what]
    bounds = [sum(pair) for pair in zip(crypto, copy, strict=True)]
    spent = size.save_phases if what == mirror.SAVE else size.restore_phases
    return Bounded(
        what=what,
        size_mb=size.size_mb,
        state_bytes=size.state_bytes,
        seconds=statistics.median(took),
        crypto_s=statistics.median(crypto),
        copy_s=statistics.median(copy),
        ratio=ratio(took, bounds),
        above_s=statistics.median(one - bound for one, bound in zip(took, bounds, strict=True)),
        phases=_phases(took, spent),
    )


def _phases(took: Sequence[float], spent: Sequence[Spent]) -> dict[str, float]:
    names = dict.fromkeys(name for one in spent for name in one)
    found = {name: statistics.median(one.get(name, 0) for one in spent) for name in names}
    return {
        **found,
        "rest": statistics.median(all_s - sum(one.values()) for all_s, one in zip(took, spent, strict=True)),
    }


def _compared(size: Measured) -> list[Compared]:
    ours = {what: _by_round(size, size.times[OURS, PM, what]) for what in _PARTS}
    found = []
    for system, place in dict.fromkeys((system, place) for system, place, _ in size.times):
        if system == BOUND or (system, place) == (OURS, PM):
            continue
        save, restore = (size.times[system, place, what] for what in _PARTS)
        blocked = size.times.get((system, place, mirror.BLOCKED), save)
        found.append(
            Compared(
                system=system,
                place=place,
                size_mb=size.size_mb,
                blocked_s=statistics.median(blocked),
                save_s=statistics.median(save),
                restore_s=statistics.median(restore),
                save_ratio=ratio(save, ours[mirror.SAVE]),
                restore_ratio=ratio(restore, ours[mirror.RESTORE]),
            )
        )
    return found


def _by_round(size: Measured, values: Sequence[float]) -> list[float]:
    """The median of each round; ours is measured several times in each."""
    return [statistics.median(values[at : at + size.pairs]) for at in range(0, len(values), size.pairs)]
