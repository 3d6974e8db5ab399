"""IDX files: what MNIST's format allows is read, all else is refused in one clear error."""

from __future__ import annotations

import gzip
import os
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plinius.errors import ConfigError
from plinius.owner.idx import read_idx

TYPES = [(0x08, ">u1"), (0x09, ">i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")]


def idx(array: np.ndarray, code: int = 0x08) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file.idx"


@pytest.mark.parametrize(("code", "dtype"), TYPES)
@pytest.mark.parametrize("zipped", [False, True])
def test_every_type_is_read(file: Path, code: int, dtype: str, zipped: bool) -> None:
    array = np.arange(24, dtype=dtype).reshape(2, 3, 4)
    file.write_bytes(gzip.compress(idx(array, code)) if zipped else idx(array, code))
    read = read_idx(str(file))
    assert read.dtype == np.dtype(dtype).newbyteorder("=")
    assert read.dtype.isnative
    assert np.array_equal(read, array)


@pytest.mark.parametrize("shape", [(7,), (2, 3), (2, 3, 4), (1, 2, 3, 4), (0, 5)])
def test_every_shape_is_read(file: Path, shape: tuple[int, ...]) -> None:
    file.write_bytes(idx(np.ones(shape, np.uint8)))
    assert read_idx(str(file)).shape == shape


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_idx(str(path))
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"\0\0\x08", b"\x89PNG\r\n", b"[net]\nbatch=1", b"\0\0\x07\x01\0\0\0\0", b"\0\1\x08\x01\0\0\0\0"],
)
def test_another_file_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert "this is not an IDX file" in refusal(file)


def test_a_cut_or_lengthened_file_is_refused(file: Path) -> None:
    whole = idx(np.arange(20, dtype=np.uint8).reshape(4, 5))
    for length in range(4, len(whole)):
        file.write_bytes(whole[:length])
        assert "this IDX file " in refusal(file), length
    file.write_bytes(whole + b"\0")
    assert refusal(file) == f"this IDX file has {len(whole) + 1} bytes, its header says {len(whole)}"


def test_a_header_that_promises_more_than_any_file_has_is_refused(file: Path) -> None:
    file.write_bytes(struct.pack(">HBB8I", 0, 0x0E, 8, *[0xFFFFFFFF] * 8))
    assert "its header says" in refusal(file)
    file.write_bytes(b"\0\0\x08\xff" + b"\1" * 1020)
    assert "its header says" in refusal(file)


def test_dimensions_that_numpy_does_not_take_are_refused(file: Path) -> None:
    file.write_bytes(struct.pack(">HBB70I", 0, 8, 70, *[1] * 70) + b"\7")
    assert "a shape that no array has" in refusal(file)
    file.write_bytes(struct.pack(">HBB3I", 0, 8, 3, 0, 0xFFFFFFFF, 0xFFFFFFFF))
    assert "a shape that no array has" in refusal(file)


def test_a_damaged_gzip_is_refused(file: Path) -> None:
    whole = gzip.compress(idx(np.arange(200, dtype=np.uint8)))
    for length in range(2, len(whole), 7):
        file.write_bytes(whole[:length])
        refusal(file)
    for at in range(10, len(whole)):  # before these: flags and a time stamp
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        refusal(file)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "missing")
    assert "Is a directory" in refusal(tmp_path) or "not a regular file" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe") == "this is not a regular file"


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.idx"
    for body in (content, b"\0\0\x08" + content, b"\x1f\x8b" + content):
        file.write_bytes(body)
        with suppress(ConfigError):
            read_idx(str(file))
