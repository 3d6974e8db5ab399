"""Training runs as the programs of this folder show them: under a progress bar; a failure ends the program."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from plinius.bench import runs
from plinius.bench.runs import PLINIUS, Job, Record
from plinius.errors import PliniusError
from rich.progress import Progress

__all__ = ["PLINIUS", "Job", "Record", "plinius", "train"]


def plinius(*options: str | Path) -> str:
    """Runs a command to its end and returns what it printed."""
    try:
        return runs.plinius(*options)
    except PliniusError as error:
        sys.exit(f"plinius: {error}")


def train(job: Job, steps: int, kill_at: Sequence[tuple[int, str]] = ()) -> Record:
    """Trains to the end, and kills on the way; see `plinius.bench.runs.train`."""
    try:
        with Progress(transient=True) as bar:
            task = bar.add_task("training", total=steps)
            return runs.train(job, steps, kill_at, progress=lambda step: bar.update(task, completed=step))
    except PliniusError as error:
        sys.exit(f"plinius: {error}")
