"""Attack: a certificate that a TPM vendor's authority issued for another use. Stopped by: what it says it is for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from plinius.attest import tpm2_verify
from plinius.attest.tpm2_messages import Introduction
from plinius.attest.tpm_wire import EK_PREFIX
from plinius.errors import EvidenceError

NOW = datetime(2026, 6, 1, tzinfo=UTC)
AUTHORITY = rsa.generate_private_key(65537, 2048)
ENDORSED = rsa.generate_private_key(65537, 2048)
CA = x509.BasicConstraints(ca=True, path_length=None)
USES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def usage(*names: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in names for name in USES})


def purposes(*oids: str) -> x509.ExtendedKeyUsage:
    return x509.ExtendedKeyUsage([x509.ObjectIdentifier(oid) for oid in oids])


def certificate(key: rsa.RSAPrivateKey, name: str, *extensions: Any) -> x509.Certificate:
    subject, issuer = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]) for text in (name, "vendor"))
    first, last = NOW - timedelta(days=1), NOW + timedelta(days=1)
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number(), first, last)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(AUTHORITY, SHA256())


def endorsed(leaf: tuple[Any, ...], root: tuple[Any, ...] = (CA, usage("key_cert_sign"))) -> dict[str, bytes]:
    modulus = ENDORSED.public_key().public_numbers().n
    issued = certificate(ENDORSED, "a key", *leaf).public_bytes(Encoding.DER)
    given = Introduction(EK_PREFIX + modulus.to_bytes(256, "big"), issued, b"")
    return tpm2_verify._endorsement(given, NOW, [certificate(AUTHORITY, "vendor", *root)])


@pytest.mark.parametrize(
    "leaf",
    [
        (),
        (usage("key_encipherment"),),
        (usage("key_encipherment", "data_encipherment"), purposes("2.23.133.8.1")),
        (x509.BasicConstraints(ca=False, path_length=None), purposes("2.23.133.8.1", "2.23.133.8.2")),
    ],
)
def test_an_endorsement_keys_certificate(leaf: tuple[Any, ...]) -> None:
    assert "ek_root" in endorsed(leaf)
    assert "ek_root" in endorsed(leaf, (CA,))


@pytest.mark.parametrize(
    ("leaf", "why"),
    [
        ((purposes(ExtendedKeyUsageOID.SERVER_AUTH.dotted_string),), "is for 1.3.6.1.5.5.7.3.1"),
        ((purposes(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE.dotted_string),), "not for an endorsement key"),
        ((purposes("2.23.133.8.3"), usage("key_encipherment")), "is for 2.23.133.8.3"),  # an attestation key's
        ((purposes("2.23.133.8.1"), usage("digital_signature")), "keyEncipherment"),
        ((CA,), "an authority's certificate"),
        ((CA, purposes("2.23.133.8.1"), usage("key_encipherment", "key_cert_sign")), "an authority's certificate"),
    ],
)
def test_another_certificate_of_the_same_authority(leaf: tuple[Any, ...], why: str) -> None:
    with pytest.raises(EvidenceError, match=rf"no given root vouches.*{why}"):
        endorsed(leaf)


def test_a_root_that_may_not_sign_certificates() -> None:
    with pytest.raises(EvidenceError, match=r"no given root vouches.*keyCertSign"):
        endorsed((), (CA, usage("crl_sign")))
