from collections.abc import Sequence
from typing import NoReturn, Protocol, TypeAlias, final

import numpy as np
import numpy.typing as npt

__all__ = [
    "Fingerprints",
    "Key",
    "Mapping",
    "Medium",
    "Reading",
    "RecordReader",
    "Source",
    "Writing",
    "copy_in",
    "copy_out",
    "enter_sandbox",
    "key_custody",
    "open_in_cache",
    "seal_in_cache",
    "seal_records",
    "take",
]

_Memory: TypeAlias = npt.NDArray[np.uint8] | bytes
_Extent: TypeAlias = tuple[int, int]
_Sealed: TypeAlias = tuple[int, int, bytes, bytes]

class _File(Protocol):
    def fileno(self) -> int: ...

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
    @property
    def custody(self) -> str: ...
    def commitment(self, salt: bytes) -> bytes: ...
    def anchor_auth(self, job_id: bytes) -> bytes: ...
    def __reduce__(self) -> NoReturn: ...

@final
class Medium:
    @staticmethod
    def of(fd: int) -> Medium: ...

@final
class Mapping:
    @staticmethod
    def of(file: _File, flush: str) -> Mapping: ...  # a plinius._pm.Lent
    @staticmethod
    def on(medium: Medium, fd: int) -> Mapping: ...
    def close(self) -> None: ...
    @property
    def durability(self) -> str: ...
    @property
    def medium(self) -> str: ...
    def write(self, into: _Extent, at: int, memory: _Memory) -> None: ...
    def __reduce__(self) -> NoReturn: ...

@final
class Source:
    def __new__(cls, name: str, dtype: str, shape: Sequence[int], memory: _Memory) -> Source: ...
    def __reduce__(self) -> NoReturn: ...

@final
class Writing:
    def __new__(cls, mapping: Mapping, key: Key, job_id: bytes, mirror: str, written: tuple[int, int]) -> Writing: ...
    @property
    def salt(self) -> bytes: ...
    @property
    def commitment(self) -> bytes: ...
    def seal(
        self,
        buffers: Sequence[tuple[Source, bytes | None]],
        into: Sequence[_Extent],
        prints: Fingerprints,
        threads: int,
    ) -> list[tuple[_Sealed, bytes]]: ...
    def seal_manifest(self, manifest: bytes, into: _Extent) -> _Sealed: ...
    def abandon(self) -> None: ...

@final
class Fingerprints:
    def __new__(cls) -> Fingerprints: ...
    def of(self, buffers: Sequence[Source], threads: int) -> list[bytes]: ...

@final
class Reading:
    def __new__(
        cls,
        mapping: Mapping,
        key: Key,
        job_id: bytes,
        mirror: str,
        written: tuple[int, int],
        derived: tuple[bytes, bytes],
    ) -> Reading: ...
    def open(self, buffers: Sequence[tuple[str, str, Sequence[int], _Sealed, _Memory]], threads: int) -> None: ...
    def open_manifest(self, sealed: _Sealed) -> bytearray: ...

@final
class RecordReader:
    def __new__(
        cls,
        mapping: Mapping,
        key: Key,
        derived: tuple[bytes, bytes],
        header: bytes,
        records: tuple[int, int, int],
        records_at: _Extent,
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
def seal_in_cache(key: Key, lengths: Sequence[int], threads: int) -> float: ...
def open_in_cache(key: Key, lengths: Sequence[int], threads: int) -> float: ...
def copy_in(mapping: Mapping, into: Sequence[_Extent], threads: int) -> float: ...
def copy_out(mapping: Mapping, from_: Sequence[_Extent], threads: int) -> float: ...
def enter_sandbox() -> tuple[int, bool]: ...
def key_custody() -> str: ...
def take(secret: bytes) -> bytearray: ...
