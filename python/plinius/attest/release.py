"""Sealing a job key to one enclave: HPKE (RFC 9180) with X25519, HKDF-SHA256 and AES-256-GCM."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from plinius.errors import ConfigError, EvidenceError, ProvisioningError
from plinius.seal import Key, take

_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_PURPOSE: Final = b"plinius key release 1"

_SMALL_BYTES: Final = 128
_OBJECTS_A_SIZE: Final = 500

REVEALABLE: Final = frozenset(("loss", "accuracy"))


class Grant(NamedTuple):
    """What an owner releases to an enclave.

    Attributes:
        key: The job's key.
        reveal: What the enclave may tell the host beside sizes, steps and timing: of `REVEALABLE`.
    """

    key: Key
    reveal: frozenset[str]


def seal_key(key: Key, public_key: bytes, bound: bytes, reveal: Collection[str] = ()) -> bytes:
    """Seals a key, and what may be revealed, to an enclave's HPKE key.

    Args:
        key: What is released.
        public_key: The enclave's X25519 key, 32 bytes, which its evidence vouches for.
        bound: The report data of the evidence: it ties the key to this session.
        reveal: What the enclave may tell the host; the host has no say in it.

    Raises:
        EvidenceError: The public key is malformed.
    """
    text = key.core.expose()
    grant = bytearray(",".join(sorted(reveal)).encode() + b"\n") + text
    try:
        recipient = X25519PublicKey.from_public_bytes(public_key)
        return _SUITE.encrypt(grant, recipient, info=_PURPOSE + bound)
    except ValueError as error:  # not 32 bytes, or a point of small order
        raise EvidenceError(f"the enclave's public key is malformed: {error}") from None
    finally:
        text[:] = bytes(len(text))
        grant[:] = bytes(len(grant))


def open_key(sealed_key: bytes, private_key: X25519PrivateKey, bound: bytes) -> Grant:
    """Opens a released key. The library returns it as Python bytes, which the core wipes.

    Raises:
        ProvisioningError: It was not sealed to this enclave in this session, or is no key.
    """
    grant = bytearray()
    try:
        grant = take(_SUITE.decrypt(sealed_key, private_key, info=_PURPOSE + bound))
        reveal, _, text = grant.partition(b"\n")
        return Grant(Key.parse(text), REVEALABLE & frozenset(reveal.decode().split(",")))
    except (InvalidTag, ValueError, ConfigError):
        raise ProvisioningError(
            "the released key does not open: it was changed, or sealed to another enclave"
        ) from None
    finally:
        grant[:] = bytes(len(grant))
        overwrite_freed_objects()


def overwrite_freed_objects() -> None:
    """Puts zeros where Python has freed small objects.

    The library derives its keys (RFC 9180, section 5.1) as Python bytes and frees them as they are. With the sealed
    message, which the host has, any of them opens the grant. They lie where they are until Python puts another object
    there: so it is made to. Python does not promise to use all that is free; a test looks at what is left.
    """
    held = [bytes(size) for size in range(_SMALL_BYTES) for _ in range(_OBJECTS_A_SIZE)]
    del held
