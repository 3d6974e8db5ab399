"""Draining and fetching what is damaged, was cut or finds no room: it is mended, refused, or carried and found."""

from __future__ import annotations

from pathlib import Path

import pytest
from draining import drained, fetched, files, train_on
from plinius import Key, Pool
from plinius.errors import IntegrityError, PoolCorrupt, PoolFull
from plinius.mirror.draining import drain, fetch, newest_drained
from small_training import NAME, entry_of, flip, rewrite_head, trained


def test_a_damaged_file_is_written_again_from_the_pool(path: Path, key: Key, folder: Path, tmp_path: Path) -> None:
    saved = trained(path, key, 1)
    file = tmp_path / drained(path, str(tmp_path)).file
    file.write_bytes(file.read_bytes()[:-7])
    drained(path, str(tmp_path))
    assert fetched(str(tmp_path), folder / "new.pool", key) == (1, saved)


def test_what_a_cut_drain_left_is_removed_by_the_next(path: Path, key: Key, tmp_path: Path) -> None:
    trained(path, key, 1)
    whole = drained(path, str(tmp_path)).file
    (tmp_path / f"{whole}.0123abcd.part").write_bytes(b"half")
    (tmp_path / "somebody's own").write_bytes(b"x")
    assert newest_drained(str(tmp_path), NAME) is not None
    train_on(path, key, 2, 2)
    drained(path, str(tmp_path))
    assert sorted(f.endswith(".plinius") for f in files(str(tmp_path))) == [False, True, True]


def test_a_byte_that_was_flipped_in_the_pool_is_carried_and_found(
    path: Path, key: Key, folder: Path, tmp_path: Path
) -> None:
    trained(path, key, 1)
    flip(path, entry_of(path)[1][2][0])
    drained(path, str(tmp_path))
    with pytest.raises(IntegrityError):
        fetched(str(tmp_path), folder / "new.pool", key)


def test_a_pool_without_room_is_as_it_was(path: Path, key: Key, folder: Path, tmp_path: Path) -> None:
    trained(path, key, 1, width=400)
    drained(path, str(tmp_path))
    with Pool(folder / "small.pool", max_bytes=5 << 20) as pool:
        with pytest.raises(PoolFull):
            fetch(str(tmp_path), pool, NAME)
        assert pool.core.entries() == []
        assert pool.verify() == []


@pytest.mark.parametrize("job_id", [b"", bytes(15), bytes(17)])
def test_a_head_whose_job_has_no_file_name_is_not_drained(path: Path, key: Key, tmp_path: Path, job_id: bytes) -> None:
    trained(path, key, 1)
    rewrite_head(path, lambda head: head.__setitem__(1, job_id))
    with Pool(path) as pool, pytest.raises(PoolCorrupt, match="the head of a mirror is damaged"):
        drain(pool, NAME, tmp_path / "far")
    assert not (tmp_path / "far").exists()
