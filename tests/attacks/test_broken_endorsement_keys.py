"""Attack: endorsement keys and certificates at which a library fails. Stopped by: each failure is a refusal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from plinius.attest import tpm2_verify
from plinius.attest.tpm2_messages import Introduction
from plinius.attest.tpm_wire import AK_TEMPLATE, EK_PREFIX
from plinius.errors import EvidenceError

NOW = datetime(2026, 6, 1, tzinfo=UTC)
MODULUS = (1 << 2048) - 1


def introduction(modulus: int, certificate: bytes = b"") -> Introduction:
    numbers = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    point = b"".join((32).to_bytes(2, "big") + at.to_bytes(32, "big") for at in (numbers.x, numbers.y))
    return Introduction(EK_PREFIX + modulus.to_bytes(256, "big"), certificate, AK_TEMPLATE[:-4] + point)


@pytest.mark.parametrize("modulus", [0, 1, 3, 65537, 65539, (1 << 511) + 1, 1 << 2047, (1 << 2047) + 2])
def test_a_modulus_with_which_nothing_can_be_encrypted(modulus: int) -> None:
    with pytest.raises(EvidenceError, match="no RSA key"):
        tpm2_verify.challenge(msgspec.msgpack.encode(introduction(modulus)), bytes(32))


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_every_changed_byte_of_a_certificate_is_a_refusal() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a vendor")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    dated = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=1))
    root = dated.sign(key, SHA256())
    honest = root.public_bytes(Encoding.DER)
    given = introduction(MODULUS)
    for at in range(len(honest)):
        for mask in (0x01, 0x80, 0xFF):
            changed = honest[:at] + bytes([honest[at] ^ mask]) + honest[at + 1 :]
            with pytest.raises(EvidenceError):
                tpm2_verify._endorsement(msgspec.structs.replace(given, ek_certificate=changed), NOW, [root])
