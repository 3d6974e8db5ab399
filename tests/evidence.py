"""Evidence for tests: real, where PLINIUS_DATA has it, and SNP reports of a root that a test makes itself."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from plinius.attest.dcap import QuoteEvidence
from plinius.attest.snp import SnpEvidence

AT = datetime.fromtimestamp(1751328000, UTC)
AMD_OID = "1.3.6.1.4.1.3704.1"
Mutate = Callable[[bytearray], None]


def real(name: str) -> bytes:
    """A file of real evidence, or the test is skipped."""
    if "PLINIUS_DATA" not in os.environ:
        pytest.skip("PLINIUS_DATA does not name the folder with real evidence (attestation/)")
    return (Path(os.environ["PLINIUS_DATA"]) / "attestation" / name).read_bytes()


def real_quote(tee: str) -> QuoteEvidence:
    pytest.importorskip("dcap_qvl", reason="quotes need the package dcap-qvl: pip install 'plinius[owner]'")
    return QuoteEvidence(real(f"{tee}_quote"), real(f"{tee}_quote_collateral.json").decode())


def real_snp() -> SnpEvidence:
    chain = x509.load_pem_x509_certificates(real("snp_cert_chain_milan.pem"))
    issuers = (certificate.public_bytes(Encoding.DER) for certificate in chain)
    return SnpEvidence(bytes.fromhex(real("snp_report_milan.hex").decode()), (real("snp_vcek_milan.der"), *issuers))


def packed(evidence: QuoteEvidence | SnpEvidence) -> bytes:
    return msgspec.msgpack.encode(evidence)


@cache
def _rsa(name: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def _vcek() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


@dataclass
class Made:
    """A chip, its certificates and its report, all as a test wants them; the defaults are in order."""

    product: bytes = b"Milan-B0"
    chip: bytes = bytes(range(1, 65))
    spl: dict[int, int] = field(default_factory=lambda: {1: 3, 2: 0, 3: 8, 8: 115})
    tcb: bytes = bytes([3, 0, 0, 0, 0, 0, 8, 115])
    policy: int = 0x30000
    flags: int = 0
    version: int = 3
    vmpl: int = 0
    ask_is_ca: bool = True
    vcek_issuer: str = "ask"
    first: datetime = datetime(2025, 1, 1, tzinfo=UTC)
    last: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    ask_serial: int = 7
    leave_out: str = ""

    @property
    def root(self) -> bytes:
        public = _rsa("ark").public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(public).digest()

    def evidence(self, revoked: int | None = None) -> SnpEvidence:
        crl = self.revocations(revoked) if revoked is not None else b""
        return SnpEvidence(self.report(), self.certificates(), crl)

    def report(self) -> bytes:
        report = bytearray(0x4A0)
        struct.pack_into("<IIQ", report, 0, self.version, 1, self.policy)
        struct.pack_into("<IIQ", report, 0x30, self.vmpl, 1, 0)
        struct.pack_into("<I", report, 0x48, self.flags)
        report[0x50:0x70] = b"r" * 32
        report[0x90:0xC0] = b"m" * 48
        report[0x180:0x188] = self.tcb
        report[0x1A0:0x1E0] = self.chip.ljust(64, b"\0")
        signature = _vcek().sign(bytes(report[:0x2A0]), ec.ECDSA(SHA384()))
        for at, number in zip((0x2A0, 0x2E8), decode_dss_signature(signature), strict=True):
            report[at : at + 72] = number.to_bytes(72, "little")
        return bytes(report)

    def certificates(self) -> tuple[bytes, ...]:
        extensions = {f"{AMD_OID}.3.{arc}": b"\x02\x01" + bytes([spl]) for arc, spl in self.spl.items() if spl < 128}
        extensions |= {f"{AMD_OID}.3.{arc}": b"\x02\x02\0" + bytes([spl]) for arc, spl in self.spl.items() if spl > 127}
        extensions[f"{AMD_OID}.2"] = b"\x16" + bytes([len(self.product)]) + self.product
        extensions[f"{AMD_OID}.4"] = self.chip
        extensions.pop(self.leave_out, None)
        ark = self._certificate("ark", "ark", _rsa("ark").public_key(), ca=True)
        ask = self._certificate("ask", "ark", _rsa("ask").public_key(), ca=self.ask_is_ca, serial=self.ask_serial)
        vcek = self._certificate("vcek", self.vcek_issuer, _vcek().public_key(), extensions=extensions)
        return tuple(certificate.public_bytes(Encoding.DER) for certificate in (vcek, ask, ark))

    def revocations(self, serial: int, issuer: str = "ark") -> bytes:
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(self.first).build()
        builder = x509.CertificateRevocationListBuilder(_name(issuer), self.first, self.last).add_revoked_certificate(
            revoked
        )
        return builder.sign(_rsa("ark"), SHA384(), rsa_padding=_PSS).public_bytes(Encoding.DER)

    def _certificate(
        self,
        name: str,
        issuer: str,
        public: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
        *,
        ca: bool | None = None,
        serial: int = 5,
        extensions: dict[str, bytes] | None = None,
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder(_name(issuer), _name(name), public, serial, self.first, self.last)
        if ca is not None:
            usage = x509.KeyUsage(
                *(False,) * 5, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False
            )
            builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
            builder = builder.add_extension(usage, critical=True)
        for oid, value in (extensions or {}).items():
            unrecognized = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
            builder = builder.add_extension(unrecognized, critical=False)
        return builder.sign(_rsa(issuer), SHA384(), rsa_padding=_PSS)


_PSS = padding.PSS(padding.MGF1(SHA384()), SHA384.digest_size)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
