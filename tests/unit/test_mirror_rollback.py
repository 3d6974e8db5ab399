"""What an anchor refuses: an older pool, another one, and another copy of the job."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from anchored import Life, Memory, lived
from plinius.errors import RollbackError
from plinius.mirror import Mirror
from plinius.pool import Pool
from plinius.seal import Key


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("overlapped", [False, True])
def test_every_older_image_of_the_pool_is_refused(path: Path, key: Key, every: int, overlapped: bool) -> None:
    """But those that are fewer generations behind than the anchor's bound, of this very life."""
    anchor, images = Memory(every), []
    for life_number in range(3):
        life = Life(path, key, anchor)
        for step in range(4 * life_number + 1, 4 * life_number + 5):
            life.train(step, wait=not overlapped)
            life.mirror.wait()
            images.append(shutil.copy(path, path.with_suffix(f".{step}")))
        life.end()
    for age, image in enumerate(reversed(images)):
        before = anchor.remembered
        if age >= every:
            with pytest.raises(RollbackError):
                Life(Path(image), key, anchor)
            assert anchor.remembered == before
    assert Life(path, key, anchor).step == 12


def test_more_unanchored_generations_than_the_bound_are_refused(path: Path, key: Key, anchor: Memory) -> None:
    """As they are where the owner lowers the bound before they were anchored: they are not fewer than she wants."""
    anchor.every = 5
    lived(path, key, anchor, 4)
    anchor.every = 2
    with pytest.raises(RollbackError):
        Life(path, key, anchor)
    anchor.every = 3
    assert Life(path, key, anchor).step == 4


def test_an_empty_or_new_pool_is_refused(path: Path, key: Key, anchor: Memory) -> None:
    lived(path, key, anchor, 1)
    with pytest.raises(RollbackError, match="holds nothing of this job"):
        Life(path.with_suffix(".new"), key, anchor)


def test_a_first_save_without_restore_is_refused_too(path: Path, key: Key, anchor: Memory) -> None:
    lived(path, key, anchor, 1)
    with Pool(path.with_suffix(".new")) as pool:
        mirror = Mirror(pool, key, name="m", anchor=anchor, weights=np.zeros(8))
        with pytest.raises(RollbackError, match="call restore"):
            mirror.save(1)


def test_a_refused_restore_is_no_permission_to_save(path: Path, key: Key, anchor: Memory) -> None:
    lived(path, key, anchor, 1)
    path.unlink()
    with Pool(path) as pool:
        mirror = Mirror(pool, key, name="m", anchor=anchor, weights=np.zeros(8))
        for _ in range(2):
            with pytest.raises(RollbackError, match="holds nothing"):
                mirror.restore()
            with pytest.raises(RollbackError, match="call restore"):
                mirror.save(1)
    assert len(anchor.advances) == 1


def copied(path: Path, key: Key, anchor: Memory) -> tuple[Life, Life]:
    """Two lives of one job: a copy has taken over, and the first one has found out."""
    first = Life(path, key, anchor)
    first.train(2)
    second = Life(Path(shutil.copy(path, path.with_suffix(".copy"))), key, anchor)
    with pytest.raises(RollbackError, match="another copy"):
        first.train(3)
    return first, second


def test_another_copy_is_fenced_off(path: Path, key: Key, anchor: Memory) -> None:
    first, second = copied(path, key, anchor)
    assert first.mirror.latest_step() == 2
    second.train(3)
    first.end()
    second.end()
    with pytest.raises(RollbackError, match="another copy"):
        Life(path, key, anchor)


def test_what_a_copy_saved_after_another_had_taken_over_is_refused(path: Path, key: Key, anchor: Memory) -> None:
    """Also when it is only one generation ahead: it names the head that the anchor had before."""
    first, second = copied(path, key, anchor)
    first.end()
    with pytest.raises(RollbackError, match="another copy of the job has gone on"):
        Life(path, key, anchor)
    second.train(3)
    second.end()


def test_each_life_is_fenced_off_by_the_next_also_one_that_has_saved_nothing(
    path: Path, key: Key, anchor: Memory
) -> None:
    lived(path, key, anchor, 1)
    first = Life(path, key, anchor)
    second = Life(Path(shutil.copy(path, path.with_suffix(".copy"))), key, anchor)
    assert [it.epoch for it in anchor.advances] == [1, 2, 3]
    with pytest.raises(RollbackError, match="another copy"):
        first.train(2)
    second.train(2)
    first.end()
    second.end()


def test_two_copies_that_begin_together_are_one(path: Path, key: Key, anchor: Memory) -> None:
    first, second = Life(path, key, anchor), Life(path.with_suffix(".copy"), key, anchor)
    first.train(1)
    with pytest.raises(RollbackError, match="another copy"):
        second.train(1)


def test_an_anchor_that_has_forgotten_is_refused(path: Path, key: Key, anchor: Memory) -> None:
    lived(path, key, anchor, 3)
    with pytest.raises(RollbackError, match="knows nothing of this job"):
        Life(path, key, Memory())
