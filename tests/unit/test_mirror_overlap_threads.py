"""The thread of a save in the background, when it comes late or never, and whoever waits for it."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
from averaged import Job
from holding import Held
from plinius import Key, Pool
from plinius.errors import PoolError
from plinius.mirror.overlap import Flight

pytestmark = pytest.mark.filterwarnings("ignore::plinius.mirror.RollbackWarning")


def test_a_save_whose_start_is_interrupted_is_waited_for_like_any_other(
    pool: Pool, key: Key, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(pool, key)
    job.step()
    with monkeypatch.context() as patched:

        def start(flight: Flight) -> None:
            flight._thread.start()
            assert held.reached.wait(60)
            raise KeyboardInterrupt

        patched.setattr(Flight, "start", start)
        with pytest.raises(KeyboardInterrupt):
            job.mirror.save(1, wait=False)
    threading.Timer(0.3, held.go_on.set).start()
    job.mirror.save(2)
    assert job.mirror.latest_step() == 2
    job.mirror.wait()
    assert job.mirror.latest_step() == 2, "the first one came later"


def test_a_save_is_waited_for_again_when_the_waiting_was_interrupted(
    pool: Pool, key: Key, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(pool, key)
    job.step()
    job.mirror.save(1, wait=False)
    assert held.reached.wait(60)
    with monkeypatch.context() as patched:

        def land(_: Flight) -> None:
            raise KeyboardInterrupt

        patched.setattr(Flight, "land", land)
        with pytest.raises(KeyboardInterrupt):
            job.mirror.wait()
    threading.Timer(0.3, held.go_on.set).start()
    job.mirror.wait()
    assert job.mirror.latest_step() == 1


def test_a_save_that_never_got_a_thread_holds_nobody_up(pool: Pool, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(pool, key)
    job.step()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            job.mirror.save(1, wait=False)
    job.mirror.wait()
    job.step()
    job.mirror.save(2)
    assert job.mirror.latest_step() == 2


def test_a_thread_that_comes_after_its_save_was_broken_off_saves_nothing(
    pool: Pool, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt may come when the system has a thread already, and Python does not know it yet."""
    job, late = Job(pool, key), []
    with monkeypatch.context() as patched:

        def start(flight: Flight) -> None:
            late.append(flight._thread)
            raise KeyboardInterrupt

        patched.setattr(Flight, "start", start)
        with pytest.raises(KeyboardInterrupt):
            job.mirror.save(1, wait=False)
    job.mirror.wait()
    late[0].start()
    late[0].join()
    assert job.mirror.latest_step() is None


def test_a_save_whose_thread_comes_late_is_waited_for(pool: Pool, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    job, run = Job(pool, key), Flight._run

    def late(flight: Flight) -> None:
        time.sleep(0.3)
        run(flight)

    with monkeypatch.context() as patched:
        patched.setattr(Flight, "_run", late)
        job.mirror.save(1, wait=False)
    job.mirror.wait()
    assert job.mirror.latest_step() == 1


@pytest.mark.parametrize("moment", ["before", "after"])
def test_whoever_waits_while_a_save_takes_off_does_not_end_it(
    pool: Pool, key: Key, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """A signal handler, or another thread: the system may take its time with the new one."""
    job, begin = Job(pool, key), threading.Thread.start

    def slowly(thread: threading.Thread) -> None:
        if moment == "before":
            job.mirror.wait()
        begin(thread)
        if moment == "after":
            job.mirror.wait()

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", slowly)
        for step in (1, 2):
            job.step()
            job.mirror.save(step, wait=False)
    job.mirror.wait()
    assert job.mirror.latest_step() == 2


def test_who_runs_a_transaction_is_refused_and_does_not_wait_for_ever(pool: Pool, key: Key, held: Held) -> None:
    job = Job(pool, key)
    job.step()
    with pool.transaction(), pytest.raises(PoolError, match="transactions are not nested"):
        job.mirror.save(1, wait=False)
    job.mirror.save(1, wait=False)
    assert held.reached.wait(60)
    held.go_on.set()
    with pool.transaction():
        for call in (job.mirror.wait, job.mirror.restore, lambda: job.mirror.save(2)):
            with pytest.raises(PoolError, match="transactions are not nested"):
                call()
    job.mirror.wait()
    assert job.mirror.latest_step() == 1


def test_a_forked_child_is_held_up_by_nothing(pool: Pool, key: Key, held: Held) -> None:
    job = Job(pool, key)
    job.backward()
    job.optimizer.step()
    job.mirror.save(1, wait=False)
    assert held.reached.wait(60)
    child = os.fork()
    if child == 0:
        job.mirror._gate.wait()  # as an optimizer's step does
        job.mirror._flight.land()
        os._exit(0)
    assert wait_for_end(child) == 0
    held.go_on.set()
    job.mirror.wait()


def wait_for_end(child: int) -> int:
    """The status of a child, which has a minute."""
    for _ in range(600):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]
