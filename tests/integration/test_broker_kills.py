"""An owner's broker and a host on another machine's terms: either is killed, and nothing is lost or repeated."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from desks import Desk, made
from jobs import Job, Running, line_of, must, plinius, refused

STEPS = 40


@pytest.fixture
def desk(job: Job, tmp_path: Path) -> Desk:
    return made(tmp_path / "desk", job, steps=STEPS)


@pytest.fixture
def address(desk: Desk) -> Iterator[str]:
    with desk.broker() as address:
        yield address


def weights(job: Job, pool: Path) -> bytes:
    target = pool.with_name(f"{pool.name}.weights")
    must(*job.but(pool=pool).export(target))
    return target.read_bytes()


def test_host_and_broker_are_killed_and_the_end_is_the_same(desk: Desk, job: Job) -> None:
    must(*job.train("--steps", STEPS))
    pool = job.pool.with_suffix(".attested")
    broker, address = desk.start_broker()
    fixed = Desk(desk.folder, desk.job, address)
    try:
        with Running(*desk.host(address, pool)) as host:
            host.until("Progress", durable_step=10)
        with Running(*desk.host(address, pool)) as host:
            assert host.until("Started")["step"] >= 10
            broker.kill()
            broker.wait()
            broker, _ = fixed.start_broker()
            host.until("Progress", durable_step=25)
        done = must(*desk.host(address, pool, "--json"))
        assert done.of("Started")[0]["step"] >= 25
    finally:
        broker.kill()
        broker.wait()
    assert weights(job, pool) == weights(job, job.pool)
    events = [line.split(": ")[1] for line in must("audit", "--state", desk.folder / "state").out.splitlines()]
    assert [event for event in events if event != "advanced"] == 3 * ["released", "confirmed"]
    # Each life advances the epoch once; a save that a kill cut off is anchored by that.
    assert STEPS <= events.count("advanced") <= STEPS + 2


def test_an_older_pool_an_empty_one_and_a_fork_are_refused(desk: Desk, job: Job) -> None:
    desk.manifest("--steps", 1 << 20)
    with desk.broker() as address:
        refuse_older_empty_and_forked(desk, job, address)


def refuse_older_empty_and_forked(desk: Desk, job: Job, address: str) -> None:
    with Running(*desk.host(address, job.pool)) as host:
        host.until("Progress", durable_step=5)
    older = Path(shutil.copy(job.pool, job.pool.with_suffix(".older")))
    with Running(*desk.host(address, job.pool)) as host:
        host.until("Progress", durable_step=10)
        for pool in (older, job.pool.with_suffix(".empty")):
            assert "anchor" in refused(10, *desk.host(address, pool, "--restarts", 0))
        os.kill(host.enclave(), signal.SIGSTOP)
        fork = Path(shutil.copy(job.pool, job.pool.with_suffix(".fork")))
        with Running(*desk.host(address, fork)) as other:
            other.until("Progress")
            os.kill(host.enclave(), signal.SIGCONT)
            assert "another" in line_of(10, host.end())
            other.until("Progress")


def test_an_enclave_of_other_code_gets_no_key(desk: Desk, job: Job) -> None:
    policy = desk.own / "policy.toml"
    text = policy.read_text()
    digits = next(word for word in text.replace('"', " ").split() if len(word) == 64)
    policy.write_text(text.replace(digits, "0" * 64))
    with desk.broker() as address:
        assert "measurements.code" in refused(11, *desk.host(address, job.pool))
    assert not job.pool.exists()
    assert ": refused: " in must("audit", "--state", desk.folder / "state").out


def test_a_policy_that_does_not_name_the_insecure_tee_gives_no_key(desk: Desk, job: Job) -> None:
    (desk.own / "policy.toml").write_text(f'[[accept]]\ntee = "sgx"\nmeasurements.mrenclave = ["{"00" * 32}"]\n')
    with desk.broker() as address:
        assert "tee" in refused(11, *desk.host(address, job.pool))


def test_another_data_set_is_refused(desk: Desk, job: Job, files: Path, tmp_path: Path, address: str) -> None:
    other = tmp_path / "other.sealed"
    idx = ["--images", files / "images.idx", "--labels", files / "labels.idx"]
    must("seal", "--key", job.key, *idx, "--output", other)
    changed = Desk(desk.folder, job.but(data=other), desk.address)
    assert "the manifest names" in refused(3, *changed.host(address, job.pool))


def test_an_unknown_job_a_wrong_certificate_and_no_certificate(
    desk: Desk, job: Job, address: str, tmp_path: Path
) -> None:
    arguments = desk.host(address, job.pool)
    assert "no job" in refused(11, *(it if it != "small" else "large" for it in arguments))
    assert "--broker-cert" in refused(
        3, "host", "--broker", address, "--job", "small", "--pool", job.pool, "--data", job.data
    )
    assert "no address" in refused(
        3, "host", "--broker", "http://x", "--job", "s", "--pool", job.pool, "--data", job.data
    )
    assert "certificate" in refused(3, *(it if it != str(desk.certificate) else "/dev/null" for it in arguments))


def test_a_second_broker_of_one_state_is_refused(desk: Desk, address: str) -> None:
    options = ["--jobs", desk.folder / "jobs", "--identity", desk.folder / "owner.identity"]
    assert "another broker" in refused(
        3, "broker", *options, "--state", desk.folder / "state", "--listen", "127.0.0.1:0"
    )


def test_a_job_goes_on_under_a_new_manifest(desk: Desk, job: Job) -> None:
    with desk.broker() as address:
        must(*desk.host(address, job.pool, "--json"))
    earlier = desk.folder / "earlier"
    shutil.move(desk.own / "manifest", earlier)
    desk.manifest("--steps", STEPS + 2, "--continues", earlier)
    with desk.broker() as address:
        done = plinius(*desk.host(address, job.pool, "--json"))
    assert done.of("Started")[0]["step"] == STEPS
    assert done.of("Trained")[0]["step"] == STEPS + 2


def test_a_new_manifest_is_another_job(desk: Desk, job: Job) -> None:
    with desk.broker() as address:
        must(*desk.host(address, job.pool, "--json"))
    desk.manifest("--steps", STEPS)
    with desk.broker() as address:
        assert "not of the job" in refused(3, *desk.host(address, job.pool))
