"""`plinius train` on a pool that holds a job: goes on with it, or refuses and names the difference."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from inside import Command
from jobs import CFG, Job, idx_bytes, pictures
from plinius.pool import status

Refusal = Callable[..., str]


def exported(inside: Command, job: Job, output: Path) -> bytes:
    assert inside(*job.export(output)).code == 0
    return output.read_bytes()


def test_a_resumed_training_ends_with_the_bytes_of_one_that_was_not_interrupted(
    inside: Command, trained: Job, folder: Path
) -> None:
    done = inside(*trained.train("--json"))
    (started,) = done.of("Started")
    assert (started["step"], started["resumed"]) == (4, True)
    assert any(notice["text"].startswith("rollback is not detected") for notice in done.of("Notice"))
    whole = trained.but(pool=folder / "whole.pool")
    assert [m["step"] for m in inside(*whole.train("--steps", 4, "--json")).of("Progress")] == [1, 2, 3, 4]
    at_once = trained.but(pool=folder / "at-once.pool")
    assert inside(*at_once.train("--steps", 6, "--json")).of("Started")[0]["resumed"] is False
    inside(*trained.train("--steps", 6))
    assert exported(inside, trained, folder / "a.weights") == exported(inside, at_once, folder / "b.weights")


def test_options_left_out_are_the_jobs_own(inside: Command, job: Job) -> None:
    inside(*job.train("--steps", 5, "--every", 2, "--seed", 7))
    assert inside(*job.train("--steps", 9)).err == ""
    (started,) = inside(*job.train("--json")).of("Started")
    assert (started["step"], started["steps"], started["every"]) == (9, 9, 2)


def test_more_steps_go_on_to_the_new_total_and_it_stays_the_jobs(inside: Command, trained: Job) -> None:
    done = inside(*trained.train("--steps", 6, "--json"))
    assert [message["step"] for message in done.of("Progress")] == [5, 6]
    assert done.messages[-1] == {"type": "Trained", "step": 6, "steps": 6}


def test_fewer_steps_than_are_done_are_said_to_be_done(inside: Command, trained: Job) -> None:
    before = trained.pool.read_bytes()
    done = inside(*trained.train("--steps", 2))
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1] == (
        f"nothing to do: 2 steps were asked for, step 4 is durable in {trained.pool} already"
    )
    assert trained.pool.read_bytes() == before
    assert inside(*trained.train("--steps", 2, "--json")).messages[-1] == {"type": "Trained", "step": 4, "steps": 2}


def test_another_cfg_is_refused(inside: Command, trained: Job, folder: Path, refusal: Refusal) -> None:
    other = folder / "other.cfg"
    other.write_text(trained.cfg.read_text().replace("learning_rate=0.05", "learning_rate=0.06"))
    assert refusal(3, *trained.but(cfg=other).train()) == (
        f"{other} is not the cfg of the job in {trained.pool}; name another --pool to start a new job"
    )


def test_another_seed_is_refused(trained: Job, refusal: Refusal) -> None:
    assert refusal(3, *trained.train("--seed", 2)) == (
        f"--seed 2: the job in {trained.pool} has seed 1; name another --pool to start a new job"
    )


def test_other_data_are_refused(inside: Command, trained: Job, folder: Path, refusal: Refusal) -> None:
    other = folder / "other.sealed"
    images, labels = pictures(64, seed=2)
    (folder / "i").write_bytes(idx_bytes(images))
    (folder / "l").write_bytes(idx_bytes(labels))
    sealing = ["--images", folder / "i", "--labels", folder / "l", "--output", other]
    identity = json.loads(inside("seal", "--key", trained.key, *sealing, "--json").out)["id"]
    jobs_own = status(trained.pool).entries
    (data,) = [entry.name.removeprefix("data/") for entry in jobs_own if entry.name.startswith("data/")]
    assert refusal(3, *trained.but(data=other).train()) == (
        f"the data set {identity} is not the job's, which is {data}; name another --pool to start a new job"
    )
    assert status(trained.pool).entries == jobs_own


def test_another_key_is_refused_by_its_public_name(
    inside: Command, trained: Job, folder: Path, refusal: Refusal
) -> None:
    other = folder / "other.key"
    assert inside("keygen", other).code == 0
    ours, theirs = (key.read_text().split()[2] for key in (trained.key, other))
    line = refusal(9, *trained.but(key=other).train())
    assert line == f"{trained.pool}: the mirror 'training' was sealed with key {ours}, this is key {theirs}"


def test_a_network_for_other_images_is_refused(job: Job, folder: Path, refusal: Refusal) -> None:
    other = folder / "other.cfg"
    other.write_text(CFG.format(batch=8, learning_rate=0.05, filters=4).replace("width=8", "width=9"))
    line = refusal(3, *job.but(cfg=other).train())
    assert "the network takes images of (1, 8, 9), the data has (1, 8, 8)" in line
    assert status(job.pool).entries == ()


def test_a_pool_may_be_moved_between_runs(inside: Command, trained: Job, tmp_path: Path) -> None:
    moved = trained.but(pool=tmp_path / "elsewhere.pool")
    shutil.move(trained.pool, moved.pool)
    (started,) = inside(*moved.train("--json")).of("Started")
    assert started["step"] == 4


@pytest.mark.parametrize("every", [2, 3])
def test_a_mirror_every_few_steps_reports_what_is_durable(inside: Command, job: Job, every: int) -> None:
    done = inside(*job.train("--steps", 5, "--every", every, "--json"))
    durable = [message["durable_step"] for message in done.of("Progress")]
    assert durable == [step // every * every for step in range(1, 5)] + [5]
