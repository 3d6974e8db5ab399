"""`plinius move`, `drain` and `fetch`, between two halves of a training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from inside import Command
from jobs import Job
from plinius.inspection import describe

Refusal = Callable[..., str]


@pytest.fixture
def straight(inside: Command, trained: Job, folder: Path) -> bytes:
    """The weights of a job of six steps that was never moved."""
    whole = trained.but(pool=folder / "whole.pool")
    assert inside(*whole.train("--steps", 6)).code == 0
    return exported(inside, whole, folder / "whole.weights")


def exported(inside: Command, job: Job, output: Path) -> bytes:
    assert inside(*job.export(output)).code == 0
    return output.read_bytes()


def test_a_moved_job_goes_on_to_the_same_bits(inside: Command, trained: Job, straight: bytes, folder: Path) -> None:
    moved = trained.but(pool=folder / "moved.pool")
    done = inside("move", trained.pool, moved.pool)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"step 4 of mirror training is durable in {moved.pool}; {trained.pool} still has it too\n"
    trained.pool.unlink()
    (started,) = inside(*moved.train("--steps", 6, "--json")).of("Started")
    assert (started["step"], started["resumed"]) == (4, True)
    assert exported(inside, moved, folder / "moved.weights") == straight


def test_a_drained_job_comes_back_after_its_pool_is_lost(
    inside: Command, trained: Job, straight: bytes, folder: Path, tmp_path: Path
) -> None:
    far = tmp_path / "far"
    done = inside("drain", trained.pool, far)
    (file,) = far.iterdir()
    assert (done.code, done.err) == (0, "")
    assert done.out == f"step 4 of mirror training is at {far}: {file.name}\n"
    trained.pool.unlink()
    done = inside("fetch", far, trained.pool)
    assert (done.code, done.out) == (0, f"step 4 of mirror training is durable in {trained.pool}\n")
    inside(*trained.train("--steps", 6))
    assert exported(inside, trained, folder / "back.weights") == straight


def test_the_facts_for_machines(inside: Command, trained: Job, folder: Path, tmp_path: Path) -> None:
    far, other, third = tmp_path / "far", folder / "other.pool", folder / "third.pool"
    size = next(mirror["bytes"] for mirror in describe(str(trained.pool))["mirrors"])
    facts = json.loads(inside("move", trained.pool, other, "--json").out)
    assert facts == {"name": "training", "step": 4, "version": 4, "bytes": size}
    facts = json.loads(inside("drain", other, far, "--json").out)
    assert facts == {"name": "training", "step": 4, "version": 4, "file": next(far.iterdir()).name}
    facts = json.loads(inside("fetch", far, third, "--json").out)
    assert facts == {"name": "training", "step": 4, "version": 4, "pool": str(third)}


def test_what_is_refused(trained: Job, refusal: Refusal, folder: Path, tmp_path: Path) -> None:
    far, new = tmp_path / "far", folder / "new.pool"
    assert f"{new}: " in refusal(3, "move", new, trained.pool)
    assert f"{new}: " in refusal(3, "drain", new, far)
    assert f"{far}: there is no drained generation of a mirror 'training'" in refusal(4, "fetch", far, new)
    assert not new.exists(), "a pool that was made for nothing"
    assert "there is no mirror 'other'" in refusal(4, "drain", trained.pool, far, "--name", "other")
    assert "there is no mirror 'other'" in refusal(4, "move", trained.pool, new, "--name", "other")
    line = refusal(3, "move", trained.pool, trained.pool)
    assert line == f"{trained.pool}: source and target are the same pool"
    assert "fsspec cannot use this URL" in refusal(3, "drain", trained.pool, "nosuch://x")


def test_what_is_there_is_not_overwritten(
    inside: Command, trained: Job, refusal: Refusal, folder: Path, tmp_path: Path
) -> None:
    inside("drain", trained.pool, tmp_path)
    inside("move", trained.pool, folder / "other.pool")
    already = f"{trained.pool}: there is a mirror 'training' already"
    assert already in refusal(4, "fetch", tmp_path, trained.pool)
    assert already in refusal(4, "move", folder / "other.pool", trained.pool)


def test_a_damaged_file_has_the_exit_code_of_what_does_not_open(
    inside: Command, trained: Job, refusal: Refusal, folder: Path, tmp_path: Path
) -> None:
    inside("drain", trained.pool, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    assert "is damaged or was changed" in refusal(9, "fetch", tmp_path, folder / "new.pool")
