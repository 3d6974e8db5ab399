from collections.abc import Sequence
from os import PathLike
from typing import NoReturn, TypeAlias, TypedDict, final

import numpy as np
import numpy.typing as npt

__all__ = [
    "Key",
    "Loading",
    "Pool",
    "Reading",
    "RecordReader",
    "Writing",
    "cpu_write_back",
    "medium_of",
    "seal_records",
    "status",
]

_Memory: TypeAlias = npt.NDArray[np.uint8] | bytes
_EntryTuple: TypeAlias = tuple[str, bytes, list[tuple[int, int]]]
_Sealed: TypeAlias = tuple[int, int, bytes, bytes]

class _Status(TypedDict):
    pool_id: bytes
    pool_bytes: int
    heap_bytes: int
    heap_used_bytes: int
    commits: int
    state: str
    entries: list[_EntryTuple]

@final
class Key:
    @staticmethod
    def generate(cipher: str) -> Key: ...
    @staticmethod
    def parse(text: bytearray) -> Key: ...
    def expose(self) -> bytearray: ...
    @property
    def id(self) -> bytes: ...
    @property
    def cipher(self) -> str: ...
    def commitment(self, salt: bytes) -> bytes: ...
    def __reduce__(self) -> NoReturn: ...

@final
class Pool:
    def __new__(
        cls,
        *,
        path: str | PathLike[str] | None = None,
        fd: int | None = None,
        max_bytes: int | None = None,
        heap_bytes: int,
    ) -> Pool: ...
    def close(self) -> None: ...
    @property
    def closed(self) -> bool: ...
    @property
    def id(self) -> bytes: ...
    @property
    def bytes(self) -> tuple[int, int]: ...
    @property
    def durability(self) -> str: ...
    @property
    def medium(self) -> str: ...
    @property
    def flush(self) -> str: ...
    def entries(self) -> list[_EntryTuple]: ...
    def entry(self, name: str) -> _EntryTuple | None: ...
    def __reduce__(self) -> NoReturn: ...

@final
class Writing:
    def __new__(cls, pool: Pool, key: Key, job_id: bytes, mirror: str, written: tuple[int, int]) -> Writing: ...
    @property
    def salt(self) -> bytes: ...
    @property
    def commitment(self) -> bytes: ...
    def seal(self, buffers: Sequence[tuple[str, str, Sequence[int], _Memory]], threads: int) -> list[_Sealed]: ...
    def abandon(self) -> None: ...
    def seal_manifest(self, manifest: bytes) -> _Sealed: ...
    def commit(self, name: str, meta: bytes, extents: Sequence[tuple[int, int]]) -> None: ...

@final
class Reading:
    def __new__(
        cls,
        pool: Pool,
        key: Key,
        job_id: bytes,
        mirror: str,
        written: tuple[int, int],
        derived: tuple[bytes, bytes],
    ) -> Reading: ...
    def open(self, buffers: Sequence[tuple[str, str, Sequence[int], _Sealed, _Memory]], threads: int) -> None: ...
    def open_manifest(self, sealed: _Sealed) -> bytearray: ...

@final
class Loading:
    def __new__(cls, pool: Pool, length: int) -> Loading: ...
    @property
    def extent(self) -> tuple[int, int]: ...
    def write(self, at: int, memory: _Memory) -> None: ...
    def abandon(self) -> None: ...
    def commit(self, name: str, meta: bytes) -> None: ...

@final
class RecordReader:
    def __new__(
        cls,
        pool: Pool,
        key: Key,
        derived: tuple[bytes, bytes],
        header: bytes,
        records: tuple[int, int, int],
        extent: tuple[int, int],
    ) -> RecordReader: ...
    def open(self, indices: Sequence[int], images: _Memory, labels: _Memory, scale: bool, threads: int) -> None: ...
    def verify(self, first: int, count: int, threads: int) -> None: ...

def seal_records(
    key: Key,
    salt: bytes,
    header: bytes,
    first: int,
    images: tuple[int, _Memory],
    labels: tuple[int, _Memory],
) -> bytes: ...
def status(path: str | PathLike[str]) -> _Status: ...
def medium_of(path: str | PathLike[str]) -> tuple[str, str]: ...
def cpu_write_back() -> str: ...
