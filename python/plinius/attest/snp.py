"""SEV-SNP: a report, the VCEK that signed it, and what AMD's chain says of both."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from plinius.attest import snp_report
from plinius.attest.claims import Claims
from plinius.attest.fields import decode, seconds, unpadded
from plinius.attest.snp_chain import AMD_ROOTS, Endorsement, verify_chain
from plinius.attest.snp_report import Report
from plinius.errors import EvidenceError

TEE: Final = "snp"
ROOT: Final = "root"
MEASUREMENTS: Final = snp_report.MEASUREMENTS
NUMBERS: Final = frozenset(
    ("guest_svn", "report_version", *(f"tcb_{name}" for name in ("fmc", "bootloader", "tee", "snp", "microcode")))
)


class SnpEvidence(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="snp"):
    """A report and what vouches for the chip.

    Attributes:
        report: As the firmware made it, `snp_report.REPORT_BYTES` bytes.
        certificates: VCEK, ASK and ARK, each in DER; empty when the verifier brings its own.
        revocations: AMD's revocation list in DER, or empty.
    """

    report: bytes
    certificates: tuple[bytes, ...] = ()
    revocations: bytes = b""


def verify(
    evidence: bytes,
    at: datetime,
    *,
    roots: Collection[bytes] = (),
    certificates: tuple[bytes, ...] = (),
    revocations: bytes = b"",
) -> Claims:
    """Verifies a report.

    Args:
        evidence: A `SnpEvidence` in msgpack.
        at: When; the certificates are valid for years.
        roots: SHA-256 of the public keys of ARKs that are trusted beside AMD's own for Milan, Genoa and Turin.
        certificates: The verifier's own, in the place of what the evidence brings.
        revocations: The verifier's own, in the place of what the evidence brings. Without any nothing is looked up.

    Returns:
        Claims whose measurement ``root`` says which ARK it was.

    Raises:
        EvidenceError: It is malformed, or a signature, a certificate or a date does not hold, or they do not belong
            to each other.
    """
    parsed = decode(evidence, SnpEvidence)
    seconds(at)  # refuses a time without a zone
    report = snp_report.parse(parsed.report)
    endorsement = _endorsement(parsed, at, roots, certificates, revocations)
    _require_signature(report, endorsement)
    _require_chip(report, endorsement)
    tcb = {name: report.reported_tcb[place] for name, place in endorsement.layout.items()}
    if tcb != endorsement.tcb:
        raise EvidenceError("the SNP report's TCB is not the one that its VCEK stands for")
    return Claims(
        tee=TEE,
        report_data=unpadded(report.report_data),
        measurements={**report.measurements, ROOT: endorsement.root},
        debug=report.debug,
        numbers={
            "guest_svn": report.guest_svn,
            "report_version": report.version,
            **{f"tcb_{name}": number for name, number in tcb.items()},
        },
    )


def validity(
    evidence: bytes,
    at: datetime,
    *,
    roots: Collection[bytes] = (),
    certificates: tuple[bytes, ...] = (),
    revocations: bytes = b"",
) -> tuple[datetime, datetime]:
    """The first and the last second in which a report verifies, as its certificates and revocation list say.

    Raises:
        EvidenceError: Its certificates do not verify at this time.
    """
    parsed = decode(evidence, SnpEvidence)
    return _endorsement(parsed, at, roots, certificates, revocations).valid


def _endorsement(
    parsed: SnpEvidence, at: datetime, roots: Collection[bytes], certificates: tuple[bytes, ...], revocations: bytes
) -> Endorsement:
    trusted = {*AMD_ROOTS.values(), *roots}
    return verify_chain(certificates or parsed.certificates, at, trusted, revocations or parsed.revocations)


def _require_signature(report: Report, endorsement: Endorsement) -> None:
    try:
        signature = encode_dss_signature(*report.signature)
        endorsement.public_key.verify(signature, report.signed, ec.ECDSA(SHA384()))
    except (InvalidSignature, ValueError):
        raise EvidenceError("the SNP report is not signed by its VCEK, or was changed") from None


def _require_chip(report: Report, endorsement: Endorsement) -> None:
    """A chip's id has 64 bytes, from Turin on 8, and zeros behind them in the report (57230, 3.1, hwID)."""
    chip = endorsement.hardware_id
    if not any(chip) or report.chip_id != chip.ljust(len(report.chip_id), b"\0"):
        raise EvidenceError("the SNP report comes from another chip than its VCEK")
