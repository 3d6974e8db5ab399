"""Releasing a job key to one enclave: sealed with HPKE (RFC 9180) to the key that its evidence vouches for."""

from __future__ import annotations

import struct
from collections.abc import Collection
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from plinius.errors import ConfigError, EvidenceError, ProvisioningError
from plinius.mirror.manifest import AnchoredHead
from plinius.seal import Key, take

REVEALABLE: Final = frozenset(("loss", "accuracy"))
SESSION_KEY_BYTES: Final = 32

_PURPOSE: Final = b"plinius key release 2"
_MLKEM_PUBLIC_BYTES: Final = 1184  # FIPS 203, table 3: ML-KEM-768
_LENGTH: Final = struct.Struct("<I")
_SMALL_BYTES: Final = 128
_OBJECTS_A_SIZE: Final = 500


Anchor: TypeAlias = Literal["none", "broker", "tpm"]


class Terms(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is released beside the key.

    Attributes:
        reveal: What the enclave may tell the host beside sizes, steps and timing: of `REVEALABLE`.
        session_key: Seals what enclave and broker say to each other from now on; empty where there is no broker.
        anchor: Who knows how new the pool's newest generation is; terms with a name that is unknown do not open.
        anchor_every: It follows every so many generations.
        anchor_gap_s: Seconds between two writes of an anchor in a TPM.
        head: What the broker's anchor knows; None: nothing yet.
        seal_to_pcrs: The key may be kept on the machine, sealed to these PCRs of its TPM; none: it may not.
    """

    reveal: list[str] = []
    session_key: bytes = b""
    anchor: Anchor = "none"
    anchor_every: int = 1
    anchor_gap_s: int = 60
    head: AnchoredHead | None = None
    seal_to_pcrs: list[int] = []

    def __repr__(self) -> str:  # without the session's key
        return f"Terms(reveal={self.reveal}, anchor={self.anchor!r}, head={self.head})"


class Grant(NamedTuple):
    """A key that was released, and on what terms."""

    key: Key
    terms: Terms

    @property
    def reveal(self) -> frozenset[str]:
        """What the enclave may tell the host."""
        return REVEALABLE.intersection(self.terms.reveal)


class RecipientKey:
    """The enclave's key pair for one release. The private half never leaves the enclave.

    Args:
        kem: ``x25519``, or ``mlkem768-x25519``, which a quantum computer does not open either.

    Raises:
        ProvisioningError: There is no such KEM.
    """

    def __init__(self, kem: str) -> None:
        if kem not in _SUITES:
            raise ProvisioningError(f"there is no key encapsulation {kem!r}; this release has {', '.join(_SUITES)}")
        self._kem = kem
        self._x25519 = X25519PrivateKey.generate()
        self._mlkem = MLKEM768PrivateKey.generate() if kem != "x25519" else None

    @property
    def public(self) -> bytes:
        """The public half: for the hybrid, ML-KEM's encapsulation key and then X25519's."""
        mlkem = self._mlkem.public_key().public_bytes_raw() if self._mlkem else b""
        return mlkem + self._x25519.public_key().public_bytes_raw()

    def open(self, sealed_key: bytes, bound: bytes) -> Grant:
        """Opens a released key. The library returns it as Python bytes, which the core wipes.

        Args:
            sealed_key: What `seal_key` returned.
            bound: The report data of the evidence.

        Raises:
            ProvisioningError: It was not sealed to this enclave in this session, or is no key.
        """
        private: Any = MLKEM768X25519PrivateKey(self._mlkem, self._x25519) if self._mlkem else self._x25519
        try:
            return opened_content(take(_SUITES[self._kem].decrypt(sealed_key, private, info=_PURPOSE + bound)))
        except (InvalidTag, ValueError):
            raise ProvisioningError(
                "the released key does not open: it was changed, or sealed to another enclave"
            ) from None
        finally:
            overwrite_freed_objects()


def overwrite_freed_objects() -> None:
    """Puts zeros where Python has freed small objects.

    The library derives its keys (RFC 9180, section 5.1) as Python bytes and frees them as they are. With the sealed
    message, which the host has, any of them opens the grant. They lie where they are until Python puts another object
    there: so it is made to. Python does not promise to use all that is free; a test looks at what is left.
    """
    held = [bytes(size) for size in range(_SMALL_BYTES) for _ in range(_OBJECTS_A_SIZE)]
    del held


def sealable_content(key: Key, terms: Terms) -> bytearray:
    """A key and its terms as the bytes that are sealed; the caller wipes them."""
    head = msgspec.msgpack.encode(terms)
    text = key.core.expose()
    content = bytearray(_LENGTH.pack(len(head)) + head) + text
    text[:] = bytes(len(text))
    return content


def opened_content(content: bytearray) -> Grant:
    """Reads what `sealable_content` made, and wipes it.

    Raises:
        ValueError: It is none, though it was sealed as one.
    """
    try:
        (length,) = _LENGTH.unpack_from(content)
        terms = msgspec.msgpack.decode(content[_LENGTH.size : _LENGTH.size + length], type=Terms)
        return Grant(Key.parse(content[_LENGTH.size + length :]), terms)
    except (ConfigError, struct.error, msgspec.MsgspecError) as error:
        raise ValueError(str(type(error))) from None
    finally:
        content[:] = bytes(len(content))


def seal_key(key: Key, kem: str, public_key: bytes, bound: bytes, terms: Terms | Collection[str] = ()) -> bytes:
    """Seals a key, and on what terms it is released, to an enclave.

    Args:
        key: What is released.
        kem: How: see `RecipientKey`.
        public_key: The enclave's, which its evidence vouches for.
        bound: The report data of the evidence: it ties the key to this session.
        terms: Or only what may be revealed.

    Raises:
        EvidenceError: The public key is malformed.
    """
    terms = terms if isinstance(terms, Terms) else Terms(sorted(terms))
    content = sealable_content(key, terms)
    try:
        return _SUITES[kem].encrypt(content, _recipient(kem, public_key), info=_PURPOSE + bound)
    except ValueError as error:  # of another length, or a point of small order
        raise EvidenceError(f"the enclave's public key is malformed: {error}") from None
    finally:
        content[:] = bytes(len(content))


def _recipient(kem: str, public_key: bytes) -> Any:
    if kem == "x25519":
        return X25519PublicKey.from_public_bytes(public_key)
    mlkem = MLKEM768PublicKey.from_public_bytes(public_key[:_MLKEM_PUBLIC_BYTES])
    return MLKEM768X25519PublicKey(mlkem, X25519PublicKey.from_public_bytes(public_key[_MLKEM_PUBLIC_BYTES:]))


_SUITES: Final = {
    "mlkem768-x25519": Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    "x25519": Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
}
KEMS: Final = tuple(_SUITES)
"""The first is the default."""
