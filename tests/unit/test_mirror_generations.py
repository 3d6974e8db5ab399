"""Several generations of a mirror: which are kept, who goes back to one, and their space."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from plinius import Key, Pool
from plinius.errors import ConfigError, IntegrityError
from small_mirrors import LARGE, mirror_of
from small_training import ENTRY, head_of, read_at, rewrite_entry, write_at

pytestmark = pytest.mark.filterwarnings("ignore::plinius.mirror.RollbackWarning")


def extents_of(path: Path) -> list[tuple[int, int]]:
    with Pool(path) as pool:
        return (pool.core.entry(ENTRY) or ("", b"", []))[2]


def saved(path: Path, key: Key, steps: range, keep: int) -> None:
    arrays = {"a": np.zeros(5), "big": np.zeros(LARGE, np.uint8)}
    with Pool(path) as pool, mirror_of(pool, key, arrays=arrays, keep=keep) as mirror:
        mirror.restore()
        for step in steps:
            arrays["a"][:] = step
            mirror.save(step)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_as_many_generations_are_kept_and_each_can_be_restored(path: Path, key: Key, keep: int) -> None:
    saved(path, key, range(1, 4), keep)
    saved(path, key, range(4, 7), keep)
    kept = [generation.written.step for generation in head_of(path).generations]
    assert kept == [6, 5, 4][:keep]
    for step in kept:
        arrays = {"a": np.zeros(5), "big": np.ones(LARGE, np.uint8)}
        with Pool(path) as pool, mirror_of(pool, key, arrays=arrays) as mirror:
            assert mirror.restore(step=step) == step
            assert (arrays["a"] == step).all()
            assert not arrays["big"].any()
    with Pool(path) as pool:
        mirror = mirror_of(pool, key, arrays=arrays)
        with pytest.raises(ConfigError, match="keeps no generation of step 3; it has 6"):
            mirror.restore(step=3)


def test_who_went_back_gives_the_later_generations_up_with_the_next_save(path: Path, key: Key) -> None:
    saved(path, key, range(1, 6), keep=4)
    arrays = {"a": np.zeros(5), "big": np.zeros(LARGE, np.uint8)}
    with Pool(path) as pool, mirror_of(pool, key, arrays=arrays, keep=4) as mirror:
        assert mirror.restore(step=3) == 3
        with pytest.raises(ConfigError, match="not above the latest saved step 3"):
            mirror.save(3)
        mirror.save(4)
    head = head_of(path)
    assert [(one.written.step, one.written.version) for one in head.generations] == [(4, 6), (3, 3), (2, 2)]
    with Pool(path) as pool, mirror_of(pool, key, arrays=arrays) as mirror:
        assert mirror.restore(step=2) == 2
        assert (arrays["a"] == 2).all()


def test_space_of_generations_that_are_given_up_is_used_again(path: Path, key: Key) -> None:
    saved(path, key, range(1, 4), keep=2)
    saved(path, key, range(4, 8), keep=2)
    size = path.stat().st_size
    for begin in range(8, 40, 8):
        saved(path, key, range(begin, begin + 8), keep=2)
    assert path.stat().st_size == size


def test_an_older_generation_of_another_time_is_refused(path: Path, key: Key) -> None:
    """It opens, since it is this job's: but the newest one does not name it."""
    saved(path, key, range(1, 4), keep=2)
    older = head_of(path).generations[1]
    kept = {index: read_at(path, *extents_of(path)[index]) for index in older.extents}
    saved(path, key, range(4, 7), keep=2)

    head, now = head_of(path), extents_of(path)
    then = msgspec.structs.replace(older, extents=head.generations[1].extents)
    for index, place in zip(older.extents, then.extents, strict=True):
        write_at(path, now[place][0], kept[index])
    swapped = msgspec.structs.replace(head, generations=[head.generations[0], then])
    rewrite_entry(path, lambda _, extents: (msgspec.msgpack.encode(swapped), extents))
    arrays = {"a": np.zeros(5), "big": np.zeros(LARGE, np.uint8)}
    with Pool(path) as pool:
        mirror = mirror_of(pool, key, arrays=arrays)
        with pytest.raises(IntegrityError, match="none that the newest one names"):
            mirror.restore(step=2)


def test_each_life_has_an_epoch_of_its_own_also_one_that_went_back(path: Path, key: Key) -> None:
    saved(path, key, range(1, 3), keep=3)
    for _ in range(3):
        step = head_of(path).generations[0].written.step
        saved(path, key, range(step + 1, step + 2), keep=3)
    newest = head_of(path).generations[0]
    arrays = {"a": np.zeros(5), "big": np.zeros(LARGE, np.uint8)}
    with Pool(path) as pool:
        mirror = mirror_of(pool, key, arrays=arrays, keep=3)
        mirror.restore(newest.written.step - 2)
        mirror.save(newest.written.step)
    assert head_of(path).generations[0].epoch == newest.epoch + 1


def test_a_head_that_nobody_would_read_is_not_written(path: Path, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(path, key, range(1, 4), keep=1000)
    arrays = {"a": np.zeros(5), "big": np.zeros(LARGE, np.uint8)}
    with Pool(path) as pool, mirror_of(pool, key, arrays=arrays, keep=1000) as mirror:
        mirror.restore()
        monkeypatch.setattr("plinius.mirror.manifest.MAX_HEAD_BYTES", len(pool.core.meta(ENTRY) or b"") + 10)
        with pytest.raises(ConfigError, match="keep fewer generations"):
            mirror.save(4)
        assert (mirror.latest_step(), mirror.restore()) == (3, 3)
