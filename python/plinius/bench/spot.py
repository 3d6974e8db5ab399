"""A training on a spot instance: really killed and started as a trace says, the trace's time compressed by a factor.

Three ways to go on run side by side, killed and started at the same moments: mirrored after each step in (emulated)
PM, a checkpoint every `CHECKPOINT_EVERY` steps, and neither. The checkpoint is a mirror of ours on the disk: the three
differ in nothing but how often and where they save. A start takes its real time, which is `factor` times as much of the
trace: what is lost with each preemption is far more than it would be in the cloud, for all three alike.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from plinius.bench import lives
from plinius.bench.experiment import Result, Row
from plinius.bench.folders import new_folder
from plinius.bench.lives import Lived, Way
from plinius.bench.small_job import SmallJob
from plinius.bench.trace import Trace
from plinius.bench.words import counted
from plinius.errors import PliniusError

CHECKPOINT_EVERY: Final = 100
# The shortest life of a part of a trace has time for so many starts.
_STARTS_IN_A_LIFE: Final = 2
# A mirror that never saves: no timetable has time for so many steps.
_NEVER: Final = 1 << 30
MIRRORED: Final = "mirrored"
CHECKPOINT: Final = "checkpoint"
NOTHING: Final = "nothing"


@dataclass(frozen=True)
class Places:
    """Where things are put.

    Attributes:
        memory: A folder on emulated PM (or on PM).
        disk: A folder on a disk.
        data: A folder with mnist/, or None.
    """

    memory: Path
    disk: Path
    data: Path | None


def measure(trace: Trace, factor: float | None, places: Places, tell: Callable[[str], None]) -> Result:
    """Plays a trace, or a part of one.

    Args:
        trace: When the instance runs.
        factor: So many seconds of the trace are one second here; without it, so many that the shortest life has time
            for more than a start, which is measured first.
        places: Where pools and data are put.
        tell: Shows a line to the user.

    Raises:
        PliniusError: A training failed, or none ever made a step.
    """
    with new_folder(str(places.memory)) as memory, new_folder(str(places.disk)) as disk:
        job = SmallJob.make(memory, places.data)
        ways = {
            MIRRORED: Way("mirrored after each step", job.run(memory / "mirrored")),
            CHECKPOINT: Way(
                f"checkpoint on the disk every {CHECKPOINT_EVERY} steps",
                job.run(disk / "checkpoint", every=CHECKPOINT_EVERY),
            ),
            NOTHING: Way("neither: each start begins anew", job.run(memory / "none", every=_NEVER)),
        }
        if factor is None:
            shortest_s = min(ends_s - begins_s for begins_s, ends_s in trace.lives)
            factor = shortest_s / (_STARTS_IN_A_LIFE * lives.start_s(list(ways.values())))
        timetable = [lives.Span(begins_s / factor, ends_s / factor) for begins_s, ends_s in trace.lives]
        tell(
            f"{trace.seconds / 3600:.1f} hours of {trace.name} in {trace.seconds / factor:.0f} s, "
            f"{len(timetable)} starts; {job.pictures}"
        )
        found = lives.live(list(ways.values()), timetable)
    lived = {
        name: replace(one, ended_by_kill=not trace.spans[-1].running) for name, one in zip(ways, found, strict=True)
    }
    training_s = [seconds for one in lived.values() for seconds in one.training_s()]
    if not training_s:
        raise PliniusError(f"no start had time for a step: compress the trace less (a factor below {factor:.0f})")
    step_s = statistics.fmean(training_s)  # its share of the time is asked for, not what is usual
    return {
        "trace": trace.name,
        "trace_s": trace.seconds,
        "chosen": trace.chosen,
        "running_s": trace.running_s,
        "factor": factor,
        "starts": len(timetable),
        "preemptions": len(timetable) - trace.spans[-1].running,
        "dollars": trace.cost,
        "state": [[span.begins_s, span.ends_s, span.running, span.price] for span in trace.spans],
        "pictures": job.pictures,
        "checkpoint_every": CHECKPOINT_EVERY,
        "step_s": step_s,
        "ways": {name: _found(ways[name], lived[name], trace, factor, step_s) for name in ways},
    }


def _found(way: Way, lived: Lived, trace: Trace, factor: float, step_s: float) -> dict[str, Any]:
    """What became of one way.

    `share` is how much of the time in which training was possible went into steps that were not lost.
    """
    useful = lived.useful
    return {
        "name": way.name,
        "executed": lived.executed,
        "useful": useful,
        "useful_per_trace_s": useful / trace.seconds,
        "stillborn": lived.stillborn,
        "share": useful * step_s * factor / trace.running_s,
        "dollars_per_1000": None if trace.cost is None or not useful else 1000 * trace.cost / useful,
        "restart_s": lived.restart_s(),
        "save_s": lived.save_s(),
        "curve": lived.curve(),
    }


def rows(result: Result) -> list[Row]:
    """What was played, goodput of each way, and its cost."""
    found = [Row("what was played", _played(result))]
    for name, way in result["ways"].items():
        numbers = f"{way['useful']} useful of {way['executed']} steps, {3600 * way['useful_per_trace_s']:.1f} an hour"
        paper = "the curve goes on after each start (Fig. 10)" if name == MIRRORED else ""
        found.append(Row(way["name"], f"{numbers} of the trace, {way['share']:.0%} of the running time", paper))
        if way["dollars_per_1000"] is not None:
            found.append(Row(f"{way['name']}: cost", f"${way['dollars_per_1000']:.2f} for 1000 useful steps"))
    restarts = [way["restart_s"] for way in result["ways"].values() if way["restart_s"] is not None]
    restart_s = statistics.median(restarts)
    found.append(
        Row(
            f"a start, at {result['factor']:.0f} times the speed of the trace",
            f"{restart_s:.1f} s, which is {restart_s * result['factor'] / 60:.0f} minutes of the trace",
        )
    )
    return found


def _preempted(result: Result) -> str:
    return counted(result["preemptions"], "preemption")


def _played(result: Result) -> str:
    part = f"{result['trace_s'] / 3600:.1f} hours of {result['trace']} with {_preempted(result)}"
    if not result["chosen"]:
        return part
    # It has to be said: in another part a start could be longer than a life, and all three ways would stand still.
    return f"{part}: of all parts with as many the one whose shortest life is the largest share of it"


def meaning(result: Result) -> str:
    """What it means."""
    ways = result["ways"]
    mirrored, others = ways[MIRRORED], [ways[CHECKPOINT], ways[NOTHING]]
    stillborn = sum(way["stillborn"] for way in ways.values())
    caution = ""
    if stillborn:
        lives = len(ways) * result["starts"]
        caution = f" {stillborn} of the {lives} lives ended before a first step, which makes the comparison a weak one."
    return (
        f"After {_preempted(result)} of {result['trace']} ({result['trace_s'] / 3600:.1f} hours of it, "
        f"{result['factor']:.0f} times as fast) the mirrored training stands at step {mirrored['useful']}, "
        f"the one with checkpoints every {result['checkpoint_every']} steps at {others[0]['useful']}, "
        f"the one without at {others[1]['useful']}.{caution}"
    )


def explain(result: Result) -> str:
    """As the command prints it."""
    lines: Sequence[str] = [f"{row.what}: {row.ours}" for row in rows(result)]
    return "\n".join([f"trained on {result['pictures']}", *lines, meaning(result)])
