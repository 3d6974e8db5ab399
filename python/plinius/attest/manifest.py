"""The manifest of a job: what is to run, and nothing else. The owner signs it; evidence is bound to its digest."""

from __future__ import annotations

import hashlib
from typing import Annotated, Final

import msgspec

from plinius.attest.release import REVEALABLE
from plinius.attest.signing import PUBLIC_KEY_BYTES, check_signature, manifest_content
from plinius.errors import EvidenceError

FORMAT_VERSION: Final = 1
MAX_MANIFEST_BYTES: Final = 1 << 19
"""A frame has room for it."""

Count = Annotated[int, msgspec.Meta(ge=1, lt=1 << 40)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class JobManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to run.

    Attributes:
        format: Of this structure.
        job: What the owner and the host call it.
        job_id: Random: what tells its freshness record from that of any other job.
        owner: The Ed25519 key with which the owner signs challenges and releases.
        code: Reference value of the measurement of the plinius that may run it (`plinius.attest.simulated`): the
            enclave compares its own before it asks for the key, the broker what simulated evidence says.
        cfg: The network's description, whole.
        cfg_name: What messages call it.
        data: The id of the sealed data set, hexadecimal.
        steps: Optimizer steps.
        every: Mirror every so many steps.
        keep: Generations that stay in the pool.
        seed: Of initialization, order and dropout.
        threads: Of the framework; None: one for each core.
        reveal: What the host may be told beside sizes, steps and timing.
    """

    format: int
    job: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$")]
    job_id: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    owner: Digest
    code: Digest
    cfg: bytes
    cfg_name: Name
    data: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    steps: Count
    every: Count
    keep: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    seed: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
    threads: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None
    reveal: list[str]


class _Signed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    body: bytes
    signature: bytes


def signed(manifest: JobManifest, signature: bytes) -> bytes:
    """A manifest with its signature, as it is kept and sent."""
    return msgspec.msgpack.encode(_Signed(body(manifest), signature))


def body(manifest: JobManifest) -> bytes:
    """The bytes that are hashed and signed."""
    return msgspec.msgpack.encode(manifest)


def digest(signed_manifest: bytes) -> bytes:
    """SHA-256 of a signed manifest, signature and all: what evidence is bound to."""
    return hashlib.sha256(signed_manifest).digest()


def parse(content: bytes) -> JobManifest:
    """Reads a signed manifest and checks its signature with the key that it names.

    Whose key that is, the signature does not say: the enclave binds its evidence to the digest of all this, and the
    owner answers for her own manifests alone.

    Raises:
        EvidenceError: It is malformed, or was changed after it was signed.
    """
    if len(content) > MAX_MANIFEST_BYTES:
        raise EvidenceError(f"a manifest has at most {MAX_MANIFEST_BYTES} bytes, this one {len(content)}")
    try:
        outer = msgspec.msgpack.decode(content, type=_Signed)
        manifest = msgspec.msgpack.decode(outer.body, type=JobManifest)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise EvidenceError(f"the manifest cannot be read: {error}") from None
    if manifest.format != FORMAT_VERSION:
        raise EvidenceError(f"the manifest has format {manifest.format}, this release reads {FORMAT_VERSION}")
    if len(manifest.owner) != PUBLIC_KEY_BYTES or not REVEALABLE.issuperset(manifest.reveal):
        raise EvidenceError(f"the manifest names a malformed key, or reveals something else than {sorted(REVEALABLE)}")
    check_signature(manifest.owner, manifest_content(outer.body), outer.signature, "the manifest")
    return manifest
