"""Generations in a pool: finding the newest one, opening its manifest, and what is public of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from plinius import _core
from plinius.errors import IntegrityError
from plinius.mirror.manifest import (
    Head,
    Manifest,
    SealedAt,
    WriteRecord,
    at,
    digest,
    parse_head,
    parse_manifest,
)
from plinius.pool import Pool, naming
from plinius.seal import Key

Sealed: TypeAlias = tuple[int, int, bytes, bytes]

JOB_ID_BYTES: Final = 16
SALT_BYTES: Final = 32


def read_facts(pool: Pool, key: Key, name: str) -> dict[str, str | int | float | None] | None:
    """The facts of the newest generation of a mirror, verified; None when there is no such mirror.

    Raises:
        IntegrityError: It was changed, or this is not its key.
    """
    with naming(pool.path):
        found = newest(pool, key, name)
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
    """A committed generation, verified: what was just written, or what was found and opened."""

    head: Head
    manifest: Manifest
    digest: bytes
    extents: list[tuple[int, int]]

    def sealed(self, place: SealedAt) -> Sealed:
        """What the core needs to open a buffer of this generation."""
        return _locate(self.head, self.extents, place)


class Extents:
    """Collects the extents of a generation, in the order in which its manifest counts them."""

    def __init__(self) -> None:
        self.items: list[tuple[int, int]] = []

    def add(self, sealed: Sealed) -> SealedAt:
        """Counts the extent of a buffer that the core has sealed."""
        offset, length, nonces, tags = sealed
        if length == 0:
            return SealedAt(None, nonces, tags)
        self.items.append((offset, length))
        return SealedAt(len(self.items) - 1, nonces, tags)


def entry_name(name: str) -> str:
    """What the pool's catalog calls a mirror."""
    return f"mirror/{name}"


def public_head(pool: Pool, name: str) -> Head | None:
    """The head of a mirror as the pool has it now; not verified."""
    with naming(pool.path):
        entry = pool.core.entry(entry_name(name))
        return parse_head(bytes(entry[1])) if entry else None


def newest(pool: Pool, key: Key, name: str) -> Committed | None:
    """Finds the newest generation and opens its manifest."""
    entry = pool.core.entry(entry_name(name))
    if entry is None:
        return None
    _, meta, extents = entry
    head = parse_head(bytes(meta))
    if head.key_id != bytes(key.core.id):
        raise IntegrityError(f"the mirror {name!r} was sealed with key {head.key_id.hex()}, this is key {key.id}")
    latest = head.generations[0]
    opened = reading(pool, key, head, name, latest.written)
    plaintext = opened.open_manifest(_locate(head, extents, latest.manifest))
    manifest = parse_manifest(plaintext)
    named = (latest.written.version, latest.written.step, latest.epoch, head.cipher)
    if (manifest.version, manifest.step, manifest.epoch, key.cipher) != named:
        raise IntegrityError(f"the head of the mirror {name!r} contradicts its manifest: it was changed")
    return Committed(head, manifest, digest(plaintext), extents)


def _locate(head: Head, extents: list[tuple[int, int]], place: SealedAt) -> Sealed:
    if place.extent is None:
        return (0, 0, place.nonces, place.tags)
    index = at(head.generations[0].extents, place.extent, "extent")
    offset, length = at(extents, index, "extent")
    return (offset, length, place.nonces, place.tags)


def reading(pool: Pool, key: Key, head: Head, name: str, write: WriteRecord) -> _core.Reading:
    """Prepares to open what one write attempt sealed.

    Raises:
        IntegrityError: The attempt's key is not derived from this one.
    """
    if (len(head.job_id), len(write.salt), len(write.commitment)) != (JOB_ID_BYTES, SALT_BYTES, SALT_BYTES):
        raise IntegrityError(f"the head of the mirror {name!r} was changed")
    written, derived = (write.version, write.step), (write.salt, write.commitment)
    return _core.Reading(pool.core, key.core, head.job_id, name, written, derived)
