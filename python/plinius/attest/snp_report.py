"""The SEV-SNP attestation report, parsed (AMD 56860, SEV-SNP Firmware ABI Specification, 7.3, ATTESTATION_REPORT)."""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from plinius.errors import EvidenceError

REPORT_BYTES: Final = 0x4A0
SIGNED_BYTES: Final = 0x2A0
_NUMBER_BYTES: Final = 72  # of R and of S, little-endian
_SIGNATURE_END: Final = SIGNED_BYTES + 2 * _NUMBER_BYTES

_VERSIONS: Final = range(2, 6)  # the same places in all of these; what versions 3 to 5 add is not used
_ECDSA_P384_SHA384: Final = 1
# 56860, 4.3, guest policy: DEBUG, and MIGRATE_MA. Whoever launches the guest may give it a migration agent of her own
# where the latter is set, and an agent is given the keys of the memory that it exports.
_POLICY_READABLE: Final = 1 << 19 | 1 << 18
_KEY_MASKED: Final = 0b10  # the flags at 0x48: bit 1 MASK_CHIP_KEY, bits 4 to 2 SIGNING_KEY
_KEY_SIGNING: Final = 0b11100


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that are used.

    Attributes:
        signed: What the signature is over.
        signature: Its numbers R and S.
        version: Of the report's form.
        guest_svn: The guest's version, as its owner said at launch.
        policy: What the guest lets the machine's owner do.
        vmpl: The privilege level that asked for the report: 0 is the highest.
        reported_tcb: The eight bytes of the TCB that the signing key stands for.
        measurements: By name.
        report_data: What the guest bound, 64 bytes.
        chip_id: Of the processor, 64 bytes.
    """

    signed: bytes
    signature: tuple[int, int]
    version: int
    guest_svn: int
    policy: int
    vmpl: int
    reported_tcb: bytes
    measurements: dict[str, bytes]
    report_data: bytes
    chip_id: bytes

    @property
    def debug(self) -> bool:
        """Whether the machine's owner may decrypt the guest's memory, or have an agent of hers do it."""
        return bool(self.policy & _POLICY_READABLE)


def parse(report: bytes) -> Report:
    """Parses a report; nothing is verified.

    Raises:
        EvidenceError: It is not a report that is understood, or is not signed by a VCEK.
    """
    if len(report) != REPORT_BYTES:
        raise EvidenceError(f"an SNP report has {REPORT_BYTES} bytes, this one {len(report)}")
    version, guest_svn, policy = struct.unpack_from("<IIQ", report)
    vmpl, algorithm = struct.unpack_from("<II", report, 0x30)
    (flags,) = struct.unpack_from("<I", report, 0x48)
    if version not in _VERSIONS:
        raise EvidenceError(f"this SNP report has version {version}; versions 2 to 5 are understood")
    if algorithm != _ECDSA_P384_SHA384:
        raise EvidenceError(f"this SNP report is signed by algorithm {algorithm}; only ECDSA P-384 is understood")
    if flags & _KEY_SIGNING:
        raise EvidenceError("this SNP report is not signed by a VCEK (perhaps by a VLEK), which is not supported")
    if flags & _KEY_MASKED:
        raise EvidenceError("this SNP report hides the chip that made it (MASK_CHIP_ID), so no VCEK belongs to it")
    if any(report[_SIGNATURE_END:]):
        raise EvidenceError("this SNP report has bytes behind its signature")
    return Report(
        signed=report[:SIGNED_BYTES],
        signature=(_number(report, SIGNED_BYTES), _number(report, SIGNED_BYTES + _NUMBER_BYTES)),
        version=version,
        guest_svn=guest_svn,
        policy=policy,
        vmpl=vmpl,
        reported_tcb=report[0x180:0x188],
        measurements=_measurements(report, policy, vmpl),
        report_data=report[0x50:0x90],
        chip_id=report[0x1A0:0x1E0],
    )


# vmpl and the guest policy are no measurements, but they are accepted by value, not by a minimum, as measurements are.
MEASUREMENTS: Final = {
    "measurement": 48,
    "host_data": 32,
    "id_key_digest": 48,
    "author_key_digest": 48,
    "family_id": 16,
    "image_id": 16,
    "chip_id": 64,
    "guest_policy": 8,
    "vmpl": 1,
}


def _measurements(report: bytes, policy: int, vmpl: int) -> dict[str, bytes]:
    if vmpl > 3:  # noqa: PLR2004 (there are four)
        raise EvidenceError(f"this SNP report comes from privilege level {vmpl}, which does not exist")
    places = {
        "measurement": 0x90,
        "host_data": 0xC0,
        "id_key_digest": 0xE0,
        "author_key_digest": 0x110,
        "family_id": 0x10,
        "image_id": 0x20,
        "chip_id": 0x1A0,
    }
    found = {name: report[at : at + MEASUREMENTS[name]] for name, at in places.items()}
    return {**found, "guest_policy": policy.to_bytes(8, "big"), "vmpl": bytes([vmpl])}


def _number(report: bytes, at: int) -> int:
    return int.from_bytes(report[at : at + _NUMBER_BYTES], "little")
