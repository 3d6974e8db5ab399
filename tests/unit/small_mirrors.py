"""A mirror of a few arrays, and what a save of it writes anew."""

from __future__ import annotations

from typing import Any

from plinius import Key, Mirror, Pool
from small_training import ENTRY, NAME

LARGE = 300_000  # bytes: more than one chunk


def mirror_of(pool: Pool, key: Key, **options: Any) -> Mirror:
    return Mirror(pool, key, name=NAME, **options)


def written(pool: Pool, mirror: Mirror, step: int) -> set[int]:
    """Lengths of the extents that a save writes anew."""
    before = set((pool.core.entry(ENTRY) or ("", b"", []))[2])
    mirror.save(step)
    return {length for _, length in set((pool.core.entry(ENTRY) or ("", b"", []))[2]) - before}
