"""AMD's certificates for SEV-SNP: ARK, ASK, VCEK (AMD 57230, VCEK Certificate and KDS Interface Specification)."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning

from plinius.errors import EvidenceError

# SHA-256 of the SubjectPublicKeyInfo of each product line's ARK: RSA 4096, made by AMD in 2020, 2022 and 2023.
AMD_ROOTS: Final = {
    "Milan": bytes.fromhex("9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9"),
    "Genoa": bytes.fromhex("429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831"),
    "Turin": bytes.fromhex("4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08"),
}
MAX_CERTIFICATE_BYTES: Final = 1 << 14
# What the library raises for bytes that are no certificate, some of it only when a field is looked at.
MALFORMED: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
_CHAIN_LENGTH: Final = 3
_HARDWARE_ID: Final = "1.3.6.1.4.1.3704.1.4"
_PRODUCT: Final = "1.3.6.1.4.1.3704.1.2"
_SPL: Final = "1.3.6.1.4.1.3704.1.3."
_IA5_STRING: Final = 0x16
_INTEGER: Final = 0x02
_MAX_SPL: Final = 255

# The byte of TCB_VERSION (56860, 2.2) for each number, and the last arc of its OID in a VCEK (57230, 3.1).
_BEFORE_TURIN: Final = {"bootloader": (0, 1), "tee": (1, 2), "snp": (6, 3), "microcode": (7, 8)}
_TURIN: Final = {"fmc": (0, 9), "bootloader": (1, 1), "tee": (2, 2), "snp": (3, 3), "microcode": (7, 8)}
_LAYOUTS: Final = {"Milan": _BEFORE_TURIN, "Genoa": _BEFORE_TURIN, "Turin": _TURIN}


class Endorsement(msgspec.Struct, frozen=True, kw_only=True):
    """What a verified chain says of the processor.

    Attributes:
        public_key: The VCEK's.
        root: SHA-256 of the ARK's public key.
        hardware_id: The chip's id, 64 bytes (8 from Turin on).
        layout: Where each number of the TCB is in a report.
        tcb: The numbers of the TCB that the VCEK stands for.
        valid: From when to when all three certificates are valid, and the revocation list, where there is one.
    """

    public_key: ec.EllipticCurvePublicKey
    root: bytes
    hardware_id: bytes
    layout: dict[str, int]
    tcb: dict[str, int]
    valid: tuple[datetime, datetime]


def verify_chain(
    certificates: Sequence[bytes], at: datetime, roots: Collection[bytes], revocations: bytes = b""
) -> Endorsement:
    """Verifies VCEK, ASK and ARK, in this order, each in DER.

    Args:
        certificates: The three.
        at: When.
        roots: SHA-256 of the public keys of trusted ARKs.
        revocations: AMD's revocation list of the product line in DER, which the ARK signs; empty: not looked at.

    Raises:
        EvidenceError: One is malformed, not valid at this time, revoked, or not signed by the next.
    """
    try:
        return _verified(certificates, at, roots, revocations)
    except MALFORMED as error:
        raise EvidenceError(f"a certificate of the SNP report is malformed: {error}") from None


def _verified(certificates: Sequence[bytes], at: datetime, roots: Collection[bytes], revocations: bytes) -> Endorsement:
    vcek, ask, ark = _parse(certificates)
    root = hashlib.sha256(ark.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    if root not in roots:
        raise EvidenceError(f"the root certificate is none of AMD's that are trusted: SHA-256 of its key {root.hex()}")
    for name, certificate, issuer in (("ARK", ark, ark), ("ASK", ask, ark), ("VCEK", vcek, ask)):
        _require_valid(name, certificate, at)
        _require_issued(name, certificate, issuer)
    _require_issuers(ark, ask)
    endorsement = _endorsement(vcek, root, (vcek, ask, ark))
    if not revocations:
        return endorsement
    (first, last), (listed, next_list) = endorsement.valid, _unrevoked(revocations, ark, (ask, ark), at)
    return msgspec.structs.replace(endorsement, valid=(max(first, listed), min(last, next_list)))


def _parse(certificates: Sequence[bytes]) -> list[x509.Certificate]:
    if len(certificates) != _CHAIN_LENGTH:
        raise EvidenceError(
            f"an SNP report needs three certificates (VCEK, ASK, ARK), there are {len(certificates)}; give them with "
            "--certificates, a broker in the job's folder"
        )
    if max(map(len, certificates)) > MAX_CERTIFICATE_BYTES:
        raise EvidenceError("refused a certificate: it is too long")
    return [load_certificate(certificate) for certificate in certificates]


def load_certificate(der: bytes) -> x509.Certificate:
    """Reads a certificate of AMD's.

    Raises:
        MALFORMED: It is none.
    """
    with warnings.catch_warnings():
        # AMD gives every VCEK the serial number 0, which RFC 5280, 4.1.2.2, does not allow.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        return x509.load_der_x509_certificate(der)


def _require_valid(name: str, certificate: x509.Certificate, at: datetime) -> None:
    if at < certificate.not_valid_before_utc:
        raise EvidenceError(f"the {name} is valid only from {certificate.not_valid_before_utc.isoformat()}")
    if at > certificate.not_valid_after_utc:
        raise EvidenceError(f"the {name} was valid until {certificate.not_valid_after_utc.isoformat()}")


def _require_issued(name: str, certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):  # another issuer's name or kind of key
        raise EvidenceError(f"the {name} is not signed by its issuer") from None


def _require_issuers(*issuers: x509.Certificate) -> None:
    """That what has issued certificates may do so (RFC 5280, 4.2.1.3 and 4.2.1.9)."""
    for issuer in issuers:
        basic = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
        if not (basic.ca and usage.key_cert_sign):
            raise EvidenceError("a certificate of the SNP report may not issue others")


def _unrevoked(
    revocations: bytes, ark: x509.Certificate, issued: Sequence[x509.Certificate], at: datetime
) -> tuple[datetime, datetime]:
    """From when to when the list is valid that revokes none of these."""
    try:
        crl = x509.load_der_x509_crl(revocations)
    except MALFORMED as error:
        raise EvidenceError(f"the revocation list cannot be read: {error}") from None
    if crl.issuer != ark.subject or not crl.is_signature_valid(ark.public_key()):  # type: ignore[arg-type]
        raise EvidenceError("the revocation list is not signed by the ARK")
    if crl.next_update_utc is None or not crl.last_update_utc <= at <= crl.next_update_utc:
        raise EvidenceError("the revocation list is not valid at this time; fetch the current one")
    for certificate in issued:
        if crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
            raise EvidenceError(f"AMD has revoked the certificate {certificate.subject.rfc4514_string()}")
    return crl.last_update_utc, crl.next_update_utc


def _endorsement(vcek: x509.Certificate, root: bytes, chain: Sequence[x509.Certificate]) -> Endorsement:
    public_key = vcek.public_key()
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(public_key.curve, ec.SECP384R1):
        raise EvidenceError("the VCEK's key is not on the curve P-384")
    product = _text(_extension(vcek, _PRODUCT)).partition("-")[0]
    if product not in _LAYOUTS:
        raise EvidenceError(f"the VCEK is of the product line {product!r}; {', '.join(_LAYOUTS)} are understood")
    layout = _LAYOUTS[product]
    return Endorsement(
        public_key=public_key,
        root=root,
        hardware_id=_extension(vcek, _HARDWARE_ID),
        layout={name: place for name, (place, _) in layout.items()},
        tcb={name: _spl(_extension(vcek, f"{_SPL}{arc}")) for name, (_, arc) in layout.items()},
        valid=(
            max(certificate.not_valid_before_utc for certificate in chain),
            min(certificate.not_valid_after_utc for certificate in chain),
        ),
    )


def _extension(certificate: x509.Certificate, oid: str) -> bytes:
    value = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(oid)).value
    if not isinstance(value, x509.UnrecognizedExtension):
        raise EvidenceError(f"the VCEK's extension {oid} is malformed")
    return value.value


def _text(value: bytes) -> str:
    """A DER IA5String of less than 128 characters."""
    tag, length, text = value[:1], value[1:2], value[2:]
    if tag != bytes([_IA5_STRING]) or length != bytes([len(text)]) or not text.isascii():
        raise EvidenceError("the VCEK's product name is malformed")
    return text.decode("ascii")


def _spl(value: bytes) -> int:
    """A DER INTEGER of one byte's worth."""
    tag, length, digits = value[:1], value[1:2], value[2:]
    number = int.from_bytes(digits, "big", signed=True)
    if tag != bytes([_INTEGER]) or length != bytes([len(digits)]) or not digits or not 0 <= number <= _MAX_SPL:
        raise EvidenceError("a TCB number of the VCEK is malformed")
    return number
