"""The drainer, with a far end that can be held up and can fail: drains beside saves, and what becomes of errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest
from draining import fetched
from plinius import Key, Pool
from plinius.errors import PliniusError, PoolError
from plinius.mirror import ciphertext, farend
from plinius.mirror.drainer import Drainer
from small_training import NAME, Training, trained

UNCLOSED = """
import sys
from plinius.mirror.drainer import Drainer
from plinius.pool import Pool
Drainer(Pool(sys.argv[1]), "net", sys.argv[2]).offer()
"""


class SlowFolder(farend._Folder):
    """A folder to which nothing is written unless it is let through."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.begun, self.through = threading.Semaphore(0), threading.Semaphore(0)
        self.fails = False

    @contextmanager
    def create(self, file: str) -> Iterator[BinaryIO]:
        self.begun.release()
        assert self.through.acquire(timeout=30)
        if self.fails:
            raise PoolError("the far end is gone")
        with super().create(file) as to:
            yield to


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlowFolder:
    folder = SlowFolder(str(tmp_path / "far"))
    monkeypatch.setattr("plinius.mirror.drainer.far_end", lambda url: folder)
    return folder


class PinningTraining(Training):
    """A training whose saves keep what is being drained, as a mirror that drains does."""

    drainer: Drainer

    def save(self, step: int) -> None:
        """Commits inside of `still`, with the pinned extents behind its own."""
        self.step()
        drainer, reserve = self.drainer, self.pool.reserve

        class Reserved:
            def __init__(self) -> None:
                self._reserved = reserve()

            def __getattr__(self, name: str) -> object:
                return getattr(self._reserved, name)

            def commit(self, name: str, meta: bytes, extents: list[tuple[int, int]]) -> None:
                with drainer.still:
                    pinned = drainer.pinned
                    kept = [one for one in (pinned.extents if pinned else ()) if one not in extents]
                    self._reserved.commit(name, meta, [*extents, *kept])

        self.pool.reserve = Reserved  # type: ignore[method-assign, assignment]
        try:
            self.mirror.save(step)
        finally:
            del self.pool.reserve
        drainer.offer()


@pytest.fixture
def training(path: Path, key: Key, slow: SlowFolder) -> PinningTraining:
    training = PinningTraining(path, key)
    training.drainer = Drainer(training.pool, NAME, "unused")
    return training


def test_saves_go_on_while_a_drain_runs_and_the_newest_wins(
    training: PinningTraining, slow: SlowFolder, key: Key, folder: Path
) -> None:
    training.save(1)
    first = training.contents()
    assert slow.begun.acquire(timeout=10)
    pinned = training.drainer.pinned
    assert pinned is not None
    assert pinned.newest.written.step == 1
    occupied = []
    for step in range(2, 8):
        training.save(step)
        occupied.append(training.pool.bytes - training.pool.free_bytes)
        assert training.drainer.pinned == pinned
        assert ciphertext.still_there(training.pool, NAME, pinned)
    assert len(set(occupied)) == 1, "one generation more while draining, however many saves"
    slow.through.release()
    assert slow.begun.acquire(timeout=10)
    assert fetched(slow.name, folder / "first.pool", key) == (1, first)
    slow.through.release()
    training.drainer.wait()
    drained = training.drainer.drained
    assert drained is not None
    assert drained.step == 7, "steps 2 to 6 were passed over"
    assert training.drainer.pinned is None
    assert fetched(slow.name, folder / "last.pool", key) == (7, training.contents())
    assert not slow.begun.acquire(blocking=False)
    training.close()


def test_extents_that_were_given_up_while_they_were_drained_are_found(
    training: PinningTraining, slow: SlowFolder
) -> None:
    training.save(1)
    assert slow.begun.acquire(timeout=10)
    training.train(2, 2)  # a save that does not keep what is pinned
    slow.through.release()
    with pytest.raises(PoolError, match="was saved while it was drained"):
        training.drainer.wait()
    assert slow.files() == []
    training.close()


def test_no_drain_begins_while_a_save_decides_what_it_keeps(training: PinningTraining, slow: SlowFolder) -> None:
    with training.drainer.still:
        assert training.drainer.pinned is None
        training.save(1)  # nested: as a signal handler may
        assert not slow.begun.acquire(timeout=0.2)
        assert training.drainer.pinned is None
    assert slow.begun.acquire(timeout=10)
    slow.through.release()
    training.drainer.close()
    training.close()


def test_an_error_is_raised_where_somebody_sees_it_and_the_next_offer_stands(
    training: PinningTraining, slow: SlowFolder
) -> None:
    slow.fails = True
    slow.through.release()
    training.save(1)
    with pytest.raises(PoolError, match="the far end is gone"):
        training.drainer.wait()
    training.drainer.wait()  # it was said
    slow.through.release()
    training.save(2)
    while training.drainer.pinned is not None or slow.begun._value < 2:  # type: ignore[attr-defined]
        threading.Event().wait(0.01)
    slow.fails = False
    slow.through.release()
    with pytest.raises(PoolError, match="the far end is gone"):
        training.save(3)
    training.drainer.wait()
    assert training.drainer.drained is not None
    assert training.drainer.drained.step == 3
    slow.fails = True
    slow.through.release()
    training.save(4)
    with pytest.raises(PoolError, match="the far end is gone"):
        training.drainer.close()
    with pytest.raises(PliniusError, match="this drainer is closed"):
        training.drainer.offer()
    training.close()


def test_a_forked_child_waits_for_no_drain(training: PinningTraining, slow: SlowFolder) -> None:
    training.save(1)
    assert slow.begun.acquire(timeout=10)
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # which ends it where it waits
        try:
            training.drainer.wait()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    slow.through.release()
    training.drainer.close()
    training.close()


def test_a_drain_that_got_no_thread_is_waited_for_by_nobody_and_made_up_for_by_the_next_offer(
    training: PinningTraining, slow: SlowFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            training.save(1)
    slow.through.release()
    training.drainer.offer()
    training.drainer.wait()
    assert training.drainer.drained is not None
    assert training.drainer.drained.step == 1
    training.drainer.close()
    training.close()


def test_a_mirror_that_is_not_there_is_an_error_of_the_next_wait(path: Path, tmp_path: Path) -> None:
    with Pool(path) as pool:
        drainer = Drainer(pool, NAME, tmp_path)
        drainer.offer()
        with pytest.raises(PoolError, match="there is no mirror"):
            drainer.close()


def test_a_process_that_ends_without_closing_drains_what_was_offered(
    path: Path, key: Key, folder: Path, tmp_path: Path
) -> None:
    saved = trained(path, key, 2)
    subprocess.run([sys.executable, "-c", UNCLOSED, path, tmp_path], check=True)
    assert fetched(str(tmp_path), folder / "new.pool", key) == (2, saved)


def test_hundreds_of_saves_beside_a_drainer(path: Path, key: Key, folder: Path, tmp_path: Path) -> None:
    training = PinningTraining(path, key)
    training.drainer = Drainer(training.pool, NAME, tmp_path)
    steps = set()
    for step in range(1, 301):
        training.save(step)
        if training.drainer.drained:
            steps.add(training.drainer.drained.step)
    training.drainer.close()
    assert len(steps) > 3
    assert fetched(str(tmp_path), folder / "new.pool", key) == (300, training.contents())
    assert training.pool.verify() == []
    training.close()
