"""A job that has some steps behind it, for tests that start from there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from inside import Command
from jobs import Job, line_of, must


@pytest.fixture(scope="session")
def pool_of_four_steps(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pool of a job that was stopped after step 4; tests work on copies."""
    made = tmp_path_factory.mktemp("trained")
    job = Job(files / "net.cfg", files / "data.sealed", files / "job.key", made / "job.pool")
    must(*job.train("--steps", 4, "--json"))
    return job.pool


@pytest.fixture
def trained(job: Job, pool_of_four_steps: Path) -> Job:
    """A job with four steps behind it."""
    shutil.copyfile(pool_of_four_steps, job.pool)
    return job


@pytest.fixture
def refusal(inside: Command) -> Callable[..., str]:
    """Runs a command in this process that must fail with an exit code and one line, which it returns."""
    return lambda code, *arguments: line_of(code, inside(*arguments))
