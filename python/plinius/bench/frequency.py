"""How often to mirror: goodput as a function of `every` and of the failure rate, beside Young's and Daly's optimum.

A training is killed (SIGKILL) at moments whose distances are exponentially distributed, and started again at once. For
each failure rate, trainings with different `every` are killed at the same moments. Beside what is measured stands what
theory makes of the measured cost of a save and of a start:

- J. W. Young, "A first order approximation to the optimum checkpoint interval", Communications of the ACM 17 (9),
  1974: sqrt(2 C M).
- J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart dumps", Future Generation
  Computer Systems 22 (3), 2006: his equation 37 for the interval, and equation 20 for the time that all takes.

C is the time of a save, R of a start, M the mean time between failures.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from plinius.bench import lives
from plinius.bench.experiment import Plan, Result, Row
from plinius.bench.folders import new_folder
from plinius.bench.lives import Lived, Span, Way
from plinius.bench.small_job import SmallJob
from plinius.bench.words import counted, each
from plinius.errors import PliniusError

_SEED: Final = 1974


@dataclass(frozen=True)
class Failures:
    """A failure rate.

    Attributes:
        mean_starts: The mean time between failures, in starts: how long a start takes is measured first.
        kills: How often each training is killed before its end.
    """

    mean_starts: float
    kills: int


@dataclass(frozen=True)
class Size:
    """What is measured.

    Attributes:
        every: Mirrored every so many steps.
        rates: The failure rates.
    """

    every: Sequence[int]
    rates: Sequence[Failures]


FULL: Final = Size((1, 10, 100, 1000), (Failures(2.5, kills=7), Failures(6, kills=3)))
QUICK: Final = Size((1, 1000), (Failures(1.5, kills=2),))


@dataclass(frozen=True)
class Costs:
    """What was measured of one failure rate, all in seconds.

    Attributes:
        step_s: Of a step without its save.
        save_s: Of a save.
        restart_s: From a start to its first step.
        between_failures_s: The mean life; each ends with a kill, the last one too.
    """

    step_s: float
    save_s: float
    restart_s: float
    between_failures_s: float


def young_s(save_s: float, between_failures_s: float) -> float:
    """Young's optimum: the time of training between two saves."""
    return math.sqrt(2 * save_s * between_failures_s)


def daly_s(save_s: float, between_failures_s: float) -> float:
    """Daly's optimum: the time of training between two saves."""
    if save_s >= 2 * between_failures_s:
        return between_failures_s
    part = save_s / (2 * between_failures_s)
    return young_s(save_s, between_failures_s) * (1 + math.sqrt(part) / 3 + part / 9) - save_s


def expected_share(every: int, costs: Costs) -> float:
    """The share of all time that goes into steps that are not lost, as Daly expects it."""
    interval_s, mean_s = every * costs.step_s, costs.between_failures_s
    takes_s = mean_s * math.exp(costs.restart_s / mean_s) * math.expm1((interval_s + costs.save_s) / mean_s)
    return interval_s / takes_s


@dataclass(frozen=True)
class Frequency:
    """The experiment."""

    name: str = "frequency"
    title: str = "Mirroring frequency: how often to save, by failure rate, beside Young's and Daly's optimum"
    full: Size = FULL
    quick: Size = QUICK

    def measure(self, plan: Plan) -> Result:
        """Measures each failure rate with each `every`."""
        size = self.quick if plan.quick else self.full
        with new_folder(str(plan.memory)) as folder:
            job = SmallJob.make(folder, plan.data)
            # As many at once as there are cores: what a save costs is measured too.
            probes = [Way("a start", job.run(folder / f"probe-{number}")) for number in range(_at_once(size))]
            start_s = lives.start_s(probes)
            rates = []
            for failures in size.rates:
                words = f"{failures.kills} kills, {failures.mean_starts * start_s:.0f} s apart in the mean"
                plan.tell(f"{self.name}: {words}; mirrored every {', '.join(map(str, size.every))} steps")
                rates.append(_rate(job, folder, failures, start_s, size))
        return {"pictures": job.pictures, "seed": _SEED, "rates": rates}

    def draw(self, result: Result, path: Path) -> None:
        """Draws measured and expected goodput by `every`, a colour for each failure rate."""
        from matplotlib.figure import Figure  # noqa: PLC0415

        figure = Figure(figsize=(7.5, 5), layout="constrained")
        axes = figure.subplots()
        for number, rate in enumerate(result["rates"]):
            _draw_rate(axes, rate, f"C{number}")
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("mirrored every so many steps")
        axes.set_ylabel("share of the time in useful steps")
        axes.set_title(f"killed at random moments; {result['pictures']}", fontsize="medium")
        axes.grid(which="both", alpha=0.3)
        axes.legend(fontsize="small")
        figure.savefig(path, dpi=150)

    def rows(self, result: Result) -> list[Row]:
        """Goodput for each `every`, and both optima."""
        found = []
        for rate in result["rates"]:
            failing = f"{counted(rate['kills'], 'kill')}, {rate['between_failures_s']:.0f} s apart in the mean"
            found += [
                Row(
                    f"{failing}: {each(point['every'])}",
                    f"{point['useful']} useful of {point['executed']} steps, {point['share']:.0%} of the time "
                    f"(expected: {point['expected']:.0%})",
                )
                for point in rate["points"]
            ]
            costs = f"a save {1000 * rate['save_s']:.2f} ms, a start {rate['restart_s']:.1f} s"
            optima = f"every {rate['young_every']:.0f} steps (Young), {rate['daly_every']:.0f} (Daly)"
            found.append(Row(f"{failing}: optimum by theory", f"{optima}: {costs}"))
        return found

    def meaning(self, result: Result) -> str:
        """What it means."""
        rate = result["rates"][0]
        first, *others = rate["points"]
        brought = "".join(f", {each(point['every'])} {point['useful']:,}" for point in others)
        return (
            f"With a kill every {rate['between_failures_s']:.0f} s, a mirror that is saved {each(first['every'])} "
            f"brought {first['useful']:,} useful steps{brought}; a save of {1000 * rate['save_s']:.2f} ms puts "
            f"Young's optimum at every {rate['young_every']:.0f} steps and Daly's at {rate['daly_every']:.0f}."
        )


def _at_once(size: Size) -> int:
    """How many trainings run side by side: as many in each group, or one would have more of the machine."""
    cores = min(len(os.sched_getaffinity(0)), len(size.every))
    return max(count for count in range(1, cores + 1) if len(size.every) % count == 0)


def _rate(job: SmallJob, folder: Path, failures: Failures, start_s: float, size: Size) -> dict[str, Any]:
    mean_s = failures.mean_starts * start_s
    timetable = _timetable(mean_s, failures.kills)
    lived: dict[int, Lived] = {}
    at_once = _at_once(size)
    for first in range(0, len(size.every), at_once):
        some = size.every[first : first + at_once]
        ways = [Way(f"every {every} steps", job.run(folder / f"{mean_s:g}-{every}", every=every)) for every in some]
        lived |= zip(some, lives.live(ways, timetable), strict=True)
    seconds = timetable[-1].ends_s
    training_s = [step_s for one in lived.values() for step_s in one.training_s()]
    saves_s = [save_s for one in lived.values() if (save_s := one.save_s()) is not None]
    restarts_s = [restart_s for one in lived.values() if (restart_s := one.restart_s()) is not None]
    if not saves_s:
        raise PliniusError(f"no training had time for a step and its save, killed every {mean_s:.0f} s")
    costs = Costs(
        statistics.fmean(training_s),  # a share of the time is asked for, not what is usual
        statistics.median(saves_s),
        statistics.median(restarts_s),
        seconds / len(timetable),
    )
    measured = {**asdict(costs), "kills": failures.kills, "seconds": seconds}
    return {**measured, **_optima(costs), "points": _points(lived, costs, seconds)}


def _timetable(mean_s: float, kills: int) -> list[Span]:
    """Lives that are exponentially distributed, the same each time; at the end stands one more kill."""
    lengths_s = np.random.default_rng(_SEED).exponential(mean_s, kills + 1)
    ends_s = np.cumsum(lengths_s).tolist()
    return [Span(begins_s, ends_s) for begins_s, ends_s in pairwise([0.0, *ends_s])]


def _optima(costs: Costs) -> dict[str, float]:
    """Both optima, in steps; less than one is one."""
    save_s, mean_s = costs.save_s, costs.between_failures_s
    return {
        "young_every": max(1, young_s(save_s, mean_s) / costs.step_s),
        "daly_every": max(1, daly_s(save_s, mean_s) / costs.step_s),
    }


def _points(lived: dict[int, Lived], costs: Costs, seconds: float) -> list[dict[str, Any]]:
    return [
        {
            "every": every,
            "useful": one.durable,
            "executed": one.executed,
            "goodput_per_s": one.durable / seconds,
            "share": one.durable * costs.step_s / seconds,
            "expected": expected_share(every, costs),
        }
        for every, one in lived.items()
    ]


def _draw_rate(axes: Any, rate: dict[str, Any], color: str) -> None:
    points = rate["points"]
    label = f"a kill every {rate['between_failures_s']:.0f} s"
    axes.plot(
        [it["every"] for it in points], [it["share"] for it in points], "o", color=color, label=f"{label}, measured"
    )
    costs = Costs(*(rate[name] for name in ("step_s", "save_s", "restart_s", "between_failures_s")))
    line = np.unique(np.geomspace(points[0]["every"], points[-1]["every"], 100).astype(int))
    axes.plot(line, [expected_share(int(every), costs) for every in line], color=color, label=f"{label}, Daly's model")
    axes.axvline(rate["young_every"], color=color, linestyle=":", label="Young's optimum")
    axes.axvline(rate["daly_every"], color=color, linestyle="--", label="Daly's optimum")


EXPERIMENT = Frequency()
