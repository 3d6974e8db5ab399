"""Right bytes in the wrong place: another tensor's, an older generation's, another job's, another mirror's."""

from __future__ import annotations

from pathlib import Path

import pytest
from plinius import Key
from plinius.errors import IntegrityError, PoolError
from small_training import (
    ENTRY,
    Extents,
    Training,
    entry_of,
    read_at,
    rewrite_entry,
    trained,
    write_at,
)


def contents_of(path: Path) -> list[bytes]:
    return [read_at(path, offset, length) for offset, length in entry_of(path)[1]]


def refused(path: Path, key: Key) -> str:
    training = Training(path, key, seed=2)
    with pytest.raises(IntegrityError) as caught:
        training.restore()
    training.close()
    return str(caught.value)


def test_two_tensors_of_one_shape_swapped(path: Path, key: Key) -> None:
    trained(path, key, 1)
    (_, one), (_, other) = entry_of(path)[1][2], entry_of(path)[1][4]
    assert one == other == 8 * 8 * 4

    def swap(meta: bytes, extents: Extents) -> tuple[bytes, Extents]:
        extents[2], extents[4] = extents[4], extents[2]
        return meta, extents

    rewrite_entry(path, swap)
    assert "model/1.weight" in refused(path, key)
    rewrite_entry(path, swap)
    assert Training(path, key).restore() == 1


def test_the_bytes_of_two_tensors_swapped(path: Path, key: Key) -> None:
    trained(path, key, 1)
    extents, contents = entry_of(path)[1], contents_of(path)
    write_at(path, extents[2][0], contents[4])
    write_at(path, extents[4][0], contents[2])
    refused(path, key)


def test_a_tensor_of_an_older_generation_put_back(path: Path, key: Key) -> None:
    trained(path, key, 1)
    older = contents_of(path)
    training = Training(path, key)
    training.restore()
    training.train(2, 2)
    training.close()
    for index, (offset, length) in enumerate(entry_of(path)[1][:-1]):
        newer = read_at(path, offset, length)
        assert len(older[index]) == length
        write_at(path, offset, older[index])
        refused(path, key)
        write_at(path, offset, newer)
    assert Training(path, key).restore() == 2


def test_an_older_manifest_under_the_newer_head(path: Path, key: Key) -> None:
    trained(path, key, 1)
    older = contents_of(path)[-1]
    training = Training(path, key)
    training.restore()
    training.train(2, 2)
    training.close()
    offset, length = entry_of(path)[1][-1]
    write_at(path, offset, older[:length].ljust(length, b"\0"))
    assert "manifest" in refused(path, key)


def test_an_older_head_over_newer_bytes(path: Path, key: Key) -> None:
    trained(path, key, 1)
    older = entry_of(path)[0]
    training = Training(path, key)
    training.restore()
    training.train(2, 2)
    training.close()
    rewrite_entry(path, lambda _, extents: (older, extents))
    refused(path, key)


def test_a_tensor_of_another_job_under_the_same_key(path: Path, key: Key, folder: Path) -> None:
    trained(path, key, 1)
    trained(folder / "other.pool", key, 1, seed=5)
    theirs = contents_of(folder / "other.pool")
    for (offset, length), other in zip(entry_of(path)[1][:-1], theirs[:-1], strict=True):
        mine = read_at(path, offset, length)
        write_at(path, offset, other)
        refused(path, key)
        write_at(path, offset, mine)


def test_the_head_and_manifest_of_another_job_under_the_same_key(path: Path, key: Key, folder: Path) -> None:
    trained(path, key, 1)
    trained(folder / "other.pool", key, 1, seed=5)
    head = entry_of(folder / "other.pool")[0]
    rewrite_entry(path, lambda _, extents: (head, extents))
    assert "manifest" in refused(path, key)
    offset, length = entry_of(path)[1][-2]
    write_at(path, offset, contents_of(folder / "other.pool")[-1][:length])
    refused(path, key)


def test_a_mirror_under_another_name(path: Path, key: Key) -> None:
    trained(path, key, 1)
    trained(path, key, 1, name="second", seed=3)
    both = {name: entry_of(path, name) for name in (ENTRY, "mirror/second")}
    rewrite_entry(path, lambda _, extents: (both["mirror/second"][0], extents))
    for (offset, length), (from_offset, from_length) in zip(both[ENTRY][1], both["mirror/second"][1], strict=True):
        assert length == from_length
        write_at(path, offset, read_at(path, from_offset, from_length))
    assert "manifest" in refused(path, key)


def test_a_pool_that_is_swapped_while_training_runs_is_not_written(path: Path, key: Key, folder: Path) -> None:
    trained(folder / "other.pool", key, 1, seed=5)
    training = Training(path, key)
    training.train(1, 1)
    other = (folder / "other.pool").read_bytes()
    write_at(path, 0, other)
    with pytest.raises(PoolError, match="somebody else wrote"):
        training.mirror.save(2)
    training.close()
    assert path.read_bytes()[: len(other)] == other


def test_another_key_is_named(path: Path, key: Key) -> None:
    trained(path, key, 1)
    other = Key.generate()
    assert f"sealed with key {key.id}, this is key {other.id}" in refused(path, other)
