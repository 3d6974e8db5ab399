"""One changed byte of a mirror's ciphertext, anywhere: refused, and training cannot go on with what is left."""

from __future__ import annotations

from pathlib import Path

import pytest
from plinius import Key
from plinius.errors import IntegrityError, PoolError
from small_training import Training, entry_of, flip, trained


def test_every_tensor_is_checked_and_the_targets_are_zeroed(folder: Path, key: Key) -> None:
    path = folder / "job.pool"
    saved = trained(path, key, 3)
    _, extents = entry_of(path)
    assert len(extents) > 20
    named: set[str] = set()
    for offset, length in extents[:-1]:
        for at in (0, length // 2, length - 1):
            flip(path, offset + at)
            training = Training(path, key, seed=2)
            with pytest.raises(IntegrityError, match=f"^{path}: .* does not open") as caught:
                training.restore()
            named.add(str(caught.value))
            assert training.zeroed()
            with pytest.raises(PoolError, match="restore successfully first"):
                training.mirror.save(100, force=True)
            training.close()
            flip(path, offset + at)
    assert len(named) == len(extents) - 1
    training = Training(path, key, seed=2)
    assert training.restore() == 3
    assert training.contents() == saved


def test_a_mended_pool_can_be_restored_and_saved_again(folder: Path, key: Key) -> None:
    path = folder / "job.pool"
    saved = trained(path, key, 3)
    offset = entry_of(path)[1][0][0]
    training = Training(path, key, seed=2)
    flip(path, offset)
    with pytest.raises(IntegrityError):
        training.restore()
    flip(path, offset)
    assert training.restore() == 3
    assert training.contents() == saved
    training.train(4, 4)


def test_a_changed_manifest_is_refused_before_anything_is_touched(folder: Path, key: Key) -> None:
    path = folder / "job.pool"
    trained(path, key, 1)
    offset, length = entry_of(path)[1][-1]
    for at in range(0, length, 97):
        flip(path, offset + at)
        training = Training(path, key, seed=2)
        before = training.contents()
        with pytest.raises(IntegrityError, match=f"^{path}: the manifest does not open"):
            training.restore()
        with pytest.raises(IntegrityError):
            training.mirror.latest_step()
        assert training.contents() == before
        with pytest.raises(PoolError, match="not restored here"):
            training.mirror.save(100)
        training.close()
        flip(path, offset + at)
