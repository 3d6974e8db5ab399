"""What `plinius bench sps` reports: medians, ratios to the peers, and where the time goes."""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from plinius import pool
from plinius.bench.peers import Fences
from plinius.bench.sps import OURS, Plan, Rates
from plinius.bench.tables import Page, busy, cpu, table


@dataclass(frozen=True)
class Rate:
    """Median swaps a second of one system, and those of the single rounds."""

    system: str
    pwb: str
    swaps_per_transaction: int
    swaps_per_s: float
    rounds: list[float]


@dataclass(frozen=True)
class Ratio:
    """Our swaps a second divided by a peer's: the median over the rounds, each a pair of neighbours in time."""

    peer: str
    pwb: str
    swaps_per_transaction: int
    ratio: float


@dataclass(frozen=True)
class Cost:
    """The line that fits the seconds of a transaction of n swaps: ``fixed_us + n * swap_us``.

    Attributes:
        system: Whose.
        pwb: With which write-back.
        fixed_us: What a transaction costs whatever its size.
        swap_us: What each swap costs.
        worst_fit: The largest relative distance of a measurement from the line.
    """

    system: str
    pwb: str
    fixed_us: float
    swap_us: float
    worst_fit: float


@dataclass(frozen=True)
class Report:
    """Everything, as `--json` prints it.

    Attributes:
        load: How many programs wanted to run in the last minute, this one among them.
        smallest: For each peer the least of the ratios.
        fences: What the fences of our smallest transaction cost, by pwb.
    """

    cpu: str
    cores: int
    load: float
    medium: str
    array_bytes: int
    seconds: float
    rounds: int
    rates: list[Rate]
    ratios: list[Ratio]
    smallest: list[Ratio]
    costs: list[Cost]
    fences_swaps_per_transaction: int
    fences: dict[str, Fences]


def summarize(plan: Plan, rates: Rates, fences: dict[str, Fences]) -> Report:
    """Makes the report of what was measured."""
    ratios = [
        Ratio(peer.name, pwb, size, _paired(rates[OURS, pwb, size], rates[peer.name, pwb, size]))
        for peer in plan.peers
        for pwb in plan.pwbs
        for size in plan.sizes
    ]
    systems = [OURS, *(peer.name for peer in plan.peers)]
    return Report(
        cpu=cpu(),
        cores=len(os.sched_getaffinity(0)),
        load=os.getloadavg()[0],
        medium=pool.medium_at(plan.folder)[0],
        array_bytes=plan.array_bytes,
        seconds=plan.seconds,
        rounds=plan.rounds,
        rates=[Rate(*key, statistics.median(found), found) for key, found in rates.items()],
        ratios=ratios,
        smallest=[min((r for r in ratios if r.peer == peer.name), key=lambda r: r.ratio) for peer in plan.peers],
        costs=[_cost(system, pwb, plan, rates) for pwb in plan.pwbs for system in systems],
        fences_swaps_per_transaction=min(plan.sizes),
        fences=fences,
    )


def explain(report: Report) -> str:
    """The report as tables and sentences."""
    page = Page.empty()
    out = page.console
    out.print(f"{report.cpu}; {report.medium}; an array of {report.array_bytes / (1 << 20):g} MiB, one thread;")
    out.print(f"medians of {report.rounds} rounds of {report.seconds:g} s each, all systems in turn")
    if (warning := busy(report.load, report.cores)) is not None:
        out.print(warning)
    out.print(_rates_table(report))
    for least in report.smallest:
        where = f"{least.swaps_per_transaction} swaps a transaction, {least.pwb}"
        out.print(f"smallest ratio to {least.peer}: {least.ratio:.2f} ({where})")
    out.print("\nTime of a transaction of n swaps, as a line: fixed + n x swap")
    out.print(_costs_table(report))
    if report.fences:
        swaps = report.fences_swaps_per_transaction
        out.print(
            f"\nOur transaction of {swaps} swaps: what it is faster without a fence (ns), and without all of them"
        )
        out.print(_fences_table(report))
        out.print("line: one word stored, written back and fenced, by itself. noise: two equal transactions compared.")
    return page.text()


def _rates_table(report: Report) -> Table:
    peers = [least.peer for least in report.smallest]
    rows = table("pwb", "swaps/transaction", f"{OURS} swaps/s")
    for peer in peers:
        rows.add_column(f"{peer} swaps/s", justify="right")
        rows.add_column("ratio", justify="right")
    rates = {(rate.system, rate.pwb, rate.swaps_per_transaction): rate.swaps_per_s for rate in report.rates}
    ratios = {(ratio.peer, ratio.pwb, ratio.swaps_per_transaction): ratio.ratio for ratio in report.ratios}
    sizes = sorted({rate.swaps_per_transaction for rate in report.rates})
    for pwb in dict.fromkeys(cost.pwb for cost in report.costs):
        for size in sizes:
            cells = [pwb, str(size), f"{rates[OURS, pwb, size]:,.0f}"]
            for peer in peers:
                cells += [f"{rates[peer, pwb, size]:,.0f}", f"{ratios[peer, pwb, size]:.2f}"]
            rows.add_row(*cells)
        rows.add_section()
    return rows


def _costs_table(report: Report) -> Table:
    rows = table("pwb", "system", "fixed us", "swap us", "worst fit")
    for cost in report.costs:
        numbers = (f"{cost.fixed_us:.2f}", f"{cost.swap_us:.3f}", f"{cost.worst_fit:.0%}")
        rows.add_row(cost.pwb, cost.system, *numbers)
    return rows


def _fences_table(report: Report) -> Table:
    numbered = [f"fence {number}" for number in range(1, 5)]
    rows = table("pwb", "took", *numbered, "all", "share", "noise", "line", "pwbs", "copied")
    for pwb, cost in report.fences.items():
        times = (cost.transaction_ns, *cost.fence_ns, cost.all_fences_ns)
        share = f"{cost.all_fences_ns / cost.transaction_ns:.0%}"
        rest = (f"{cost.noise_ns:.0f}", f"{cost.one_line_ns:.0f}")
        lines = (f"{cost.written_back_lines:.1f}", f"{cost.copied_lines:.1f}")
        rows.add_row(pwb, *(f"{time:.0f}" for time in times), share, *rest, *lines)
    return rows


def _paired(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def _cost(system: str, pwb: str, plan: Plan, rates: Rates) -> Cost:
    sizes = np.array(plan.sizes, float)
    took_s = sizes / np.array([statistics.median(rates[system, pwb, size]) for size in plan.sizes])
    # Weighted, so that relative errors count: the times differ a thousandfold.
    swap_s, fixed_s = np.polyfit(sizes, took_s, 1, w=1 / took_s)
    worst = float(np.max(np.abs(fixed_s + sizes * swap_s - took_s) / took_s))
    return Cost(system, pwb, float(fixed_s) * 1e6, float(swap_s) * 1e6, worst)
