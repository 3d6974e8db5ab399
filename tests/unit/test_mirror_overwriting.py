"""What a save does not overwrite unless it is told to, and what it does not overwrite even then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from plinius import Key, Mirror
from plinius.errors import IntegrityError, PoolCorrupt, PoolError
from small_training import Training, entry_of, flip, head_of, read_at, rewrite_entry, trained, write_at


def test_what_was_not_restored_is_not_overwritten(path: Path, key: Key) -> None:
    saved = trained(path, key, 2)
    training = Training(path, key, seed=2)
    with pytest.raises(PoolError, match=r"not restored here.*restore\(\).*overwrite=True"):
        training.mirror.save(100)
    assert training.restore() == 2
    assert training.contents() == saved


def test_overwriting_starts_anew(path: Path, key: Key) -> None:
    trained(path, key, 5)
    job = head_of(path).job_id
    training = Training(path, key, seed=2)
    assert training.mirror.save(1, overwrite=True)
    training.train(2, 2)
    training.close()
    head = head_of(path)
    assert head.job_id != job
    assert (head.generations[0].written.version, head.generations[0].written.step) == (2, 2)


def test_a_damaged_head_is_named_and_not_overwritten(path: Path, key: Key) -> None:
    trained(path, key, 1)
    rewrite_entry(path, lambda _, extents: (b"damaged", extents))
    training = Training(path, key, seed=2)
    with pytest.raises(PoolCorrupt, match="the head of a mirror is damaged"):
        training.mirror.save(2)
    assert training.mirror.save(2, overwrite=True)


def test_a_second_mirror_of_the_same_name_does_not_overwrite_the_first(path: Path, key: Key) -> None:
    training = Training(path, key)
    training.train(1, 1)
    second = Mirror(training.pool, key, name="net", array=[np.zeros(3)])
    second.save(9, overwrite=True)
    with pytest.raises(PoolError, match="not restored here"):
        training.mirror.save(10)
    assert second.save(10)


def test_a_torn_state_does_not_overwrite_a_good_generation(path: Path, key: Key) -> None:
    trained(path, key, 2)
    offset, length = entry_of(path)[1][0]
    before = read_at(path, offset, length)
    flip(path, offset)
    torn = Training(path, key)
    with pytest.raises(IntegrityError):
        torn.restore()
    with pytest.raises(PoolError, match="zeroed"):
        torn.mirror.save(9, overwrite=True)
    torn.pool.close()
    write_at(path, offset, before)
    assert Training(path, key).restore() == 2
