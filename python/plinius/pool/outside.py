"""What can be known of a pool without opening it: its public part, and the medium that it lies on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from plinius import _pm
from plinius.errors import PoolError
from plinius.pool.paths import naming


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
    heap_used_bytes: int
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
        facts = _pm.status(name)
        medium, durability = _pm.medium_of(name)
    entries = [
        Entry(entry_name, bytes(meta), sum(length for _, length in extents))
        for entry_name, meta, extents in facts["entries"]
    ]
    return PoolStatus(
        pool_id=bytes(facts["pool_id"]).hex(),
        bytes=facts["pool_bytes"],
        heap_used_bytes=facts["heap_used_bytes"],
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
            return _pm.medium_of(name)
        try:
            descriptor = os.open(name, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise PoolError(f"cannot try a file in this folder: {error.strerror}") from None
        try:
            return _pm.medium_of(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)


def cpu_write_back() -> str:
    """The best instruction of this CPU to write a cache line back."""
    return _pm.cpu_write_back()
