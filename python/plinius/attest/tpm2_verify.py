"""Verifies what `plinius.attest.tpm2` makes; needs no TPM and nothing of its software stack."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode
from cryptography.x509 import verification

from plinius.attest.claims import Claims
from plinius.attest.tpm2_messages import SECRET_BYTES, TEE, Credential, Introduction, Quoted, decode, qualifying_data
from plinius.attest.tpm_wire import (
    MAX_PCRS,
    ak_point,
    ek_modulus,
    name_of,
    parse_quote,
    parse_signature,
    qualified_name_of,
)
from plinius.errors import EvidenceError

# What a policy can ask for: lengths in bytes, and names.
MEASUREMENTS: Final = {**{f"pcr{index}": 32 for index in range(MAX_PCRS)}, "ek": 32, "ek_root": 32}
NUMBERS: Final = frozenset(("firmware_version", "reset_count", "restart_count", "clock_ms", "clock_safe"))

_EXPONENT: Final = 65537  # which a TPM means where it says 0
_SEED_BYTES: Final = 32
_EK_CERTIFICATE: Final = x509.ObjectIdentifier("2.23.133.8.1")  # TCG "EK Credential Profile": tcg-kp-EKCertificate


def challenge(introduction: bytes, secret: bytes) -> bytes:
    """Seals a secret to the TPM that has both keys of an introduction: TPM2_MakeCredential, in software.

    TCG "TPM 2.0 Library" Part 1, "Credential Protection", and annex B.10 on how a secret is shared by RSA.

    Args:
        introduction: What the attester sent.
        secret: 32 random bytes, of this session only.

    Raises:
        EvidenceError: The introduction is malformed.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"the secret of a credential has {SECRET_BYTES} bytes")
    given = decode(introduction, Introduction, "the TPM's introduction")
    ak_point(given.ak_public)
    name, seed = name_of(given.ak_public), os.urandom(_SEED_BYTES)
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), label=b"IDENTITY\0")
    # CFB is TCG's choice; the key is used once, so its zero IV is no harm, and what it gives is authenticated.
    encryptor = Cipher(AES(_kdfa(seed, b"STORAGE", name, 16)), CFB(bytes(16))).encryptor()
    hidden = encryptor.update(_sized(secret)) + encryptor.finalize()
    mac = HMAC(_kdfa(seed, b"INTEGRITY", b"", 32), hashes.SHA256())
    mac.update(hidden + name)
    blob = _sized(mac.finalize()) + hidden
    try:
        return msgspec.msgpack.encode(Credential(blob, _ek(given).encrypt(seed, oaep)))
    except ValueError:  # a modulus with which nothing can be encrypted
        raise EvidenceError("the TPM's endorsement key is no RSA key") from None


def verify(
    evidence: bytes,
    at: datetime,
    *,
    introduction: bytes,
    secret: bytes,
    roots: Sequence[x509.Certificate] = (),
) -> Claims:
    """What a TPM's evidence proves.

    Its measurements are ``pcr0`` to ``pcr23``, as far as they were quoted; ``ek``, SHA-256 of the endorsement key (as
    SubjectPublicKeyInfo, DER), which says which TPM it is; and with `roots` ``ek_root``, SHA-256 of the root (DER) that
    vouches for that key. A policy has to name one of the last two: without, any program can play a TPM.

    Args:
        evidence: What the attester made.
        at: When certificates have to be valid.
        introduction: What the attester had sent before.
        secret: What was sealed in the credential of this session.
        roots: Whose certificates of endorsement keys are believed: of the authorities that issue them, whether roots
            themselves or not. Where there are any, there has to be such a certificate.

    Raises:
        EvidenceError: It is malformed, or something about it does not hold.
    """
    given = decode(introduction, Introduction, "the TPM's introduction")
    quoted = decode(evidence, Quoted, "the TPM's evidence")
    _check_signature(given.ak_public, quoted)
    quote = parse_quote(quoted.attested)
    if quote.signer != qualified_name_of(given.ak_public):
        raise EvidenceError("the quote was signed by another key than the introduction's")
    if not hmac.compare_digest(quote.qualifying, qualifying_data(quoted.report_data, secret)):
        raise EvidenceError("the quote belongs to another session, or its TPM did not open this session's credential")
    if quote.pcrs != tuple(index for index, _ in quoted.pcrs):
        raise EvidenceError("the quote is of other PCRs than those that came with it")
    if quote.digest != hashlib.sha256(b"".join(value for _, value in quoted.pcrs)).digest():
        raise EvidenceError("the quote is of other values of the PCRs than those that came with it")
    measurements = {f"pcr{index}": value for index, value in quoted.pcrs}
    return Claims(
        tee=TEE,
        report_data=quoted.report_data,
        measurements=measurements | _endorsement(given, at, roots),
        debug=False,
        numbers={
            "firmware_version": quote.firmware,
            "reset_count": quote.resets,
            "restart_count": quote.restarts,
            "clock_ms": quote.clock_ms,
            "clock_safe": quote.clock_safe,
        },
        trusts_os=True,
    )


def _check_signature(ak_public: bytes, quoted: Quoted) -> None:
    r, s = parse_signature(quoted.signature)
    try:
        key = ec.EllipticCurvePublicNumbers(*ak_point(ak_public), ec.SECP256R1()).public_key()
        key.verify(encode_dss_signature(r, s), quoted.attested, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):  # or no point of the curve
        raise EvidenceError("the quote is not signed by the attestation key of the introduction") from None


def _endorsement(given: Introduction, at: datetime, roots: Sequence[x509.Certificate]) -> dict[str, bytes]:
    """Which TPM it is, and who vouches for it."""
    key = _spki(_ek(given))
    found = {"ek": hashlib.sha256(key).digest()}
    if not roots:
        return found
    try:
        certificate = x509.load_der_x509_certificate(given.ek_certificate)
        certified = _spki(certificate.public_key())
        chain = _verifier(roots, at).verify(certificate, []).chain
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion, verification.VerificationError) as error:
        missing = "" if given.ek_certificate else " (the TPM has none)"
        raise EvidenceError(f"no given root vouches for the endorsement key's certificate{missing}: {error}") from None
    if certified != key:
        raise EvidenceError("the certificate that came with the endorsement key is of another key")
    return found | {"ek_root": chain[-1].fingerprint(hashes.SHA256())}


def _verifier(roots: Sequence[x509.Certificate], at: datetime) -> verification.ClientVerifier:
    """Checks signature, times, and what a key is for; not the rest of an EK's extensions, which is not the web's."""
    either, lenient = verification.Criticality.AGNOSTIC, verification.ExtensionPolicy.permit_all()
    authority = lenient.require_present(x509.BasicConstraints, either, None)
    authority = authority.may_be_present(x509.KeyUsage, either, _require_issuing)
    leaf = lenient.may_be_present(x509.BasicConstraints, either, _require_no_issuer)
    leaf = leaf.may_be_present(x509.KeyUsage, either, _require_encipherment)
    leaf = leaf.may_be_present(x509.ExtendedKeyUsage, either, _require_endorsement)
    builder = verification.PolicyBuilder().store(verification.Store(list(roots))).time(at)
    return builder.extension_policies(ca_policy=authority, ee_policy=leaf).build_client_verifier()


# A certificate that names no uses is for any (RFC 5280, 4.2.1.3 and 4.2.1.12); one that names some must name ours.
def _require_issuing(_: object, __: object, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("the root may not sign certificates (keyCertSign)")


def _require_no_issuer(_: object, __: object, basic: x509.BasicConstraints | None) -> None:
    if basic is not None and basic.ca:
        raise ValueError("this is an authority's certificate, not an endorsement key's")


def _require_encipherment(_: object, __: object, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_encipherment:
        raise ValueError("this key is not for encrypting (keyEncipherment), so it is no RSA endorsement key")


def _require_endorsement(_: object, __: object, purposes: x509.ExtendedKeyUsage | None) -> None:
    if purposes is not None and _EK_CERTIFICATE not in purposes:
        shown = ", ".join(purpose.dotted_string for purpose in purposes)
        raise ValueError(f"this certificate is for {shown}, not for an endorsement key")


def _ek(given: Introduction) -> rsa.RSAPublicKey:
    try:
        return rsa.RSAPublicNumbers(_EXPONENT, ek_modulus(given.ek_public)).public_key()
    except ValueError:
        raise EvidenceError("the TPM's endorsement key is no RSA key") from None


def _spki(key: object) -> bytes:
    if not isinstance(key, rsa.RSAPublicKey):
        raise EvidenceError("the certificate that came with the endorsement key is of another kind of key")
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _kdfa(key: bytes, label: bytes, context: bytes, size: int) -> bytes:
    """KDFa (Part 1, "Key Derivation Function"): NIST SP 800-108 in counter mode with HMAC."""
    return KBKDFHMAC(
        algorithm=hashes.SHA256(),
        mode=Mode.CounterMode,
        length=size,
        rlen=4,
        llen=4,
        location=CounterLocation.BeforeFixed,
        label=label,
        context=context,
        fixed=None,
    ).derive(key)


def _sized(data: bytes) -> bytes:
    """A TPM2B."""
    return len(data).to_bytes(2, "big") + data
