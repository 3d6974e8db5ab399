"""The owner's signatures (Ed25519, RFC 8032): of manifests, challenges and releases, each with a purpose of its own."""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from plinius.attest.report import joined
from plinius.errors import EvidenceError

PUBLIC_KEY_BYTES: Final = 32


def manifest_content(body: bytes) -> bytes:
    """What is signed of a manifest."""
    return joined("plinius manifest 1", body)


def challenge_content(session: bytes, nonce: bytes, kem: str, credential: bytes, manifest: bytes) -> bytes:
    """What is signed of a challenge; `manifest` is the digest of the manifest that it is for."""
    return joined("plinius challenge 2", session, nonce, kem.encode(), credential, manifest)


def release_content(bound: bytes, sealed_key: bytes) -> bytes:
    """What is signed of a release; `bound` is the report data of the evidence that it answers."""
    return joined("plinius release 2", bound, sealed_key)


def check_signature(public_key: bytes, content: bytes, signature: bytes, what: str) -> None:
    """Checks a signature of the owner's.

    Raises:
        EvidenceError: It is not hers.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, content)
    except (InvalidSignature, ValueError):
        raise EvidenceError(f"{what} is not signed by the owner that the manifest names") from None
