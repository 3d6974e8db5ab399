"""Sealed data sets: packed once by their owner, byte-addressable in a pool, opened batch by batch.

The file is a header of 256 bytes and one sealed record after the other; ``docs/design.md`` lists the fields. Every
record is bound to the whole header and to its own index, so that nothing can be swapped, cut or mixed.
"""

from __future__ import annotations

import math
import os
import secrets
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn

import numpy as np
import numpy.typing as npt

from plinius import _core
from plinius.errors import ConfigError, IntegrityError
from plinius.pool import Pool, naming
from plinius.seal import CIPHERS, Key

HEADER_BYTES: Final = 256
_MAGIC: Final = b"PLINDATA"
_FORMAT_VERSION: Final = 1
_FRAME_BYTES: Final = 12 + 16
_FIELDS: Final = struct.Struct("<8sII16s8sQQQ32s32s16s16s16sII4Q2Q")
_MAX_RECORDS: Final = 1 << 32  # one key, random nonces: NIST SP 800-38D, section 8.3
_MAX_RECORD_BYTES: Final = 1 << 30
_DTYPES: Final = frozenset(("uint8", "int8", "uint16", "int16", "int32", "int64", "float16", "float32", "float64"))
_BLOCK_BYTES: Final = 4 << 20

Progress = Callable[[int, int], None]
"""Called with what is done and the whole, in records."""


@dataclass(frozen=True)
class Header:
    """The public header of a data set.

    Attributes:
        id: Random, names the data set.
        key_id: Public id of its key.
        cipher: Of its records.
        count: Records.
        image_shape: Of one image, as stored (channels, height, width).
        label_shape: Of one label; empty for a class number.
        image_dtype: NumPy's name.
        label_dtype: NumPy's name.
        salt: What the key of its records is derived with.
        commitment: To that key.
    """

    id: bytes
    key_id: bytes
    cipher: str
    count: int
    image_shape: tuple[int, ...]
    label_shape: tuple[int, ...]
    image_dtype: str
    label_dtype: str
    salt: bytes
    commitment: bytes

    @property
    def image_bytes(self) -> int:
        """Bytes of one image."""
        return math.prod(self.image_shape) * np.dtype(self.image_dtype).itemsize

    @property
    def label_bytes(self) -> int:
        """Bytes of one label."""
        return math.prod(self.label_shape) * np.dtype(self.label_dtype).itemsize

    @property
    def sealed_bytes(self) -> int:
        """Bytes of one sealed record."""
        return _FRAME_BYTES + self.image_bytes + self.label_bytes

    def encode(self) -> bytes:
        """The 256 bytes at the start of the file."""
        fields = _FIELDS.pack(
            _MAGIC,
            _FORMAT_VERSION,
            HEADER_BYTES,
            self.id,
            self.key_id,
            self.count,
            self.image_bytes,
            self.label_bytes,
            self.salt,
            self.commitment,
            self.cipher.encode(),
            self.image_dtype.encode(),
            self.label_dtype.encode(),
            len(self.image_shape),
            len(self.label_shape),
            *(*self.image_shape, 0, 0, 0, 0)[:4],
            *(*self.label_shape, 0, 0)[:2],
        )
        return fields.ljust(HEADER_BYTES, b"\0")

    @classmethod
    def parse(cls, raw: bytes, name: str) -> Header:
        """Parses and checks the start of a file that anybody may have changed.

        Raises:
            ConfigError: It is not the header of a data set that this release reads.
        """
        if len(raw) < HEADER_BYTES or not raw.startswith(_MAGIC):
            raise ConfigError("this is not a sealed data set; make one with: plinius seal", path=name)
        fields = _FIELDS.unpack_from(raw)
        (_, version, size, data_id, key_id, count, image_bytes, label_bytes, salt, commitment) = fields[:10]
        if (version, size) != (_FORMAT_VERSION, HEADER_BYTES):
            raise ConfigError(f"the data set has format {version}, this release reads {_FORMAT_VERSION}", path=name)
        cipher, image_dtype, label_dtype = (f.rstrip(b"\0").decode("ascii", "replace") for f in fields[10:13])
        image_ndim, label_ndim = fields[13:15]
        shapes = fields[15:19][:image_ndim], fields[19:21][:label_ndim]
        header = cls(data_id, key_id, cipher, count, *shapes, image_dtype, label_dtype, salt, commitment)
        known = cipher in CIPHERS and image_dtype in _DTYPES and label_dtype in _DTYPES
        as_said = known and (header.image_bytes, header.label_bytes) == (image_bytes, label_bytes)
        if not as_said or header.encode() != raw[:HEADER_BYTES]:
            raise ConfigError("the header of the data set was changed or is damaged", path=name)
        if not 0 < count < _MAX_RECORDS or not 0 < image_bytes + label_bytes <= _MAX_RECORD_BYTES or image_bytes == 0:
            raise ConfigError(f"the header of the data set is impossible: {count} records", path=name)
        return header


def seal_dataset(
    images: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    key: Key,
    output: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
) -> Header:
    """Packs images and labels into a sealed file.

    Args:
        images: ``[count, ...]``, each at most four-dimensional; bytes become floats from 0 to 1 when they are read.
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
    header = _header_of(images, labels, key)
    partial = Path(f"{name}.partial-{secrets.token_hex(4)}")
    try:
        if Path(name).exists():
            raise ConfigError("this file exists; name another, or remove it first", path=name)
        with partial.open("xb") as file:
            _write_records(file, header, images, labels, key, progress)
            file.flush()
            os.fsync(file.fileno())
        os.link(partial, name)
    except OSError as error:
        raise ConfigError(f"cannot write the data set: {error.strerror}", path=name) from None
    finally:
        partial.unlink(missing_ok=True)
    return header


class SealedDataset:
    """A map-style data set whose records stay sealed in a pool and are opened when they are asked for.

    Works in forked ``DataLoader`` workers; refuses pickling, since it holds a key.

    Args:
        pool: Where it lies. It is loaded there once, every tag checked; afterwards it is simply there.
        key: The key that it was sealed with.
        source: The sealed file: a path, or a descriptor that is open for reading.
        name: What error messages call the source; without it, its path.
        progress: Called while it is loaded.

    Raises:
        ConfigError: The source is not a sealed data set.
        IntegrityError: A record does not open (named by its index), or this is not the key.
        PoolFull: The pool has no room for it.
    """

    def __init__(
        self,
        pool: Pool,
        key: Key,
        source: str | os.PathLike[str] | int,
        *,
        name: str | None = None,
        progress: Progress | None = None,
    ) -> None:
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
        """
        header, count = self.header, len(indices)
        scale = header.image_dtype == "uint8"
        images = np.empty((count, *header.image_shape), np.float32 if scale else header.image_dtype)
        labels = np.empty((count, *header.label_shape), header.label_dtype)
        order = [int(index) for index in indices]
        self._reader.open(order, _memory(images), _memory(labels), scale, self._threads)
        return images, labels.astype(np.int64) if labels.dtype.kind in "iu" else labels

    def _find(self, pool: Pool, key: Key, name: str) -> _core.RecordReader | None:
        """The reader of the data set, where an earlier process has loaded it into the pool."""
        entry = pool.core.entry(f"data/{self.id}")
        if entry is None:
            return None
        _, meta, extents = entry
        if bytes(meta) != self.header.encode() or len(extents) != 1:
            raise IntegrityError(f"{pool.path}: the data set in the pool has another header: one of them was changed")
        return self._open(pool, key, extents[0], name)

    def _load(
        self, pool: Pool, key: Key, file: BinaryIO | Any, name: str, progress: Progress | None
    ) -> _core.RecordReader:
        with naming(pool.path):
            loading = _core.Loading(pool.core, self.header.count * self.header.sealed_bytes)
        try:
            reader = self._open(pool, key, loading.extent, name)
            self._fill(loading, reader, file, name, progress)
            with naming(pool.path):
                loading.commit(f"data/{self.id}", self.header.encode())
        except BaseException:
            loading.abandon()
            raise
        return reader

    def _fill(
        self,
        loading: _core.Loading,
        reader: _core.RecordReader,
        file: BinaryIO | Any,
        name: str,
        progress: Progress | None,
    ) -> None:
        block = max(1, _BLOCK_BYTES // self.header.sealed_bytes)
        for first in range(0, self.header.count, block):
            records = min(block, self.header.count - first)
            sealed = _read_exactly(file, records * self.header.sealed_bytes, name)
            loading.write(first * self.header.sealed_bytes, sealed)
            with naming(name):
                reader.verify(first, records, self._threads)
            if progress:
                progress(first + records, self.header.count)

    def _open(self, pool: Pool, key: Key, extent: tuple[int, int], name: str) -> _core.RecordReader:
        header = self.header
        derived = (header.salt, header.commitment)
        records = (header.count, header.image_bytes, header.label_bytes)
        with naming(name):
            return _core.RecordReader(pool.core, key.core, derived, header.encode(), records, extent)

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


def public_headers(entries: Sequence[tuple[str, bytes, int]]) -> Iterator[tuple[Header, int]]:
    """The data sets among a pool's catalog entries (name, public bytes, occupied bytes); not verified."""
    for name, meta, occupied_bytes in entries:
        if name.startswith("data/"):
            yield Header.parse(meta, name), occupied_bytes


def batch_indices(count: int, seed: int, step: int, batch: int) -> npt.NDArray[np.int64]:
    """Which records a step trains on: a stateless shuffle of (seed, epoch), so a position is one number.

    Args:
        count: Records in the data set.
        seed: The job's.
        step: The optimizer step, from 0.
        batch: Records a step.

    Returns:
        ``[batch]`` indices; a batch at the end of an epoch goes on with the next.
    """
    positions = np.arange(step * batch, (step + 1) * batch)
    epochs = positions // count
    order = [_permutation(count, seed, int(epoch)) for epoch in np.unique(epochs)]
    return np.stack([order[int(e - epochs[0])][p % count] for e, p in zip(epochs, positions, strict=True)])


@lru_cache(maxsize=2)
def _permutation(count: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    return generator.permutation(count)


def _header_of(images: npt.NDArray[Any], labels: npt.NDArray[Any], key: Key) -> Header:
    if images.ndim < 1 or labels.ndim < 1 or len(images) != len(labels):
        raise ConfigError(f"{len(np.atleast_1d(images))} images and {len(np.atleast_1d(labels))} labels do not pair up")
    if not 0 < len(images) < _MAX_RECORDS:
        raise ConfigError(f"a data set has 1 to 2^32 - 1 records, not {len(images)}")
    if images.ndim > 5 or labels.ndim > 3:  # noqa: PLR2004 (four and two dimensions behind the count)
        raise ConfigError("an image has at most four dimensions, a label at most two")
    for what, array in (("images", images), ("labels", labels)):
        if array.dtype.name not in _DTYPES:
            raise ConfigError(
                f"{what} of {array.dtype} cannot be sealed; convert to one of {', '.join(sorted(_DTYPES))}"
            )
    salt = secrets.token_bytes(32)
    return Header(
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
    block = max(1, _BLOCK_BYTES // header.sealed_bytes)
    for first in range(0, header.count, block):
        some = slice(first, first + block)
        pair = ((header.image_bytes, _memory(images[some])), (header.label_bytes, _memory(labels[some])))
        file.write(_core.seal_records(key.core, header.salt, encoded, first, *pair))
        if progress:
            progress(min(first + block, header.count), header.count)


def _memory(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The bytes of an array in this machine's order, without a copy where they lie so already."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(-1).view(np.uint8)


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
