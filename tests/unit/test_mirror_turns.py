"""A mirror that several threads and signal handlers call."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from plinius import Key, Mirror, Pool
from plinius.errors import ConfigError, PliniusError
from plinius.mirror.ciphertext import Ciphertext
from plinius.mirror.draining import newest_drained

pytestmark = pytest.mark.filterwarnings("ignore::plinius.mirror.RollbackWarning")


@pytest.fixture
def mirror(folder: Path) -> Iterator[Mirror]:
    with Pool(folder / "job.pool") as pool, Mirror(pool, Key.generate(), name="m", array=[np.zeros(9)]) as mirror:
        yield mirror


@contextmanager
def interrupted_often(handler: Callable[[], object], every_s: float = 0.001) -> Iterator[None]:
    end, nested = time.monotonic() + 120, 0

    def interrupt(_: int, frame: FrameType | None) -> None:
        nonlocal nested
        if time.monotonic() > end:
            raise TimeoutError("something waits for ever")
        if nested < 3:  # a slow machine would nest them up to Python's limit
            nested += 1
            try:
                handler()
            finally:
                nested -= 1

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, every_s, every_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_threads_take_turns(mirror: Mirror) -> None:
    latest = iter(range(1, 1000))
    lock, problems = threading.Lock(), []

    def save() -> None:
        for _ in range(40):
            try:
                with lock:
                    step = next(latest)
                mirror.save(step, wait=step % 2 == 0)
                mirror.wait()
            except ConfigError as error:  # another thread was quicker with a later step
                if "is not above" not in str(error):
                    problems.append(error)
            except BaseException as error:
                problems.append(error)

    threads = [threading.Thread(target=save) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    newest = mirror.latest_step()
    assert mirror.restore() == newest


def test_a_signal_handler_may_wait(mirror: Mirror) -> None:
    with interrupted_often(mirror.wait):
        for step in range(1, 150):
            mirror.save(step, wait=False)
            mirror.wait()
            assert mirror.latest_step() == step


@pytest.mark.parametrize("wait", [True, False])
def test_a_signal_handler_may_wait_for_drains(folder: Path, wait: bool) -> None:
    state, far = [np.zeros(9)], folder / "far"
    with (
        Pool(folder / "job.pool") as pool,
        Mirror(pool, Key.generate(), name="m", array=state, drain_to=far) as mirror,
        interrupted_often(mirror.wait, every_s=0.0005),
    ):
        for step in range(1, 300):
            mirror.save(step, wait=wait)
            mirror.wait()
            assert mirror.latest_step() == step
    drained = newest_drained(far, "m")
    assert drained is not None
    assert drained.step == 299


def test_a_signal_handler_in_the_midst_of_a_commit_does_not_wait_for_a_drain_that_waits_for_it(folder: Path) -> None:
    with (
        Pool(folder / "job.pool") as pool,
        Mirror(pool, Key.generate(), name="m", array=[np.zeros(9)], drain_to=folder / "far") as mirror,
    ):
        drainer = mirror._drainer
        assert drainer is not None
        mirror.save(1)
        mirror.wait()

        def pinned() -> Ciphertext | None:
            drainer.offer()  # begins no drain in here
            signal.raise_signal(signal.SIGALRM)
            return drainer.pinned

        mirror._saver.pinned = pinned
        with interrupted_often(mirror.wait, every_s=60):
            mirror.save(2)
        mirror.wait()
    drained = newest_drained(folder / "far", "m")
    assert drained is not None
    assert drained.step == 2


def test_a_signal_handler_in_the_midst_of_a_save_is_told_so_and_between_two_it_may_save(mirror: Mirror) -> None:
    told: list[str] = []
    next_step = iter(range(1, 100_000))

    def handler() -> None:
        try:
            mirror.save(next(next_step), force=True)
        except PliniusError as error:
            told.append(str(error))

    with interrupted_often(handler):
        for _ in range(150):
            try:
                mirror.save(next(next_step), wait=False)
                mirror.wait()
            except ConfigError as error:  # the handler came between the number and the save
                told.append(str(error))
    assert any("in a signal handler set a flag" in message for message in told)
    assert all("in a signal handler set a flag" in message or "is not above" in message for message in told)
    newest = mirror.latest_step()
    assert mirror.restore() == newest
    assert mirror.save(100_000)


def held_by_another_thread(lock: threading.RLock) -> None:
    holder = threading.Thread(target=lock.acquire)
    holder.start()
    holder.join()


def is_refused_in_a_child(mirror: Mirror, step: int) -> bool:
    """Whether a save is, in a forked child, and within 20 seconds: the pool is the parent's."""
    child = os.fork()
    if not child:
        signal.alarm(20)
        try:
            mirror.save(step)
        except PliniusError:
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_child_that_was_forked_in_the_midst_of_a_call_does_not_wait_for_it(mirror: Mirror) -> None:
    mirror.save(1)
    held_by_another_thread(mirror._turns.lock)
    is_refused = is_refused_in_a_child(mirror, 2)
    mirror._turns.begin()
    assert is_refused


def test_a_child_that_was_forked_while_another_thread_maps_the_pool_does_not_wait_for_it(mirror: Mirror) -> None:
    pool = mirror._pool
    assert isinstance(pool, Pool)
    held_by_another_thread(pool._mapping_lock)
    is_refused = is_refused_in_a_child(mirror, 1)
    pool._mapping_lock = threading.RLock()
    assert is_refused
