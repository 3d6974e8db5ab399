"""What a TPM's attester and verifier send each other, as msgpack, and how a quote is bound to a session."""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, TypeVar

import msgspec

from plinius.attest.report import joined
from plinius.attest.tpm_wire import MAX_PCRS
from plinius.errors import EvidenceError

TEE: Final = "tpm2"
SECRET_BYTES: Final = 32
MAX_CERTIFICATE_BYTES: Final = 4096  # of RSA 4096, they have less than 2000
_MAX_BYTES: Final = 16384  # of a message; an introduction has the largest

_T = TypeVar("_T")
_Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class Introduction(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The keys of a TPM.

    Attributes:
        ek_public: The endorsement key's TPMT_PUBLIC.
        ek_certificate: Its vendor's certificate of it (DER); empty where there is none.
        ak_public: The attestation key's TPMT_PUBLIC.
    """

    ek_public: Annotated[bytes, msgspec.Meta(max_length=512)]
    ek_certificate: Annotated[bytes, msgspec.Meta(max_length=MAX_CERTIFICATE_BYTES)]
    ak_public: Annotated[bytes, msgspec.Meta(max_length=512)]


class Credential(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A secret that only the TPM with one endorsement key and one attestation key can open.

    Attributes:
        blob: What TPM2B_ID_OBJECT holds.
        seed: What TPM2B_ENCRYPTED_SECRET holds.
    """

    blob: Annotated[bytes, msgspec.Meta(max_length=128)]
    seed: Annotated[bytes, msgspec.Meta(max_length=512)]


class Quoted(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The evidence.

    Attributes:
        report_data: What it binds.
        attested: The quote, a TPMS_ATTEST.
        signature: Its TPMT_SIGNATURE.
        pcrs: The PCRs that it is of, ascending, with their values.
    """

    report_data: _Digest
    attested: Annotated[bytes, msgspec.Meta(max_length=512)]
    signature: Annotated[bytes, msgspec.Meta(max_length=128)]
    pcrs: Annotated[list[tuple[int, _Digest]], msgspec.Meta(max_length=MAX_PCRS)]


def decode(data: bytes, kind: type[_T], what: str) -> _T:
    """Reads a message.

    Raises:
        EvidenceError: It is too large or malformed.
    """
    if len(data) > _MAX_BYTES:
        raise EvidenceError(f"{what} has {len(data)} bytes, more than {_MAX_BYTES}")
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError) as error:
        raise EvidenceError(f"{what} cannot be read: {error}") from None


def qualifying_data(report_data: bytes, secret: bytes) -> bytes:
    """What a quote signs beside the PCRs: SHA-256 of purpose, report data and the credential's secret.

    Each of the three is preceded by its length, in 8 bytes, little-endian. The secret in it shows that the TPM which
    signed holds the endorsement key too, the report data ties it to the session.
    """
    return hashlib.sha256(joined("plinius tpm2 quote 1", report_data, secret)).digest()
