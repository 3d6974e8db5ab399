"""Packing a data set: on its owner's machine, once."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from plinius import _core
from plinius.dataset.header import DTYPES, MAX_RECORDS, Header
from plinius.dataset.memory import BLOCK_BYTES, memory_of
from plinius.errors import ConfigError
from plinius.files import new_file
from plinius.seal import Key

Progress = Callable[[int, int], None]
"""Called with what is done and the whole, in records."""


def seal_dataset(
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    key: Key,
    output: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
) -> Header:
    """Packs images and labels into a sealed file.

    Args:
        images: ``[count, ...]``, NumPy or what it takes (tensors), each at most four-dimensional; bytes become floats
            from 0 to 1 when they are read.
        labels: ``[count]`` class numbers, or ``[count, ...]``.
        key: The key of the job that will train on them.
        output: The file to make; an existing one is not overwritten.
        progress: Called after each block.

    Returns:
        The header of the file.

    Raises:
        ConfigError: The arrays do not fit each other, or the file exists or cannot be written.
    """
    name = os.fspath(output)
    images, labels = np.asarray(images), np.asarray(labels)
    header = _header_of(images, labels, key, name)
    with new_file(name, 0o644) as file:
        _write_records(file, header, images, labels, key, progress)
    return header


def seal_into(file: BinaryIO, images: npt.NDArray[Any], labels: npt.NDArray[Any], key: Key) -> None:
    """The same into a file that is open for writing, and may have no name."""
    _write_records(file, _header_of(images, labels, key, "a file without a name"), images, labels, key, None)


def _header_of(images: npt.NDArray[Any], labels: npt.NDArray[Any], key: Key, name: str) -> Header:
    if images.ndim < 1 or labels.ndim < 1 or len(images) != len(labels):
        raise ConfigError(f"{len(np.atleast_1d(images))} images and {len(np.atleast_1d(labels))} labels do not pair up")
    if not 0 < len(images) < MAX_RECORDS:
        raise ConfigError(f"a data set has 1 to 2^32 - 1 records, not {len(images)}")
    if images.ndim > 5 or labels.ndim > 3:  # noqa: PLR2004 (four and two dimensions behind the count)
        raise ConfigError("an image has at most four dimensions, a label at most two")
    for what, array in (("images", images), ("labels", labels)):
        if array.dtype.name not in DTYPES:
            raise ConfigError(
                f"{what} of {array.dtype} cannot be sealed; convert to one of {', '.join(sorted(DTYPES))}"
            )
    salt = secrets.token_bytes(32)
    header = Header(
        id=secrets.token_bytes(16),
        key_id=bytes(key.core.id),
        cipher=key.cipher,
        count=len(images),
        image_shape=images.shape[1:],
        label_shape=labels.shape[1:],
        image_dtype=images.dtype.name,
        label_dtype=labels.dtype.name,
        salt=salt,
        commitment=key.core.commitment(salt),
    )
    # What is sealed now must be what can be read later: the same checks, on the same bytes.
    return Header.parse(header.encode(), name)


def _write_records(
    file: BinaryIO | Any,
    header: Header,
    images: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    key: Key,
    progress: Progress | None,
) -> None:
    encoded = header.encode()
    file.write(encoded)
    block = max(1, BLOCK_BYTES // header.sealed_bytes)
    for first in range(0, header.count, block):
        some = slice(first, first + block)
        pair = ((header.image_bytes, memory_of(images[some])), (header.label_bytes, memory_of(labels[some])))
        file.write(_core.seal_records(key.core, header.salt, encoded, first, *pair))
        if progress:
            progress(min(first + block, header.count), header.count)
