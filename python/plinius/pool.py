"""The pool: one file that is mapped and written with plain stores, on persistent memory or what stands in for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from plinius import _core
from plinius.errors import IntegrityError, PoolError

DEFAULT_HEAP_BYTES: Final = 2 << 20


class Pool:
    """An open pool; this process is its only writer.

    Args:
        path: The pool's file. It is created when there is none, with space allocated, readable by its owner only.
        max_bytes: The pool never grows beyond this; without it, as far as its medium goes.
        heap_bytes: Length of each of the twin heaps that hold the catalog, for a pool that is created now.

    Raises:
        PoolBusy: Another process has the pool open, and kept it for the few seconds that this waited.
        PoolCorrupt: The file is no pool, or was damaged or truncated.
        PoolVersion: The pool has a format that this release does not read.
        PoolFull: The medium has no room for a new pool.
        PoolError: The system refused something.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int | None = None,
        heap_bytes: int = DEFAULT_HEAP_BYTES,
    ) -> None:
        self.path = os.fspath(path)
        with naming(self.path):
            self.core = _core.Pool(path=self.path, max_bytes=max_bytes, heap_bytes=heap_bytes)

    @classmethod
    def from_descriptor(cls, descriptor: int, name: str) -> Pool:
        """Opens the pool behind a descriptor that is open for reading and writing; an empty file becomes a pool.

        Args:
            descriptor: Stays open and stays the caller's.
            name: What error messages call the pool.
        """
        pool = cls.__new__(cls)
        pool.path = name
        with naming(name):
            pool.core = _core.Pool(fd=descriptor, heap_bytes=DEFAULT_HEAP_BYTES)
        return pool

    @property
    def durability(self) -> str:
        """What a commit survives: ``process crash`` or ``power failure``."""
        return self.core.durability

    @property
    def medium(self) -> str:
        """What lies under the pool, in words."""
        return self.core.medium

    @property
    def bytes(self) -> int:
        """Length of the pool's file."""
        return self.core.bytes[0]

    @property
    def free_bytes(self) -> int:
        """Bytes of it that no extent uses."""
        return self.core.bytes[1]

    def close(self) -> None:
        """Closes the pool; it may be opened again, moved or copied afterwards."""
        self.core.close()

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self.core.closed:
            return f"Pool({self.path!r}, closed)"
        return f"Pool({self.path!r}, {self.bytes} bytes, {self.medium}, survives {self.durability})"


@dataclass(frozen=True)
class Entry:
    """A name in a pool's catalog, its public bytes, and how much it occupies."""

    name: str
    meta: bytes
    occupied_bytes: int


@dataclass(frozen=True)
class PoolStatus:
    """The public part of a pool, read without its lock and without a key."""

    pool_id: str
    bytes: int
    state: str
    commits: int
    medium: str
    durability: str
    entries: tuple[Entry, ...]


def status(path: str | os.PathLike[str]) -> PoolStatus:
    """Reads the public part of a pool, even while another process writes it.

    Raises:
        PoolError: There is no pool there, or it is damaged.
    """
    name = os.fspath(path)
    with naming(name):
        facts = _core.status(name)
        medium, durability = _core.medium_of(name)
    entries = [
        Entry(entry_name, bytes(meta), sum(length for _, length in extents))
        for entry_name, meta, extents in facts["entries"]
    ]
    return PoolStatus(
        pool_id=bytes(facts["pool_id"]).hex(),
        bytes=facts["pool_bytes"],
        state=facts["state"],
        commits=facts["commits"],
        medium=medium,
        durability=durability,
        entries=tuple(entries),
    )


def medium_at(path: str | os.PathLike[str]) -> tuple[str, str]:
    """What lies under a file, or would lie under one that is not there yet: the medium and its durability, in words.

    Raises:
        PoolError: There is no such folder, or the system refused to look.
    """
    name = os.fspath(path)
    if not os.path.lexists(name):
        name = str(Path(name).parent)
    with naming(name):
        if not Path(name).is_dir():
            return _core.medium_of(name)
        try:
            descriptor = os.open(name, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise PoolError(f"cannot try a file in this folder: {error.strerror}") from None
        try:
            return _core.medium_of(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)


def cpu_write_back() -> str:
    """The best instruction of this CPU to write a cache line back."""
    return _core.cpu_write_back()


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Puts the path of a pool or a data set before the message of an error that the core found in it."""
    try:
        yield
    except (PoolError, IntegrityError) as error:
        error.args = (f"{path}: {error}",)
        raise
