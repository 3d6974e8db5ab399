"""What `plinius bench step` reports: how much longer an iteration takes with each way to save."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from plinius import pool
from plinius.bench.intervals import Interval, median, ratio
from plinius.bench.step import Measured, Plan
from plinius.bench.tables import Page, busy, cpu, table

_MEGABYTE = 10**6


@dataclass(frozen=True)
class Saving:
    """One way to save, every so many steps of one network.

    Attributes:
        way: The way.
        every: After how many steps there was a save.
        pairs: How many pairs of blocks were compared.
        ratio: A step with its share of the saves, to a step without, in pairs of neighbours.
        blocked_s: Median of a save until training could go on.
        added_s: What one save adds to the training, in pairs.
    """

    way: str
    every: int
    pairs: int
    ratio: Interval
    blocked_s: float
    added_s: Interval


@dataclass(frozen=True)
class Trained:
    """One network.

    Attributes:
        name: What it is.
        batch: Records in a batch.
        state_bytes: The bytes of its tensors, those of the optimizer included.
        plain_step_s: Median of a step without saving.
        bound_s: Median of the bound of our save: its bytes sealed in cache, and copied to PM.
        savings: By way and by how often.
    """

    name: str
    batch: int
    state_bytes: int
    plain_step_s: float
    bound_s: float
    savings: list[Saving]


@dataclass(frozen=True)
class Report:
    """Everything, as `--json` prints it.

    Attributes:
        load: How many programs wanted to run in the last minute, this one among them.
    """

    cpu: str
    cores: int
    load: float
    pm: str
    disk: str
    nets: list[Trained]


def summarize(plan: Plan, measured: Sequence[Measured]) -> Report:
    """Makes the report of what was measured."""
    by_net: dict[str, list[Measured]] = {}
    for one in measured:
        by_net.setdefault(one.net, []).append(one)
    return Report(
        cpu=cpu(),
        cores=len(os.sched_getaffinity(0)),
        load=os.getloadavg()[0],
        pm=pool.medium_at(plan.pm)[0],
        disk=pool.medium_at(plan.disk)[0],
        nets=[_trained(found) for found in by_net.values()],
    )


def explain(report: Report) -> str:
    """The report as tables and sentences."""
    page = Page.empty()
    out = page.console
    out.print(f"{report.cpu}, {report.cores} cores; our pool: {report.pm}; the others' files, fsynced: {report.disk}")
    out.print("Medians over pairs of neighbouring blocks, with 95 % intervals (bootstrap)")
    if (warning := busy(report.load, report.cores)) is not None:
        out.print(warning)
    for net in report.nets:
        out.print(f"\n{net.name}; batch {net.batch}; state {net.state_bytes / _MEGABYTE:.1f} MB")
        out.print(
            f"a step without saving {net.plain_step_s * 1e3:.1f} ms; bound of our save {net.bound_s * 1e3:.2f} ms"
        )
        rows = table("way", "every", "pairs", "step/plain (95 %)", "save blocks ms", "save adds ms (95 %)")
        for one in net.savings:
            times = (one.ratio.text(3), f"{one.blocked_s * 1e3:.2f}", one.added_s.scaled(1e3).text(2))
            rows.add_row(one.way, str(one.every), str(one.pairs), *times)
        out.print(rows)
    return page.text()


def _trained(found: Sequence[Measured]) -> Trained:
    plain = [seconds for one in found for all_s in one.plain_s.values() for seconds in all_s]
    ways = dict.fromkeys(way for one in found for way in one.step_s)
    return Trained(
        name=found[0].net,
        batch=found[0].batch,
        state_bytes=found[0].state_bytes,
        plain_step_s=statistics.median(plain),
        bound_s=statistics.median(seconds for one in found for seconds in one.bound_s),
        savings=[_saving(one, way) for way in ways for one in found],
    )


def _saving(found: Measured, way: str) -> Saving:
    step, plain = found.step_s[way], found.plain_s[way]
    return Saving(
        way=way,
        every=found.every,
        pairs=len(step),
        ratio=ratio(step, plain),
        blocked_s=statistics.median(found.blocked_s[way]),
        added_s=median([(one - other) * found.every for one, other in zip(step, plain, strict=True)]),
    )
