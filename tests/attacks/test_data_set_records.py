"""A sealed data set with its bytes changed, swapped, cut or mixed: in the file, and in the pool."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from plinius import Key, Pool, SealedDataset, seal_dataset
from plinius.dataset import HEADER_BYTES, Header
from plinius.errors import ConfigError, IntegrityError
from small_training import flip, read_at, rewrite_entry, write_at

COUNT = 12
RECORD = 12 + 16 + 20 + 1
SHAPE_AT = 184


def seal(path: Path, key: Key, count: int = COUNT) -> Path:
    images = np.random.default_rng(3).integers(0, 256, (count, 4, 5), np.uint8)
    seal_dataset(images, np.arange(count, dtype=np.uint8), key, path)
    return path


@pytest.fixture
def sealed(folder: Path, key: Key) -> Path:
    path = seal(folder / "data.sealed", key)
    assert path.stat().st_size == HEADER_BYTES + COUNT * RECORD
    return path


def place(index: int) -> int:
    return HEADER_BYTES + index * RECORD


def refusal(sealed: Path, key: Key) -> str:
    with Pool(sealed.with_name("job.pool")) as pool:
        with pytest.raises((IntegrityError, ConfigError), match=f"^{sealed}: ") as caught:
            SealedDataset(pool, key, sealed)
        assert pool.core.entries() == []
    return str(caught.value)


@pytest.mark.parametrize("at", [0, 11, 12, 30, RECORD - 17, RECORD - 16, RECORD - 1])
def test_a_changed_byte_names_its_record(sealed: Path, key: Key, at: int) -> None:
    for index in (0, 5, COUNT - 1):
        flip(sealed, place(index) + at)
        assert f"record {index} of the data set" in refusal(sealed, key)
        flip(sealed, place(index) + at)
    with Pool(sealed.with_name("job.pool")) as pool:
        SealedDataset(pool, key, sealed)


def test_every_changed_byte_of_the_header_is_refused(sealed: Path, key: Key) -> None:
    for at in range(HEADER_BYTES):
        flip(sealed, at)
        refusal(sealed, key)
        flip(sealed, at)


@pytest.mark.parametrize("size", [0, 2**32, 2**63, 2**64 - 1])
def test_an_impossible_shape_is_refused(sealed: Path, key: Key, size: int) -> None:
    assert struct.unpack("<4Q", read_at(sealed, SHAPE_AT, 32)) == (4, 5, 0, 0)
    write_at(sealed, SHAPE_AT, struct.pack("<Q", size))
    assert "header of the data set was changed" in refusal(sealed, key)


def test_records_swapped(sealed: Path, key: Key) -> None:
    one, other = read_at(sealed, place(2), RECORD), read_at(sealed, place(9), RECORD)
    write_at(sealed, place(2), other)
    write_at(sealed, place(9), one)
    assert "record " in refusal(sealed, key)


def test_a_record_twice(sealed: Path, key: Key) -> None:
    write_at(sealed, place(4), read_at(sealed, place(3), RECORD))
    assert "record 4 " in refusal(sealed, key)


def test_a_record_of_another_data_set_under_the_same_key(sealed: Path, key: Key) -> None:
    other = seal(sealed.with_name("other.sealed"), key)
    write_at(sealed, place(3), read_at(other, place(3), RECORD))
    assert "record 3 " in refusal(sealed, key)


def test_the_header_of_another_data_set(sealed: Path, key: Key) -> None:
    other = seal(sealed.with_name("other.sealed"), key)
    write_at(sealed, 0, read_at(other, 0, HEADER_BYTES))
    refusal(sealed, key)


@pytest.mark.parametrize("length", [0, 1, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + RECORD, place(COUNT) - 1])
def test_a_file_that_is_cut(sealed: Path, key: Key, length: int) -> None:
    sealed.write_bytes(sealed.read_bytes()[:length])
    refusal(sealed, key)


def test_a_file_that_is_lengthened(sealed: Path, key: Key) -> None:
    sealed.write_bytes(sealed.read_bytes() + bytes(RECORD))
    assert "cut or lengthened" in refusal(sealed, key)


def test_fewer_records_with_a_header_that_says_so(sealed: Path, key: Key) -> None:
    content = bytearray(sealed.read_bytes()[: place(COUNT - 1)])
    assert content[40] == COUNT
    content[40] -= 1
    sealed.write_bytes(content)
    assert "record 0 " in refusal(sealed, key)


def test_a_changed_record_in_the_pool_is_found_when_it_is_used(sealed: Path, key: Key) -> None:
    pool_path = sealed.with_name("job.pool")
    with Pool(pool_path) as pool:
        data = SealedDataset(pool, key, sealed)
        ((_, _, [(offset, _)]),) = pool.core.entries()
    flip(pool_path, offset + 7 * RECORD + 20)
    with Pool(pool_path) as pool:
        data = SealedDataset(pool, key, sealed)
        data.batch([0, 1, 6, 8])
        with pytest.raises(IntegrityError, match="record 7 of the data set"):
            data.batch([6, 7, 8])
        with pytest.raises(IntegrityError, match="record 7 of the data set"):
            data[7]


def test_records_swapped_in_the_pool_and_extents_of_another_length(sealed: Path, key: Key) -> None:
    pool_path = sealed.with_name("job.pool")
    with Pool(pool_path) as pool:
        SealedDataset(pool, key, sealed)
        ((name, _, [(offset, _)]),) = pool.core.entries()
    record = read_at(pool_path, offset, RECORD)
    write_at(pool_path, offset, read_at(pool_path, offset + RECORD, RECORD))
    write_at(pool_path, offset + RECORD, record)
    with Pool(pool_path) as pool, pytest.raises(IntegrityError, match="record "):
        SealedDataset(pool, key, sealed).batch([0, 1])
    rewrite_entry(pool_path, lambda meta, extents: (meta, extents), name)
    with Pool(pool_path) as pool, pytest.raises(IntegrityError, match="has another header"):
        SealedDataset(pool, key, sealed)


def test_an_entry_in_the_pool_with_another_header(sealed: Path, key: Key) -> None:
    content = sealed.read_bytes()
    with Pool(sealed.with_name("job.pool")) as pool:
        reserved = pool.reserve()
        extents = reserved.more([COUNT * RECORD])
        reserved.write(0, 0, content[HEADER_BYTES:])
        name = f"data/{Header.parse(content[:HEADER_BYTES], 'data').id.hex()}"
        reserved.commit(name, content[: HEADER_BYTES - 1] + b"x", extents)
        with pytest.raises(IntegrityError, match="has another header"):
            SealedDataset(pool, key, sealed)
