"""Reading a data set: its records stay sealed in a pool, and are opened batch by batch."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, NoReturn

import numpy as np
import numpy.typing as npt

from plinius import _core
from plinius.dataset.header import HEADER_BYTES, Header
from plinius.dataset.memory import BLOCK_BYTES, memory_of
from plinius.dataset.packing import Progress
from plinius.errors import ConfigError, IntegrityError
from plinius.pool import Extent, PoolFile, naming
from plinius.seal import Key


class SealedDataset:
    """A map-style data set whose records stay sealed in a pool and are opened when they are asked for.

    Works in forked ``DataLoader`` workers; refuses pickling, since it holds a key.

    Args:
        pool: Where it lies. It is loaded there once, every tag checked; afterwards it is simply there.
        key: The key that it was sealed with.
        source: The sealed file: a path, or a descriptor that is open for reading.
        name: What error messages call the source; without it, its path.
        progress: Called while it is loaded.
        accept: Called with the header before anything is loaded; what it raises leaves the pool as it was.

    Raises:
        ConfigError: The source is not a sealed data set.
        IntegrityError: A record does not open (named by its index), or this is not the key.
        PoolFull: The pool has no room for it.
        TypeError: There is no pool or no key.
    """

    def __init__(
        self,
        pool: PoolFile,
        key: Key,
        source: str | os.PathLike[str] | int,
        *,
        name: str | None = None,
        progress: Progress | None = None,
        accept: Callable[[Header], object] | None = None,
    ) -> None:
        if not isinstance(pool, PoolFile) or not isinstance(key, Key):
            raise TypeError(
                "a sealed data set needs an open pool and a key: SealedDataset(Pool(path), Key.load(path), ...)"
            )
        name = name or (f"descriptor {source}" if isinstance(source, int) else os.fspath(source))
        self._threads = len(os.sched_getaffinity(0))
        try:
            with open(source, "rb", buffering=0, closefd=not isinstance(source, int), opener=_open_at_once) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(0)
                self.header = Header.parse(file.read(HEADER_BYTES), name)
                self._refuse_other_key(key, name)
                if size != HEADER_BYTES + self.header.count * self.header.sealed_bytes:
                    raise IntegrityError(f"{name}: the data set was cut or lengthened: {size} bytes")
                if accept:
                    accept(self.header)
                self._reader = self._find(pool, key, name) or self._load(pool, key, file, name, progress)
        except OSError as error:
            raise ConfigError(f"cannot read the data set: {error.strerror}", path=name) from None

    @property
    def id(self) -> str:
        """The data set's random id."""
        return self.header.id.hex()

    def __len__(self) -> int:
        return self.header.count

    def __getitem__(self, index: int) -> tuple[npt.NDArray[Any], Any]:
        """One record: its image and its label.

        Raises:
            IntegrityError: Its bytes were changed.
            IndexError: There is no such record.
        """
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no record {index}: the data set has {len(self)}")
        images, labels = self.batch([index % len(self)])
        return images[0], labels[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[npt.NDArray[Any], Any]]:
        """What a ``DataLoader`` calls for a whole batch."""
        images, labels = self.batch(indices)
        return list(zip(images, labels, strict=True))

    def batch(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Opens records in one call of the core.

        Returns:
            Images ``[len(indices), ...]``, 32-bit floats from 0 to 1 where bytes are stored; and labels, 64-bit where
            integers are stored.

        Raises:
            IntegrityError: The bytes of a record were changed.
            IndexError: There is no such record.
            TypeError: They are not whole numbers, but a mask for instance.
        """
        order = [operator.index(index) for index in indices]
        header, count = self.header, len(order)
        scale = header.image_dtype == "uint8"
        images = np.empty((count, *header.image_shape), np.float32 if scale else header.image_dtype)
        labels = np.empty((count, *header.label_shape), header.label_dtype)
        if order and not 0 <= min(order) <= max(order) < len(self):
            missing = next(index for index in order if not 0 <= index < len(self))
            raise IndexError(f"there is no record {missing}: the data set has {len(self)}, counted from 0")
        self._reader.open(order, memory_of(images), memory_of(labels), scale, self._threads)
        return images, labels.astype(np.int64) if labels.dtype.kind in "iu" else labels

    def _find(self, pool: PoolFile, key: Key, name: str) -> _core.RecordReader | None:
        """The reader of the data set, where an earlier process has loaded it into the pool."""
        with naming(pool.path):
            entry = pool.find(f"data/{self.id}")
        if entry is None:
            return None
        meta, extents = entry
        if meta != self.header.encode() or len(extents) != 1:
            raise IntegrityError(f"{pool.path}: the data set in the pool has another header: one of them was changed")
        return self._open(pool, key, extents[0], name)

    def _load(
        self, pool: PoolFile, key: Key, file: BinaryIO | Any, name: str, progress: Progress | None
    ) -> _core.RecordReader:
        with naming(pool.path):
            reserved = pool.reserve()
        try:
            with naming(pool.path):
                (extent,) = reserved.more([self.header.count * self.header.sealed_bytes])
            reader = self._open(pool, key, extent, name)
            self._fill(pool, extent, reader, file, name, progress)
            with naming(pool.path):
                reserved.commit(f"data/{self.id}", self.header.encode(), [extent])
        except BaseException:
            reserved.abandon()
            raise
        return reader

    def _fill(
        self,
        pool: PoolFile,
        extent: Extent,
        reader: _core.RecordReader,
        file: BinaryIO | Any,
        name: str,
        progress: Progress | None,
    ) -> None:
        block = max(1, BLOCK_BYTES // self.header.sealed_bytes)
        for first in range(0, self.header.count, block):
            records = min(block, self.header.count - first)
            sealed = _read_exactly(file, records * self.header.sealed_bytes, name)
            with naming(pool.path):
                pool.mapping.write(extent, first * self.header.sealed_bytes, sealed)
            with naming(name):
                reader.verify(first, records, self._threads)
            if progress:
                progress(first + records, self.header.count)

    def _open(self, pool: PoolFile, key: Key, extent: Extent, name: str) -> _core.RecordReader:
        header = self.header
        derived = (header.salt, header.commitment)
        records = (header.count, header.image_bytes, header.label_bytes)
        with naming(pool.path):
            mapping = pool.mapping
        with naming(name):
            return _core.RecordReader(mapping, key.core, derived, header.encode(), records, extent)

    def _refuse_other_key(self, key: Key, name: str) -> None:
        if (self.header.key_id, self.header.cipher) != (bytes(key.core.id), key.cipher):
            raise IntegrityError(f"{name}: sealed with key {self.header.key_id.hex()}, this is key {key.id}")

    def __repr__(self) -> str:
        return f"SealedDataset(id={self.id}, records={len(self)}, image={self.header.image_shape})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a sealed data set holds a key and is not pickled; "
            "use DataLoader(..., multiprocessing_context='fork') or num_workers=0"
        )


def _open_at_once(path: str, flags: int) -> int:
    """Opens without waiting, so that a named pipe cannot hang us."""
    return os.open(path, flags | os.O_NONBLOCK)


def _read_exactly(file: BinaryIO | Any, length: int, name: str) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        part = file.read(length - len(parts))
        if not part:
            raise IntegrityError(f"{name}: the data set was cut while it was read")
        parts += part
    return bytes(parts)
