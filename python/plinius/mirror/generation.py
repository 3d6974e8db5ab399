"""Generations in a pool: finding the newest one, opening its manifest, and what is public of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

from plinius import _core
from plinius.errors import ConfigError, IntegrityError
from plinius.mirror.manifest import (
    BufferRecord,
    Head,
    Manifest,
    PublicGeneration,
    SealedAt,
    WriteRecord,
    at,
    digest,
    entry_name,
    parse_head,
    parse_manifest,
)
from plinius.pool import PoolFile, naming
from plinius.seal import Key

Sealed: TypeAlias = tuple[int, int, bytes, bytes]


def read_facts(
    pool: PoolFile, key: Key, name: str, step: int | None = None
) -> dict[str, str | int | float | None] | None:
    """The facts of the newest generation of a mirror, or that of a step, verified; None when there is no such mirror.

    Raises:
        ConfigError: The pool keeps no generation of that step.
        IntegrityError: It was changed, or this is not its key.
    """
    with naming(pool.path):
        found = opened(pool, key, name, step)
    return found.manifest.facts if found else None


@dataclass(frozen=True)
class PublicMirror:
    """What anybody may know of a mirror in a pool; not verified."""

    name: str
    key_id: str
    cipher: str
    version: int
    step: int
    epoch: int
    saved_at_ns: int
    buffers_bytes: int


def public_mirrors(entries: Sequence[tuple[str, bytes, int]]) -> Iterator[PublicMirror]:
    """The public heads among a pool's catalog entries, given as name, public bytes and occupied bytes."""
    for name, meta, occupied_bytes in entries:
        if not name.startswith(entry_name("")):
            continue
        head = parse_head(meta)
        latest = head.generations[0]
        yield PublicMirror(
            name=name.removeprefix(entry_name("")),
            key_id=head.key_id.hex(),
            cipher=head.cipher,
            version=latest.written.version,
            step=latest.written.step,
            epoch=latest.epoch,
            saved_at_ns=latest.saved_at_ns,
            buffers_bytes=occupied_bytes,
        )


@dataclass(frozen=True)
class Committed:
    """A committed generation, verified: what was just written, or what was found and opened.

    Attributes:
        head: The public head of all generations that the pool keeps.
        meta: The same, as the catalog has it.
        manifest: Of this one.
        digest: Of that manifest.
        extents: Those of the catalog entry, which all generations share.
        number: Which one of the head's generations it is; 0 is the newest.
        newest: Version and digest of the newest one.
    """

    head: Head
    meta: bytes
    manifest: Manifest
    digest: bytes
    extents: list[tuple[int, int]]
    number: int
    newest: tuple[int, bytes]

    @cached_property
    def records(self) -> dict[str, BufferRecord]:
        """Its buffers by name."""
        return {record.name: record for record in self.manifest.buffers}

    def sealed(self, place: SealedAt) -> Sealed:
        """What the core needs to open a buffer of this generation."""
        return _locate(self.head.generations[self.number], self.extents, place)

    def older(self) -> list[tuple[PublicGeneration, bytes]]:
        """The kept generations before this one, newest first, with the digests by which its manifest names them."""
        return list(zip(self.head.generations[self.number + 1 :], self.manifest.kept, strict=False))


class Extents:
    """Collects extents, each once, and numbers them: those of a generation, or of the entry that holds several."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, int], int] = {}

    @property
    def items(self) -> list[tuple[int, int]]:
        """The extents, by their numbers."""
        return list(self._numbers)

    def number(self, extent: tuple[int, int]) -> int:
        """The number of an extent, which is a new one if it was not there."""
        return self._numbers.setdefault(extent, len(self._numbers))

    def add(self, sealed: Sealed) -> SealedAt:
        """Counts the extent of a sealed buffer."""
        offset, length, nonces, tags = sealed
        numbers = self._numbers
        return SealedAt(numbers.setdefault((offset, length), len(numbers)) if length else None, nonces, tags)


def is_newest(pool: PoolFile, name: str, known: Committed | None) -> bool:
    """Whether the pool has what is known here as the newest of a mirror: None is that it has none.

    Raises:
        PoolCorrupt: It has something else, and that is damaged.
        PoolVersion: It has something else, of a format that this release does not read.
    """
    with naming(pool.path):
        meta = pool.meta(entry_name(name))
        if meta == (known.meta if known else None):
            return True
        if meta is not None:
            parse_head(meta)
        return False


def opened(pool: PoolFile, key: Key, name: str, step: int | None = None) -> Committed | None:
    """Finds the generation of a step, the newest one without a step, and opens its manifest.

    Raises:
        ConfigError: The pool keeps no generation of that step.
        IntegrityError: Something was changed, or this is not its key.
    """
    entry = pool.find(entry_name(name))
    if entry is None:
        return None
    meta, extents = entry
    head = parse_head(meta)
    if head.key_id != bytes(key.core.id):
        raise IntegrityError(f"the mirror {name!r} was sealed with key {head.key_id.hex()}, this is key {key.id}")
    manifest, found = _open_manifest(pool, key, name, head, extents, 0)
    newest = Committed(head, meta, manifest, found, extents, 0, (manifest.version, found))
    return newest if step is None else kept(pool, key, name, newest, step)


def kept(pool: PoolFile, key: Key, name: str, newest: Committed, wanted: int | bytes) -> Committed:
    """Opens the manifest of one of the generations that are kept.

    An older one counts only if the newest one names it by its digest.

    Args:
        pool: Where.
        key: The job's.
        name: The mirror's.
        newest: The newest one, as it was found there.
        wanted: The step of the generation, or a digest that is among those of `newest`.

    Raises:
        ConfigError: There is no generation of that step.
        IntegrityError: Something was changed.
    """
    if wanted in (newest.manifest.step, newest.digest):
        return newest
    if isinstance(wanted, bytes):
        number = 1 + newest.manifest.kept.index(wanted)
    else:  # steps are the head's word, and checked when it is opened
        number = _number_of_step(newest.head, name, wanted)
    manifest, found = _open_manifest(pool, key, name, newest.head, newest.extents, number)
    if newest.manifest.kept[number - 1 : number] != [found]:
        raise IntegrityError(
            f"the generation of step {manifest.step} is none that the newest one names: it was changed"
        )
    return replace(newest, manifest=manifest, digest=found, number=number)


def _number_of_step(head: Head, name: str, step: int) -> int:
    steps = [generation.written.step for generation in head.generations]
    if step not in steps:
        shown = ", ".join(map(str, steps))
        raise ConfigError(f"the mirror {name!r} keeps no generation of step {step}; it has {shown}")
    return steps.index(step)


def _open_manifest(
    pool: PoolFile, key: Key, name: str, head: Head, extents: list[tuple[int, int]], number: int
) -> tuple[Manifest, bytes]:
    """Opens the manifest of one of the generations, and returns its digest too."""
    public = head.generations[number]
    plaintext = reading(pool, key, head, name, public.written).open_manifest(_locate(public, extents, public.manifest))
    manifest = parse_manifest(plaintext)
    named = (public.written.version, public.written.step, public.epoch, head.cipher)
    if (manifest.version, manifest.step, manifest.epoch, key.cipher) != named:
        raise IntegrityError(f"the head of the mirror {name!r} contradicts its manifest: it was changed")
    return manifest, digest(plaintext)


def _locate(generation: PublicGeneration, extents: list[tuple[int, int]], place: SealedAt) -> Sealed:
    if place.extent is None:
        return (0, 0, place.nonces, place.tags)
    index = at(generation.extents, place.extent, "extent")
    offset, length = at(extents, index, "extent")
    return (offset, length, place.nonces, place.tags)


def reading(pool: PoolFile, key: Key, head: Head, name: str, write: WriteRecord) -> _core.Reading:
    """Prepares to open what one write attempt sealed.

    Raises:
        IntegrityError: The attempt's key is not derived from this one.
    """
    written, derived = (write.version, write.step), (write.salt, write.commitment)
    return _core.Reading(pool.mapping, key.core, head.job_id, name, written, derived)
