"""Figure 6: swaps per second, in the report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import msgspec

from plinius.bench import paper, plot, sps
from plinius.bench.experiment import Plan, Result, Row
from plinius.bench.peers import Peer, built_peers
from plinius.bench.report import Report, summarize

_QUICK_SIZES: Final = (2, 16, 128, 2048)
_SIZES: Final = sps.Plan(folder="", pwbs=()).sizes


@dataclass(frozen=True)
class SwapsPerSecond:
    """The experiment.

    Attributes:
        peers: Systems to measure beside, and libpmemobj's program where it was built.
        sizes: Swaps in a transaction; None: as the plan says.
        seconds: Of each single measurement; None: as the plan says.
        rounds: How often everything is measured; None: as the plan says.
    """

    peers: tuple[Peer, ...] = ()
    sizes: tuple[int, ...] | None = None
    seconds: float | None = None
    rounds: int | None = None
    name: str = "fig6"
    title: str = "Fig. 6: swaps per second in a persistent array"

    def measure(self, plan: Plan) -> Result:
        """Measures as `plinius bench sps` does."""
        seconds, rounds, sizes = (0.05, 3, _QUICK_SIZES) if plan.quick else (0.2, 5, _SIZES)
        named = {peer.name for peer in self.peers}
        peers = (*(peer for peer in built_peers() if peer.name not in named), *self.peers)
        if not peers:
            plan.tell("fig6: without a peer (make target/pmemobj_sps builds libpmemobj's; or --peer NAME=COMMAND)")
        work = sps.Plan(
            folder=str(plan.memory),
            pwbs=sps.pwbs(),
            peers=peers,
            seconds=self.seconds or seconds,
            rounds=self.rounds or rounds,
            sizes=self.sizes or sizes,
        )
        found: Result = msgspec.to_builtins(asdict(summarize(work, *sps.measure(work))))
        return found

    def draw(self, result: Result, path: Path) -> None:
        """Draws the rates."""
        plot.plot(_report(result), str(path))

    def rows(self, result: Result) -> list[Row]:
        """The rates of the smallest and the largest transactions, and the smallest and largest ratio to each peer."""
        report = _report(result)
        smallest, largest = (paper.number(f"fig6.{which}_transaction") for which in ("smallest", "largest"))
        sizes = sorted({rate.swaps_per_transaction for rate in report.rates})
        rows = [Row("transactions measured", f"{sizes[0]} to {sizes[-1]} swaps", f"{smallest.value} to {largest}")]
        for least in report.smallest:
            where = f"{least.swaps_per_transaction} swaps a transaction, {least.pwb}"
            rows.append(Row(f"smallest ratio to {least.peer}", f"{least.ratio:.2f} ({where})"))
            rows.append(Row(f"largest ratio to {least.peer}", f"{_largest(report, least.peer):.1f}"))
        for size in (sizes[0], sizes[-1]):
            for rate in report.rates:
                if rate.swaps_per_transaction == size:
                    what = f"{rate.system}, {rate.pwb}, {size} swaps a transaction"
                    rows.append(Row(what, f"{rate.swaps_per_s:,.0f} swaps/s"))
        return rows

    def meaning(self, result: Result) -> str:
        """How ours compares to the peers."""
        report = _report(result)
        if not report.smallest:
            return "No other system was measured beside ours: the rates say only what this machine does."
        worst = min(report.smallest, key=lambda ratio: ratio.ratio)
        if worst.ratio > 1:
            return f"Ours is above {worst.peer} at every size and write-back, by {worst.ratio:.2f} times at least."
        where = f"{worst.swaps_per_transaction} swaps a transaction with {worst.pwb}"
        return f"Ours is not above {worst.peer} everywhere: at {where} it reaches {worst.ratio:.2f} of its rate."


def _largest(report: Report, peer: str) -> float:
    return max(ratio.ratio for ratio in report.ratios if ratio.peer == peer)


def _report(result: Result) -> Report:
    return msgspec.convert(result, Report)


EXPERIMENT: Final = SwapsPerSecond()
