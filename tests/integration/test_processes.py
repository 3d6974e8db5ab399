"""The three processes: clean stops, restarts, a second trainer, a full medium, and children that outlive a parent."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from inside import Command
from jobs import CFG, Job, Running, child_of, is_alive, line_of, refused, wait_for
from plinius.inspection import describe
from plinius.pool import Pool

FULL, BUSY, ATTESTATION, ENCLAVE = 5, 6, 11, 12
ENDLESS = 1 << 30

Refusal = Callable[..., str]


def weights(inside: Command, job: Job, output: Path) -> bytes:
    assert inside(*job.export(output)).code == 0
    return output.read_bytes()


def same_bytes_as_if_nothing_had_happened(inside: Command, job: Job, steps: int) -> bool:
    """Trains the job on to a step, and another one from the start, and compares."""
    whole = job.but(pool=job.pool.with_name("whole.pool"))
    for each in (job, whole):
        assert inside(*each.train("--steps", steps)).err == ""
    ours, expected = (weights(inside, each, each.pool.with_suffix(".weights")) for each in (job, whole))
    return ours == expected


def durable_step(pool: Path) -> int:
    step: int = describe(str(pool))["mirrors"][0]["step"]
    return step


# Clean stops.


@pytest.mark.parametrize(
    ("number", "whole_group"),
    [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGTERM, True)],
    ids=["Ctrl-C", "SIGTERM", "service"],
)
def test_a_stop_is_durable(inside: Command, job: Job, number: signal.Signals, whole_group: bool) -> None:
    with Running(*job.train("--steps", ENDLESS, "--every", 100), start_new_session=True) as running:
        running.until("Progress", step=3)
        (os.killpg if whole_group else os.kill)(running.pid, number)
        done = running.end()
    assert done.code == 128 + number
    step = done.messages[-1]["step"]
    assert step >= 3
    assert done.err == (
        f"plinius: stopped after step {step} of {ENDLESS}, which is durable; run the same command to go on\n"
    )
    assert durable_step(job.pool) == step
    assert same_bytes_as_if_nothing_had_happened(inside, job, step + 2)


@pytest.mark.parametrize("child", ["plinius.owner.main", "plinius.enclave.main"])
def test_a_stop_before_the_training_has_begun(trained: Job, child: str) -> None:
    before = durable_step(trained.pool)
    with Running(*trained.train("--steps", 6), start_new_session=True) as running:
        wait_for(lambda: child_of(running.pid, child))
        os.killpg(running.pid, signal.SIGINT)
        done = running.end()
    assert (done.code, durable_step(trained.pool)) == (130, before)
    assert done.err == "plinius: stopped after step 4 of 6, which is durable; run the same command to go on\n"


def test_a_second_ctrl_c_ends_it_at_once(trained: Job) -> None:
    with Running(*trained.train("--steps", ENDLESS)) as running:
        enclave = running.enclave()  # its start takes seconds
        running.host.send_signal(signal.SIGINT)
        running.until("Notice")
        running.host.send_signal(signal.SIGINT)
        done = running.end()
    assert (done.code, done.err) == (130, "plinius: stopped at once; what was reported durable is kept\n")
    assert not is_alive(enclave)


def test_ctrl_c_ends_an_inference_at_once(trained: Job) -> None:
    with Running(*trained.infer()) as running:
        running.enclave()
        running.host.send_signal(signal.SIGINT)
        assert running.end().code == 130


# Restarts.


def test_an_enclave_that_dies_is_started_again_so_many_times(trained: Job) -> None:
    gone: set[int] = set()
    with Running(*trained.train("--restarts", 2)) as running:
        for _ in range(3):
            enclave = wait_for(lambda: child_of(running.pid, "plinius.enclave.main", gone))
            os.kill(enclave, signal.SIGKILL)
            gone.add(enclave)
        done = running.end()
    assert [message["text"] for message in done.of("Notice")] == [
        f"the enclave died (SIGKILL); starting it again, {left} restarts left" for left in (2, 1)
    ]
    assert line_of(ENCLAVE, done) == (
        "the enclave died (SIGKILL); what was reported durable is in the pool: run the same command to go on"
    )


def test_an_owner_that_dies_does_not_leave_the_enclave_waiting(trained: Job) -> None:
    with Running(*trained.train()) as running:
        os.kill(wait_for(lambda: child_of(running.pid, "plinius.owner.main")), signal.SIGKILL)
        done = running.end()
    assert line_of(ATTESTATION, done) == "the owner's process died before it released the key"


# One process writes a pool.


def test_a_second_trainer_is_refused_and_the_first_goes_on(refusal: Refusal, job: Job) -> None:
    with Running(*job.train("--steps", ENDLESS)) as running:
        running.until("Progress")
        line = refusal(BUSY, *job.train("--steps", ENDLESS))
        assert (
            line
            == f"{job.pool}: the pool is open in process {running.host.pid}; close it there, or wait for that to end"
        )
        running.until("Progress", step=durable_step(job.pool) + 5)
        running.host.send_signal(signal.SIGTERM)
        done = running.end()
    assert done.code == 128 + signal.SIGTERM
    assert durable_step(job.pool) == done.messages[-1]["step"]


def test_a_command_that_fails_does_not_remove_the_pool_of_another(refusal: Refusal, job: Job) -> None:
    """The other has made the file a moment ago, and its enclave has not written into it yet."""
    job.pool.touch()
    refusal(3, *job.but(key=job.pool.with_name("missing")).train())
    assert job.pool.exists()


WORKERS = """
import sys, time
from plinius import Key, Pool, SealedDataset
from torch.utils.data import DataLoader
pool = Pool(sys.argv[1])
data = SealedDataset(pool, Key.load(sys.argv[2]), sys.argv[3])
batches = iter(DataLoader(data, batch_size=4, num_workers=2, multiprocessing_context="fork", collate_fn=list))
next(batches)
print(*(worker.pid for worker in batches._workers), flush=True)
time.sleep(600)
"""


def test_data_loader_workers_do_not_keep_the_pool_of_a_dead_parent(trained: Job) -> None:
    command = [sys.executable, "-I", "-c", WORKERS, *map(str, (trained.pool, trained.key, trained.data))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(workers) == 2
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)  # so that they do not notice and end
        try:
            parent.kill()
            parent.wait()
            with Pool(trained.pool) as pool:  # `PoolBusy` if one of them held it
                assert pool.bytes > 0
            assert all(is_alive(worker) for worker in workers)
        finally:
            for worker in workers:
                os.kill(worker, signal.SIGKILL)


STILL_STORING = """
import sys, time
from plinius._core import Mapping, Medium
with open(sys.argv[1], "r+b") as pool:
    mapping = Mapping.on(Medium.of(pool.fileno()), pool.fileno())
    print("mapped", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def left_over(trained: Job) -> Iterator[subprocess.Popen[str]]:
    """A process that maps the job's pool to store into it, as an enclave does that outlives its host for a moment."""
    command = [sys.executable, "-I", "-c", STILL_STORING, str(trained.pool)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "mapped\n"
        os.kill(process.pid, signal.SIGSTOP)
        yield process
        process.kill()


def test_a_training_waits_for_an_enclave_whose_host_is_gone(
    inside: Command, trained: Job, left_over: subprocess.Popen[str]
) -> None:
    killer = threading.Timer(1, left_over.kill)
    killer.start()
    (started,) = inside(*trained.train("--steps", 5, "--json")).of("Started")
    assert left_over.poll() == -signal.SIGKILL
    assert (started["step"], started["resumed"]) == (4, True)
    assert same_bytes_as_if_nothing_had_happened(inside, trained, 6)


def test_an_enclave_whose_host_is_gone_and_that_stays_is_named(
    refusal: Refusal, trained: Job, left_over: subprocess.Popen[str]
) -> None:
    before = trained.pool.read_bytes()
    line = refusal(BUSY, *trained.train("--steps", 5))
    assert (
        line == f"{trained.pool}: the pool is open in process {left_over.pid}; close it there, or wait for that to end"
    )
    assert trained.pool.read_bytes() == before


def test_an_enclave_that_stands_still_while_its_host_is_killed_stores_no_more(inside: Command, job: Job) -> None:
    reached = 0
    for _ in range(2):
        with Running(*job.train("--steps", ENDLESS)) as running:
            running.until("Progress", step=reached + 3)
            enclave = running.enclave()
            os.kill(enclave, signal.SIGSTOP)  # wherever it is, in a save or not
            running.host.kill()
            last = [message for message in running.messages() if message["type"] == "Progress"][-1:]
        durable = last[0]["durable_step"] if last else reached + 3
        with Running(*job.train("--steps", durable + 20)) as again:
            started = again.until("Started")
            assert not is_alive(enclave)
            assert started["resumed"]
            assert durable <= started["step"] <= durable + 1
            assert again.end().code == 0
        reached = durable + 20
    assert same_bytes_as_if_nothing_had_happened(inside, job, reached + 1)


# A full medium.


@pytest.fixture
def large_job(job: Job, folder: Path) -> Job:
    """Its state is so large that the pool grows for the first and for the second generation."""
    cfg = folder / "large.cfg"
    cfg.write_text(CFG.format(batch=8, learning_rate=0.05, filters=256))
    return job.but(cfg=cfg)


@pytest.fixture
def small_medium(folder: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a tmpfs of some size, or changes its size."""
    place = folder / "small"
    place.mkdir()
    mounted = False

    def resize(size_bytes: int) -> Path:
        nonlocal mounted
        options = f"size={size_bytes},{'remount' if mounted else 'mode=700'}"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("only root may mount a small medium")
        mounted = True
        return place

    yield resize
    if mounted:
        subprocess.run(["umount", place], check=True)


def bytes_after(inside: Command, job: Job, steps: int) -> int:
    """How large the pool is after some steps on a medium with room."""
    tried = job.but(pool=job.pool.with_name(f"tried-{steps}.pool"))
    assert inside(*tried.train("--steps", steps)).err == ""
    return tried.pool.stat().st_size


def test_a_medium_that_is_full_while_saving(
    inside: Command, refusal: Refusal, large_job: Job, small_medium: Callable[[int], Path]
) -> None:
    one, two = (bytes_after(inside, large_job, steps) for steps in (1, 2))
    assert one < two
    small = large_job.but(pool=small_medium(one) / "job.pool")
    line = refusal(FULL, *small.train("--steps", 4))
    assert line.startswith(f"{small.pool}: the pool's medium is full: ")
    assert "move the pool file to a larger medium and go on there" in line
    assert durable_step(small.pool) == 1
    assert refusal(FULL, *small.train("--steps", 4)) == line
    moved = shutil.move(small.pool, large_job.pool)
    (started,) = inside(*large_job.train("--steps", 4, "--json")).of("Started")
    assert (started["step"], started["resumed"]) == (1, True)
    assert same_bytes_as_if_nothing_had_happened(inside, large_job.but(pool=Path(moved)), 5)


def test_a_medium_that_is_full_before_the_pool_is_made(
    inside: Command, refusal: Refusal, large_job: Job, small_medium: Callable[[int], Path]
) -> None:
    small = large_job.but(pool=small_medium(1 << 20) / "job.pool")
    assert "the pool's medium is full" in refusal(FULL, *small.train("--steps", 2))
    small_medium(1 << 25)
    assert inside(*small.train("--steps", 2)).err == ""


def test_a_medium_that_is_full_while_data_are_loaded(
    inside: Command, refusal: Refusal, large_job: Job, small_medium: Callable[[int], Path], folder: Path
) -> None:
    with Pool(folder / "empty.pool") as pool:
        empty = pool.bytes
    small = large_job.but(pool=small_medium(empty) / "job.pool")
    assert "the pool's medium is full" in refusal(FULL, *small.train("--steps", 2))
    small_medium(1 << 25)
    assert inside(*small.train("--steps", 2)).err == ""


def test_a_limit_of_the_file_size_is_a_full_medium_too(inside: Command, large_job: Job) -> None:
    """In real processes, and without root."""
    limit = bytes_after(inside, large_job, 1)
    line = refused(
        FULL,
        *large_job.train("--steps", 3),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert "the pool's medium is full" in line
    assert durable_step(large_job.pool) == 1
    assert inside(*large_job.train("--steps", 3, "--json")).of("Started")[0]["step"] == 1
