"""Generations of a mirror as what they are to whoever has no key: a public head, and extents of ciphertext."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from plinius import _pm
from plinius.errors import PoolError
from plinius.mirror.manifest import Head, PublicGeneration, at, encode, entry_name, parse_head
from plinius.pool import OpenPool, naming

CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Ciphertext:
    """Generations of a mirror in a pool.

    Attributes:
        head: With these generations only; they count in `extents`.
        extents: Offset and length of each, every one once. The pool has checked that they are inside and apart, so
            that together they are no longer than the pool.
    """

    head: Head
    extents: tuple[tuple[int, int], ...]

    @property
    def lengths(self) -> list[int]:
        """Bytes of each extent."""
        return [length for _, length in self.extents]

    @property
    def newest(self) -> PublicGeneration:
        """The newest generation."""
        return self.head.generations[0]


def has_mirror(pool: OpenPool, name: str) -> bool:
    """Whether a pool has a mirror of this name."""
    with naming(pool.path):
        return pool.meta(entry_name(name)) is not None


def all_generations(pool: OpenPool, name: str) -> Ciphertext:
    """Everything that a pool keeps of a mirror.

    Raises:
        PoolError: There is no mirror of this name, or its head is damaged.
    """
    return _generations(pool, name, None)


def newest_generation(pool: OpenPool, name: str) -> Ciphertext:
    """The newest generation of a mirror alone.

    Raises:
        PoolError: There is no mirror of this name, or its head is damaged.
    """
    return _generations(pool, name, 1)


def still_there(pool: OpenPool, name: str, ciphertext: Ciphertext) -> bool:
    """Whether the mirror still owns all these extents, so that what was read of them is what they held."""
    with naming(pool.path):
        entry = pool.find(entry_name(name))
    return entry is not None and set(ciphertext.extents) <= set(entry[1])


def read_chunks(pool: OpenPool, extent: tuple[int, int]) -> Iterator[memoryview]:
    """The bytes of an extent, piece by piece; each piece is overwritten by the next."""
    _, length = extent
    buffer = memoryview(bytearray(min(length, CHUNK_BYTES)))
    for place in range(0, length, CHUNK_BYTES):
        chunk = buffer[: length - place]
        with naming(pool.path):
            _pm.read_extent(pool.core, extent, place, chunk)
        yield chunk


class Filling:
    """A mirror that comes to be in a pool: space is taken, filled, and named at last.

    Used as ``with Filling(...) as filling:``; what was not committed leaves nothing behind.
    """

    def __init__(self, pool: OpenPool, lengths: Sequence[int]) -> None:
        self._pool = pool
        with naming(pool.path):
            self._reserved = pool.reserve()
            try:
                self._extents = self._reserved.more(lengths)
            except BaseException:
                self._reserved.abandon()
                raise

    def write(self, index: int, place: int, chunk: bytes | memoryview) -> None:
        """Writes bytes of an extent."""
        with naming(self._pool.path):
            self._reserved.write(index, place, chunk)

    def commit(self, name: str, head: Head) -> None:
        """Makes all of it durable as the mirror of this name."""
        with naming(self._pool.path):
            self._reserved.commit(entry_name(name), encode(head), self._extents)

    def __enter__(self) -> Filling:
        return self

    def __exit__(self, *_: object) -> None:
        self._reserved.abandon()


def _generations(pool: OpenPool, name: str, count: int | None) -> Ciphertext:
    with naming(pool.path):
        entry = pool.find(entry_name(name))
        if entry is None:
            raise PoolError(f"there is no mirror {name!r}; see what there is: plinius status")
        return _selected(parse_head(entry[0]), entry[1], count)


def _selected(head: Head, extents: list[tuple[int, int]], count: int | None) -> Ciphertext:
    """The first generations of an untrusted head, counted anew in the extents that they name."""
    places: dict[int, int] = {}
    generations = []
    for generation in head.generations[:count]:
        at(generation.extents, generation.manifest.extent, "the extent of a manifest")
        for index in generation.extents:
            at(extents, index, "extent")
            places.setdefault(index, len(places))
        moved = [places[index] for index in generation.extents]
        generations.append(msgspec.structs.replace(generation, extents=moved))
    chosen = msgspec.structs.replace(head, generations=generations)
    return Ciphertext(chosen, tuple(extents[index] for index in places))
