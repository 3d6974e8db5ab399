"""A mirror that several threads and signal handlers call."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from plinius import Key, Mirror, Pool
from plinius.errors import ConfigError, PliniusError

pytestmark = pytest.mark.filterwarnings("ignore::plinius.mirror.RollbackWarning")


@pytest.fixture
def mirror(folder: Path) -> Iterator[Mirror]:
    with Pool(folder / "job.pool") as pool, Mirror(pool, Key.generate(), name="m", array=[np.zeros(9)]) as mirror:
        yield mirror


@contextmanager
def interrupted_often(handler: object, every_s: float = 0.001) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, handler)  # type: ignore[arg-type]
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
    def handler(_: int, frame: FrameType | None) -> None:
        mirror.wait()

    with interrupted_often(handler):
        for step in range(1, 150):
            mirror.save(step, wait=False)
            mirror.wait()
    assert mirror.latest_step() == 149


def test_a_signal_handler_in_the_midst_of_a_save_is_told_so_and_between_two_it_may_save(mirror: Mirror) -> None:
    told: list[str] = []
    next_step = iter(range(1, 100_000))

    def handler(_: int, frame: FrameType | None) -> None:
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


def test_a_child_that_was_forked_in_the_midst_of_a_call_does_not_wait_for_it(mirror: Mirror) -> None:
    mirror.save(1)
    holder = threading.Thread(target=mirror._turns.lock.acquire)
    holder.start()
    holder.join()  # whoever has the turn is another thread
    child = os.fork()
    if not child:
        signal.alarm(20)
        try:
            mirror.save(2)
        except PliniusError:
            os._exit(0)  # the pool is the parent's
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    mirror._turns.begin()
