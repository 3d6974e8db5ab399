"""Training runs through the command line, killed at random moments or left alone."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from plinius.errors import PliniusError

# -P: no folder in which somebody stands can put another package in the place of ours.
PLINIUS: Final = (sys.executable, "-P", "-m", "plinius.cli")


@dataclass(frozen=True)
class Job:
    """The files of a training job, and further options of its command."""

    cfg: Path
    data: Path
    key: Path
    pool: Path
    options: tuple[str, ...] = ()

    def start(self, steps: int) -> subprocess.Popen[str]:
        """Starts the training; each message is a line of JSON on its standard output."""
        files = ["--data", self.data, "--key", self.key, "--pool", self.pool]
        options = ["--steps", str(steps), "--reveal", "loss", "--restarts", "0", "--json", *self.options]
        command = [*PLINIUS, "train", *map(str, (self.cfg, *files)), *options]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603 (ours)


@dataclass
class Record:
    """What a run showed.

    Attributes:
        losses: Loss by step.
        reported: Step and loss in the order in which they were reported: a step that was made again is there again.
        kills: For each kill: whom, and the newest durable step that was reported before.
        made_before_kills: For each kill: how many steps had been reported, over all lives.
        resumed: The step after which each start that followed a kill went on; 0: it began anew.
    """

    losses: dict[int, float] = field(default_factory=dict)
    reported: list[tuple[int, float]] = field(default_factory=list)
    kills: list[tuple[str, int]] = field(default_factory=list)
    made_before_kills: list[int] = field(default_factory=list)
    resumed: list[int] = field(default_factory=list)

    def note(self, step: int, loss: float) -> None:
        """Takes down a step."""
        self.losses[step] = loss
        self.reported.append((step, loss))


def plinius(*options: str | Path) -> str:
    """Runs a command to its end and returns what it printed.

    Raises:
        PliniusError: It failed; this is what it said.
    """
    command = [*PLINIUS, *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (ours)
    if done.returncode:
        raise PliniusError(complaint(done.stderr))
    return done.stdout


def complaint(text: str) -> str:
    """What a command complained of, without its name."""
    return (text.strip() or "a command failed without a word").splitlines()[-1].removeprefix("plinius: ")


def train(
    job: Job,
    steps: int,
    kill_at: Sequence[tuple[int, str]] = (),
    progress: Callable[[int], None] = lambda _: None,
) -> Record:
    """Trains to the end. At each step of `kill_at` enclave, host or both are killed (SIGKILL).

    A kill strikes at a random moment after the step was reported; then the same command is given again.

    Args:
        job: What is trained.
        steps: Where it ends.
        kill_at: Steps, as the training counts them, and who is killed.
        progress: Called with each step.

    Raises:
        PliniusError: A training failed by itself.
    """
    record = Record()
    waiting = list(kill_at)
    while _one_life(job, steps, record, waiting.pop(0) if waiting else None, progress):
        pass
    return record


def _one_life(
    job: Job, steps: int, record: Record, kill: tuple[int, str] | None, progress: Callable[[int], None]
) -> bool:
    """Runs the command once; whether it was killed."""
    with job.start(steps) as host:
        try:
            for message in messages(host):
                if message["type"] == "Started" and record.kills:
                    record.resumed.append(message["step"])
                if message["type"] != "Progress":
                    continue
                record.note(message["step"], message["loss"])
                progress(message["step"])
                if kill and message["step"] >= kill[0]:
                    _strike(host, kill[1], message["step_s"])
                    record.kills.append((kill[1], _last_words(host, record, message["durable_step"])))
                    record.made_before_kills.append(len(record.reported))
                    return True
        except BaseException:
            kill_all(host)
            raise
        trouble = host.stderr.read() if host.stderr else ""
        if host.wait():
            raise PliniusError(complaint(trouble))
    return False


def _last_words(host: subprocess.Popen[str], record: Record, durable: int) -> int:
    """Reads what was still on its way: it was reported, so it must not be lost. The newest durable step."""
    for late in messages(host):
        if late["type"] == "Progress":
            record.note(late["step"], late["loss"])
            durable = late["durable_step"]
    return durable


def messages(host: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    """What a training reports, until it is gone; a line that a kill cut is left out."""
    assert host.stdout  # noqa: S101 (for mypy)
    for line in host.stdout:
        if line.endswith("}\n"):
            yield json.loads(line)


def _strike(host: subprocess.Popen[str], whom: str, step_s: float) -> None:
    """Waits for a random part of a step, so that the kill falls anywhere, and kills."""
    enclave = enclave_of(host.pid)
    time.sleep(random.uniform(0, step_s))  # noqa: S311 (a moment, not a secret)
    if whom in ("enclave", "both"):
        os.kill(enclave, signal.SIGKILL)
    if whom in ("host", "both"):
        host.kill()


def kill_all(host: subprocess.Popen[str]) -> None:
    """Kills host, enclave and owner, in whatever state they are: what happens to a machine that is taken away."""
    if host.poll() is not None:
        return  # its number may be another's by now
    children = _children_of(host.pid)
    host.kill()
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def _children_of(host: int) -> list[int]:
    try:
        return list(map(int, Path(f"/proc/{host}/task/{host}/children").read_text().split()))
    except OSError:  # it ended by itself
        return []


def enclave_of(host: int) -> int:
    """The process of a host's enclave.

    Raises:
        PliniusError: It has none.
    """
    for child in _children_of(host):
        if b"plinius.enclave.main" in Path(f"/proc/{child}/cmdline").read_bytes():
            return child
    raise PliniusError("the host has no enclave")
