"""Training runs through the command line, killed at random moments or left alone."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import Progress, TaskID

PLINIUS = Path(sys.executable).with_name("plinius")


@dataclass(frozen=True)
class Job:
    """The files of a training job."""

    cfg: Path
    data: Path
    key: Path
    pool: Path


@dataclass
class Record:
    """What a run showed.

    Attributes:
        losses: Loss by step.
        kills: For each kill: whom, and the newest durable step that was reported before.
        resumed: The step after which each later start went on.
    """

    losses: dict[int, float] = field(default_factory=dict)
    kills: list[tuple[str, int]] = field(default_factory=list)
    resumed: list[int] = field(default_factory=list)


def plinius(*options: str | Path) -> str:
    """Runs a command to its end and returns what it printed; a failure ends this program."""
    done = subprocess.run([PLINIUS, *map(str, options)], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def train(job: Job, steps: int, kill_at: Sequence[tuple[int, str]] = ()) -> Record:
    """Trains to the end, under a progress bar. At each step of `kill_at` enclave, host or both are killed (SIGKILL).

    A kill strikes at a random moment after the step was reported; then the same command is given again.
    """
    record = Record()
    waiting = list(kill_at)
    with Progress(transient=True) as bar:
        task = bar.add_task("training", total=steps)
        while _one_life(job, steps, record, waiting.pop(0) if waiting else None, bar, task):
            pass
    return record


def _one_life(job: Job, steps: int, record: Record, kill: tuple[int, str] | None, bar: Progress, task: TaskID) -> bool:
    """Runs the command once; whether it was killed."""
    command = [PLINIUS, "train", job.cfg, "--data", job.data, "--key", job.key, "--pool", job.pool]
    options = ["--steps", str(steps), "--reveal", "loss", "--restarts", "0", "--json"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as host:
        durable = 0
        for message in _messages(host):
            if message["type"] == "Started" and message["resumed"]:
                record.resumed.append(message["step"])
            if message["type"] != "Progress":
                continue
            record.losses[message["step"]] = message["loss"]
            bar.update(task, completed=message["step"])
            durable = message["durable_step"]
            if kill and message["step"] >= kill[0]:
                _strike(host, kill[1], message["step_s"])
                record.kills.append((kill[1], durable))
                kill = None
                # What was still on its way is read to the end: it was reported, so it must not be lost.
                for late in _messages(host):
                    if late["type"] == "Progress":
                        record.losses[late["step"]] = late["loss"]
                        record.kills[-1] = (record.kills[-1][0], late["durable_step"])
                return True
        trouble = host.stderr.read() if host.stderr else ""
        if host.wait():
            sys.exit(trouble)
    return False


def _messages(host: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert host.stdout
    for line in host.stdout:
        if line.endswith("}\n"):
            yield json.loads(line)


def _strike(host: subprocess.Popen[str], whom: str, step_s: float) -> None:
    """Waits for a random part of a step, so that the kill falls anywhere, and kills."""
    enclave = _enclave_of(host.pid)
    time.sleep(random.uniform(0, step_s))  # noqa: S311 (a moment, not a secret)
    if whom in ("enclave", "both"):
        os.kill(enclave, signal.SIGKILL)
    if whom in ("host", "both"):
        host.kill()


def _enclave_of(host: int) -> int:
    children = Path(f"/proc/{host}/task/{host}/children").read_text().split()
    for child in map(int, children):
        if b"plinius.enclave.main" in Path(f"/proc/{child}/cmdline").read_bytes():
            return child
    raise RuntimeError("the host has no enclave")
