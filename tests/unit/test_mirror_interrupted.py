"""Saves that are interrupted around their commit: nothing is lost, and each can be made again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from plinius import Key, Pool
from small_training import Training


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
