"""What a mirror keeps beside its tensors: a public head in the catalog, and the sealed manifest of each generation.

Both are msgpack; ``docs/design.md`` lists the fields. The head is untrusted: it says where the manifest lies and how
it was sealed, and everything that matters is in the manifest once more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Final, TypeAlias, TypeVar

import msgspec

from plinius.errors import ConfigError, IntegrityError, PoolCorrupt, PoolVersion

FORMAT_VERSION: Final = 1
JOB_ID_BYTES: Final = 16
# It bounds what a changed head can make us read; room for millions of arrays, those of all kept generations counted.
MAX_HEAD_BYTES: Final = 1 << 24

_T = TypeVar("_T")
Facts: TypeAlias = Mapping[str, str | int | float | None]  # and a bool is an int
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
Counted: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""What a broker's database can hold."""
_JobId: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=JOB_ID_BYTES, max_length=JOB_ID_BYTES)]
_Hash: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class SealedAt(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Where a sealed buffer lies and what opens it beside the key.

    Attributes:
        extent: Index into the generation's extents; None for a buffer without bytes.
        nonces: Twelve bytes a chunk.
        tags: Sixteen bytes a chunk.
    """

    extent: int | None
    nonces: bytes
    tags: bytes


class WriteRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A write attempt that was committed: what its key is derived from, and what its buffers are bound to."""

    version: Count
    step: Count
    salt: _Hash
    commitment: _Hash


class PublicGeneration(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The public part of a committed generation.

    Attributes:
        written: The write attempt that sealed its manifest.
        epoch: Which life of the job wrote it, from 1: each restore begins one.
        saved_at_ns: Unix time.
        manifest: Where the manifest lies.
        extents: Indexes into the catalog entry's extents. The manifest counts in these, so that a generation can be
            moved to other offsets without a key.
    """

    written: WriteRecord
    epoch: int
    saved_at_ns: int
    manifest: SealedAt
    extents: list[int]


class Head(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The public head of a mirror; the generations are newest first."""

    format: int
    job_id: _JobId
    key_id: bytes
    cipher: str
    generations: list[PublicGeneration]


class BufferRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A buffer of a generation; ``write`` is an index into the manifest's writes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    write: int
    sealed: SealedAt


class AnchoredHead(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a freshness anchor last confirmed."""

    version: Counted
    digest: _Hash
    epoch: Counted


class Manifest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """All that a generation is, sealed.

    Attributes:
        version: Counts the committed generations of the job from 1.
        epoch: Which life of the job it is, from 1.
        step: The optimizer step after which it was saved.
        predecessor: Digest of the manifest before it; empty for the first.
        anchored: The last anchored head, where there is an anchor.
        kept: Digests of the older generations that the pool keeps.
        facts: What the job was started with.
        environment: What exact resumption depends on.
        writes: The write attempts that its buffers come from.
        tree: The structure of the state.
        buffers: The buffers that the structure names.
    """

    format: int
    version: int
    epoch: int
    step: int
    predecessor: bytes
    anchored: AnchoredHead | None
    kept: list[bytes]
    facts: dict[str, str | int | float | bool | None]
    environment: dict[str, str]
    writes: list[WriteRecord]
    tree: bytes
    buffers: list[BufferRecord]


class _Versioned(msgspec.Struct, frozen=True, array_like=True):
    """What every head begins with, in whatever format; the rest is skipped."""

    format: int


def entry_name(name: str) -> str:
    """What the pool's catalog calls a mirror."""
    return f"mirror/{name}"


def encode(value: Head | Manifest) -> bytes:
    """Encodes a head or a manifest.

    Raises:
        ConfigError: A head would be too long to be read again.
    """
    encoded = msgspec.msgpack.encode(value)
    if isinstance(value, Head) and len(encoded) > MAX_HEAD_BYTES:
        raise ConfigError(
            f"too many arrays in too many kept generations ({len(value.generations)}) for the mirror's head: it would "
            f"have {len(encoded)} bytes, at most {MAX_HEAD_BYTES} are read; keep fewer generations"
        )
    return encoded


def digest(manifest: bytes | bytearray) -> bytes:
    """SHA-256 of an encoded manifest, by which its successor names it."""
    return hashlib.sha256(manifest).digest()


def parse_head(meta: bytes) -> Head:
    """Parses the public head, which anybody may have changed.

    Raises:
        PoolCorrupt: It is no head.
        PoolVersion: It has a format that this release does not read.
    """
    if len(meta) > MAX_HEAD_BYTES:
        raise _damaged(f"{len(meta)} bytes")
    try:
        version = msgspec.msgpack.decode(meta, type=_Versioned).format
        if version != FORMAT_VERSION:  # told from damage
            raise PoolVersion(
                f"the mirror has format {version}, this release reads {FORMAT_VERSION}; use a matching release"
            )
        head = msgspec.msgpack.decode(meta, type=Head)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _damaged(str(error)) from None
    if not head.generations:
        raise _damaged("no generation")
    return head


def _damaged(how: str) -> PoolCorrupt:
    return PoolCorrupt(f"the head of a mirror is damaged ({how}); restore the pool from a copy")


def parse_manifest(plaintext: bytes | bytearray) -> Manifest:
    """Parses an opened manifest.

    Raises:
        IntegrityError: It was sealed with the right key, but is no manifest.
    """
    try:
        return msgspec.msgpack.decode(plaintext, type=Manifest)
    except (msgspec.MsgspecError, ValueError) as error:
        raise IntegrityError(
            f"the manifest opened but cannot be read ({error}); was it written by a newer release?"
        ) from None


def at(items: list[_T], index: int | None, what: str) -> _T:
    """The item that an untrusted index names.

    Raises:
        PoolCorrupt: There is none.
    """
    if index is None or not 0 <= index < len(items):
        raise PoolCorrupt(f"the head of a mirror names {what} {index} of {len(items)}; restore the pool from a copy")
    return items[index]
