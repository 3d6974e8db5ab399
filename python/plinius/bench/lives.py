"""Trainings that are killed and started as a timetable says, several side by side, all at the same moments.

Each life of a training is the command `plinius train` with its processes; at its end all of them are killed (SIGKILL).
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from subprocess import Popen
from typing import Any, Final, NamedTuple

from plinius.bench.runs import Job, complaint, kill_all, messages
from plinius.errors import PliniusError

# More than any timetable has time for: only kills end these trainings.
_STEPS: Final = 1 << 30
# On a machine that is busy with other work a start may take minutes; experiments have to end all the same.
_LONGEST_START_S: Final = 30


class Span(NamedTuple):
    """A time in which a training may run, in seconds from the beginning; at its end it is killed."""

    begins_s: float
    ends_s: float


class Step(NamedTuple):
    """A step as it was reported, `at_s` seconds after the beginning; see `plinius.wire.Progress`."""

    at_s: float
    step: int
    durable_step: int
    step_s: float
    save_s: float
    loss: float


@dataclass
class Life:
    """From a start to a kill.

    Attributes:
        begun_s: When it was started, in seconds after the beginning.
        steps: What it did.
    """

    begun_s: float
    steps: list[Step] = field(default_factory=list)


@dataclass(frozen=True)
class Way:
    """A way to go on after a kill.

    Attributes:
        name: In words.
        job: What is started.
    """

    name: str
    job: Job


@dataclass(frozen=True)
class Lived:
    """What became of a training.

    Attributes:
        lives: All of them.
        ended_by_kill: The last life was taken away too, and not just over with the timetable.
    """

    lives: Sequence[Life]
    ended_by_kill: bool = False

    @property
    def steps(self) -> list[Step]:
        """All steps, in order."""
        return [step for life in self.lives for step in life.steps]

    @property
    def executed(self) -> int:
        """How many steps were made, those made again among them."""
        return len(self.steps)

    @property
    def useful(self) -> int:
        """The step that the model is at when the time is up: what was made and not lost."""
        if not self.ended_by_kill and self.lives and self.lives[-1].steps:
            return self.lives[-1].steps[-1].step
        return self.durable  # it was still on its way up, or is gone

    @property
    def durable(self) -> int:
        """The step that a kill now would leave."""
        return self.steps[-1].durable_step if self.steps else 0

    @property
    def stillborn(self) -> int:
        """How many lives ended before their first step."""
        return sum(not life.steps for life in self.lives)

    def restart_s(self) -> float | None:
        """Median time from a start to the beginning of the first step; None if no step was ever made."""
        found = [life.steps[0].at_s - life.steps[0].step_s - life.begun_s for life in self.lives if life.steps]
        return statistics.median(found) if found else None

    def training_s(self) -> list[float]:
        """Seconds of each step without its save."""
        return [step.step_s - step.save_s for step in self.steps]

    def save_s(self) -> float | None:
        """Median time of a save; None if there was none."""
        found = [step.save_s for step in self.steps if step.durable_step == step.step]
        return statistics.median(found) if found else None

    def curve(self, points: int = 800) -> dict[str, list[Any]]:
        """When each step ended, which it was and its loss; thinned out evenly to about so many points."""
        steps = self.steps
        some = steps[:: max(1, len(steps) // points)]
        return {
            "at_s": [round(step.at_s, 3) for step in some],
            "step": [step.step for step in some],
            "loss": [step.loss for step in some],
        }


def live(ways: Sequence[Way], timetable: Sequence[Span]) -> list[Lived]:
    """Runs all ways side by side.

    Raises:
        PliniusError: A training ended by itself.
    """
    stage = _Stage(timetable)
    with ThreadPoolExecutor(len(ways)) as threads:
        try:
            return [done.result() for done in [threads.submit(stage.play, way) for way in ways]]
        except BaseException:
            stage.abandon()
            raise


def start_s(ways: Sequence[Way]) -> float:
    """How long a start takes when all ways start at once: seconds until the last of them has made a step.

    At most 30 s are said: what is timed by a start may be cut short on a busy machine, but ends.
    Their pools are removed afterwards.

    Raises:
        PliniusError: A training ended by itself, or does not begin.
    """
    begun_s = time.perf_counter()
    with ThreadPoolExecutor(len(ways)) as threads:
        list(threads.map(_first_step, ways))
    return min(time.perf_counter() - begun_s, _LONGEST_START_S)


def _first_step(way: Way) -> None:
    with way.job.start(_STEPS) as host:
        try:
            if not any(message["type"] == "Progress" for message in messages(host)):
                raise PliniusError(f"{way.name}: {complaint(host.stderr.read() if host.stderr else '')}")
        finally:
            kill_all(host)
    way.job.pool.unlink(missing_ok=True)


class _Stage:
    """Where the ways are played."""

    def __init__(self, timetable: Sequence[Span]) -> None:
        self._timetable = timetable
        self._begun_s = time.perf_counter()
        self._over = threading.Event()

    def play(self, way: Way) -> Lived:
        """All lives of one way."""
        return Lived([self._life(way, span) for span in self._timetable if self._come(span.begins_s)])

    def abandon(self) -> None:
        """Ends all trainings soon."""
        self._over.set()

    def _now_s(self) -> float:
        return time.perf_counter() - self._begun_s

    def _come(self, moment_s: float) -> bool:
        """Waits for a moment; whether all goes on."""
        return not self._over.wait(max(0, moment_s - self._now_s()))

    def _life(self, way: Way, span: Span) -> Life:
        life = Life(self._now_s())
        with way.job.start(_STEPS) as host:
            killer = threading.Thread(target=self._kill_at, args=(host, span.ends_s))
            killer.start()
            self._listen(host, life)
            # It is over, by the killer or by itself; an exit status that no signal gave is its own doing.
            trouble = host.stderr.read() if host.stderr else ""
            code = host.wait()
            if code >= 0 and not self._over.is_set():
                self.abandon()
                raise PliniusError(f"{way.name}: {complaint(trouble)}")
            killer.join()
        return life

    def _kill_at(self, host: Popen[str], moment_s: float) -> None:
        self._come(moment_s)
        kill_all(host)

    def _listen(self, host: Popen[str], life: Life) -> None:
        for message in messages(host):
            if message["type"] == "Progress":
                names = ("step", "durable_step", "step_s", "save_s", "loss")
                life.steps.append(Step(self._now_s(), *(message[name] for name in names)))
