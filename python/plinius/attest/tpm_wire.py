"""Structures of the TPM 2.0, as far as evidence needs them: templates of keys, and a reader that trusts nothing.

They are named as in the TCG "TPM 2.0 Library": Part 1 "Architecture", Part 2 "Structures" (revision 1.59).
Integers are big-endian; a TPM2B is two bytes of size and so many bytes.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final, NamedTuple

from plinius.errors import EvidenceError

# Part 2, TPM_ALG_ID; the curve is a TPM_ECC_CURVE.
_RSA, _SHA256, _NULL, _AES, _CFB = 0x0001, 0x000B, 0x0010, 0x0006, 0x0043
_ECDSA, _ECC, _P256 = 0x0018, 0x0023, 0x0003
# Part 2, TPMA_OBJECT.
_ATTRIBUTES: Final = {
    "fixedTPM": 1 << 1,
    "fixedParent": 1 << 4,
    "sensitiveDataOrigin": 1 << 5,
    "restricted": 1 << 16,
    "sign": 1 << 18,
}
_USER_WITH_AUTH, _ADMIN_WITH_POLICY, _NO_DA, _DECRYPT = 1 << 6, 1 << 7, 1 << 10, 1 << 17
_FIXED: Final = _ATTRIBUTES["fixedTPM"] | _ATTRIBUTES["fixedParent"] | _ATTRIBUTES["sensitiveDataOrigin"]
_RESTRICTED: Final = _ATTRIBUTES["restricted"]
# Part 2: TPM_GENERATED_VALUE, TPM_ST_ATTEST_QUOTE, TPM_RH_ENDORSEMENT.
_GENERATED, _QUOTE, _ENDORSEMENT = 0xFF544347, 0x8018, 0x4000000B

MODULUS_BYTES: Final = 256
_COORDINATE_BYTES: Final = 32
MAX_PCRS: Final = 24

# TPM2_PolicySecret(TPM_RH_ENDORSEMENT): TCG EK Credential Profile, annex B, template L-1 (RSA 2048).
_EK_POLICY: Final = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
EK_PREFIX: Final = struct.pack(
    ">HHIH32sHHHHHIH",
    *(_RSA, _SHA256, _FIXED | _ADMIN_WITH_POLICY | _RESTRICTED | _DECRYPT, len(_EK_POLICY), _EK_POLICY),
    *(_AES, 128, _CFB, _NULL, 8 * MODULUS_BYTES, 0, MODULUS_BYTES),
)
EK_TEMPLATE: Final = EK_PREFIX + bytes(MODULUS_BYTES)


def _ecc(attributes: int, *parameters: int) -> bytes:
    return struct.pack(f">HHIH{len(parameters)}HHH", _ECC, _SHA256, attributes, 0, *parameters, 0, 0)


_AK_SCHEMES: Final = (_NULL, _ECDSA, _SHA256, _P256, _NULL)
AK_TEMPLATE: Final = _ecc(_FIXED | _USER_WITH_AUTH | _NO_DA | _RESTRICTED | _ATTRIBUTES["sign"], *_AK_SCHEMES)
# A storage root key as in the TCG TPM v2.0 Provisioning Guidance; of ECC, which is quick to make.
SRK_TEMPLATE: Final = _ecc(
    _FIXED | _USER_WITH_AUTH | _NO_DA | _RESTRICTED | _DECRYPT, _AES, 128, _CFB, _NULL, _P256, _NULL
)


class Reader:
    """Reads a structure from its beginning to its end.

    Args:
        data: What is read.
        what: What it is, for messages.
    """

    def __init__(self, data: bytes, what: str) -> None:
        self._data, self._what, self._at = data, what, 0

    def take(self, count: int) -> bytes:
        """The next bytes."""
        taken = self._data[self._at : self._at + count]
        if len(taken) != count:
            raise EvidenceError(f"{self._what} is cut off at byte {len(self._data)}")
        self._at += count
        return taken

    def integer(self, size: int) -> int:
        """The next integer of `size` bytes."""
        return int.from_bytes(self.take(size), "big")

    def sized(self, limit: int) -> bytes:
        """The next TPM2B, of at most `limit` bytes."""
        size = self.integer(2)
        if size > limit:
            raise EvidenceError(f"{self._what} holds a field of {size} bytes where at most {limit} can be")
        return self.take(size)

    def expect(self, size: int, value: int, field: str) -> None:
        """Reads an integer that can have one value only."""
        found = self.integer(size)
        if found != value:
            raise EvidenceError(f"{self._what}: {field} is {found:#x}, not {value:#x}")

    def end(self) -> None:
        """Refuses what follows."""
        if self._at != len(self._data):
            raise EvidenceError(f"{self._what} has {len(self._data) - self._at} bytes too many")


def ek_modulus(public: bytes) -> int:
    """The modulus of an endorsement key of template L-1; all else of its public area is fixed.

    Raises:
        EvidenceError: It is of another template.
    """
    prefix, modulus = public[: len(EK_PREFIX)], public[len(EK_PREFIX) :]
    if prefix != EK_PREFIX or len(modulus) != MODULUS_BYTES:
        raise EvidenceError("the endorsement key is not of TCG's template L-1 (RSA 2048)")
    return int.from_bytes(modulus, "big")


def ak_point(public: bytes) -> tuple[int, int]:
    """The point of an attestation key (Part 2, TPMT_PUBLIC).

    Raises:
        EvidenceError: It is no ECDSA key of P-256, or may sign what its TPM did not make.
    """
    reader = Reader(public, "the attestation key")
    reader.expect(2, _ECC, "its type")
    reader.expect(2, _SHA256, "the algorithm of its name")
    attributes = reader.integer(4)
    missing = [name for name, bit in _ATTRIBUTES.items() if not attributes & bit]
    if missing:
        raise EvidenceError(f"the attestation key lacks the attribute {missing[0]}, so its TPM does not vouch for it")
    reader.sized(_COORDINATE_BYTES)  # a policy of its use
    for parameter in _AK_SCHEMES:
        reader.expect(2, parameter, "a parameter")
    x, y = reader.sized(_COORDINATE_BYTES), reader.sized(_COORDINATE_BYTES)
    reader.end()
    return int.from_bytes(x, "big"), int.from_bytes(y, "big")


def name_of(public: bytes) -> bytes:
    """The Name of an object (Part 1, "Names"): its algorithm and the digest of its public area."""
    return _SHA256.to_bytes(2, "big") + hashlib.sha256(public).digest()


def qualified_name_of(public: bytes) -> bytes:
    """The Qualified Name of a primary key of the endorsement hierarchy (Part 1, "Names"): it says where it is."""
    return name_of(_ENDORSEMENT.to_bytes(4, "big") + name_of(public))


class Quote(NamedTuple):
    """What a quote says.

    Attributes:
        signer: The Qualified Name of the key that signed it.
        qualifying: What its caller had it sign too.
        clock_ms: Milliseconds that the TPM has run.
        resets: How often the machine was started.
        restarts: How often it was resumed since.
        clock_safe: Whether the clock has never been ahead of this (0 or 1).
        firmware: The TPM's version, as its vendor counts.
        pcrs: Which PCRs of the SHA-256 bank it covers, ascending.
        digest: SHA-256 over their values in this order.
    """

    signer: bytes
    qualifying: bytes
    clock_ms: int
    resets: int
    restarts: int
    clock_safe: int
    firmware: int
    pcrs: tuple[int, ...]
    digest: bytes


def parse_quote(data: bytes) -> Quote:
    """Reads a TPMS_ATTEST (Part 2) that holds a TPMS_QUOTE_INFO.

    Raises:
        EvidenceError: It is anything else.
    """
    reader = Reader(data, "the quote")
    reader.expect(4, _GENERATED, "its magic number")
    reader.expect(2, _QUOTE, "its type")
    signer, qualifying = reader.sized(34), reader.sized(66)  # a name, and a digest of the largest algorithm
    clock_ms, resets, restarts, clock_safe = (reader.integer(size) for size in (8, 4, 4, 1))
    firmware = reader.integer(8)
    reader.expect(4, 1, "the count of its PCR banks")
    reader.expect(2, _SHA256, "its PCR bank")
    chosen = reader.take(min(reader.integer(1), MAX_PCRS // 8 + 1))
    pcrs = tuple(bit for bit in range(8 * len(chosen)) if chosen[bit // 8] >> bit % 8 & 1)
    digest = reader.sized(32)
    reader.end()
    if len(chosen) * 8 > MAX_PCRS or not pcrs:
        raise EvidenceError(f"the quote must cover some of PCR 0 to {MAX_PCRS - 1}")
    return Quote(signer, qualifying, clock_ms, resets, restarts, clock_safe, firmware, pcrs, digest)


def parse_signature(data: bytes) -> tuple[int, int]:
    """Reads a TPMT_SIGNATURE (Part 2) of ECDSA with SHA-256.

    Raises:
        EvidenceError: It is anything else.
    """
    reader = Reader(data, "the signature of the quote")
    reader.expect(2, _ECDSA, "its algorithm")
    reader.expect(2, _SHA256, "its hash")
    r, s = reader.sized(_COORDINATE_BYTES), reader.sized(_COORDINATE_BYTES)
    reader.end()
    return int.from_bytes(r, "big"), int.from_bytes(s, "big")
