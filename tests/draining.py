"""Draining the pool of a small training, and going on from what was fetched."""

from __future__ import annotations

from pathlib import Path

from plinius import Key, Pool
from plinius.mirror import farend
from plinius.mirror.drained import Drained
from plinius.mirror.draining import drain, fetch
from small_training import NAME, Training


def drained(path: Path, url: str) -> Drained:
    with Pool(path) as pool:
        return drain(pool, NAME, url)


def restored(path: Path, key: Key) -> tuple[int | None, tuple[object, ...]]:
    training = Training(path, key, seed=9)
    try:
        return training.restore(), training.contents()
    finally:
        training.close()


def fetched(url: str, path: Path, key: Key) -> tuple[int | None, tuple[object, ...]]:
    path.unlink(missing_ok=True)
    with Pool(path) as pool:
        fetch(url, pool, NAME)
    return restored(path, key)


def files(url: str) -> list[str]:
    return sorted(farend.far_end(url).files())


def train_on(path: Path, key: Key, first: int, last: int) -> tuple[object, ...]:
    training = Training(path, key)
    assert training.restore() == first - 1
    training.train(first, last)
    training.close()
    return training.contents()
