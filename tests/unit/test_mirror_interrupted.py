"""Saves and restores that are interrupted: nothing is lost, and nothing is taken for what it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plinius import Key, Mirror, Pool
from plinius.errors import PoolError
from plinius.mirror import tracking
from small_mirrors import LARGE, mirror_of
from small_training import Training

pytestmark = pytest.mark.filterwarnings("ignore::plinius.mirror.RollbackWarning")


@contextmanager
def committing(monkeypatch: pytest.MonkeyPatch, pool: Pool, commit: Callable[..., None]) -> Iterator[None]:
    """Commits otherwise inside the block: `commit` is given the reservation, and what it is to commit."""

    class Reserved:
        def __init__(self) -> None:
            self._reserved = pool.core.reserve()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._reserved, name)

        def commit(self, *arguments: Any) -> None:
            commit(self._reserved, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(pool, "reserve", Reserved)
        yield


def test_an_interrupt_between_the_commit_and_its_return_loses_nothing(
    path: Path, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(reserved: Any, *arguments: Any) -> None:
        reserved.commit(*arguments)
        raise KeyboardInterrupt

    training = Training(path, key)
    training.mirror.save(1)
    with committing(monkeypatch, training.pool, interrupted), pytest.raises(KeyboardInterrupt):
        training.mirror.save(2)
    assert training.mirror.save(2, force=True)
    assert training.mirror.save(3)
    assert training.mirror.latest_step() == 3


def test_a_save_whose_commit_failed_can_be_made_again(path: Path, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is in the pool, so it is not taken for one that was interrupted behind its commit."""

    def failing(*_: Any) -> None:
        raise KeyboardInterrupt

    training = Training(path, key)
    training.mirror.save(1)
    with committing(monkeypatch, training.pool, failing), pytest.raises(KeyboardInterrupt):
        training.mirror.save(2)
    assert training.mirror.latest_step() == 1
    assert training.mirror.save(2)
    assert training.mirror.restore() == 2


def interrupted_behind_the_commit(mirror: Mirror, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(tracking.Tracker, "learn", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            mirror.save(step)


def test_after_a_commit_that_was_interrupted_an_earlier_value_is_not_taken_for_what_it_holds(
    path: Path, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.zeros(LARGE, np.uint8)
    with Pool(path) as pool:
        mirror = mirror_of(pool, key, arrays=[array])
        mirror.save(1)
        mirror.save(2)
        array[:] = 1
        interrupted_behind_the_commit(mirror, 3, monkeypatch)
        array[:] = 0
        mirror.save(4)
        array[:] = 9
        assert mirror.restore() == 4
        assert not array.any()


@pytest.mark.parametrize("way", ["restore", "overwrite"])
def test_an_interrupted_commit_stands_in_for_no_other_save_of_its_step(
    path: Path, key: Key, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    array = np.zeros(5)
    with Pool(path) as pool:
        mirror = mirror_of(pool, key, arrays=[array], keep=3)
        mirror.save(1)
        interrupted_behind_the_commit(mirror, 2, monkeypatch)
        if way == "restore":
            mirror.restore(1)
        array[:] = 77
        mirror.save(2, overwrite=way == "overwrite")
        array[:] = 0
        assert mirror.restore() == 2
        assert (array == 77).all()


def test_an_interrupt_while_a_failed_restore_is_wiped_leaves_nothing_to_save(
    path: Path, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = {"a": np.zeros(5), "big": np.ones(LARGE, np.uint8)}
    with Pool(path) as pool:
        mirror = mirror_of(pool, key, arrays=arrays)
        mirror.save(1)
        with monkeypatch.context() as patched:
            patched.setattr("plinius.state.Restoration.apply", lambda _: 1 / 0)
            patched.setattr("plinius.state.Restoration.wipe", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                mirror.restore()
        with pytest.raises(PoolError, match="failed midway"):
            mirror.save(2)
