"""Evidence in files, as the owner gets it: our own form, and what the platforms' tools write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from plinius.attest import snp
from plinius.attest.dcap import QuoteEvidence
from plinius.attest.fields import MAX_EVIDENCE_BYTES
from plinius.attest.simulated import SimulatedEvidence
from plinius.attest.snp import SnpEvidence
from plinius.attest.snp_chain import MALFORMED, load_certificate
from plinius.attest.snp_report import REPORT_BYTES
from plinius.attest.tpm2_messages import Quoted
from plinius.errors import ConfigError, EvidenceError
from plinius.files import read_small, read_start
from plinius.pool_file import is_pool

# Intel SGX DCAP ECDSA quote library, appendix A.3: the quote's header.
_TEE_TYPE_AT: Final = slice(4, 8)
_VENDOR_AT: Final = slice(12, 28)
_INTEL: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_TEE_TYPES: Final = {0x00: "sgx", 0x81: "tdx"}
_PEM: Final = b"-----BEGIN CERTIFICATE-----"


class Given(msgspec.Struct, frozen=True):
    """Evidence, and what the owner brings herself to verify it.

    Attributes:
        tee: Which TEE made it.
        evidence: In our form.
        collateral: For a quote; empty: what the evidence brings.
        certificates: For an SNP report, in DER: VCEK, ASK, ARK; empty: what the evidence brings.
        revocations: For an SNP report, in DER: AMD's revocation list; empty: what the evidence brings.
    """

    tee: str
    evidence: bytes
    collateral: str = ""
    certificates: tuple[bytes, ...] = ()
    revocations: bytes = b""


def read(
    path: str, collateral: str | None = None, certificates: Sequence[str] = (), revocations: str | None = None
) -> Given:
    """Reads a file of evidence.

    Args:
        path: Our own form, an SGX or TDX quote, or an SNP report; the last two binary or in hexadecimal digits.
        collateral: A file of collateral for a quote, JSON.
        certificates: Files with the certificates of an SNP report, DER or PEM, in any order.
        revocations: A file with AMD's revocation list for an SNP report, DER.

    Raises:
        ConfigError: A file cannot be read, or does not go with this evidence.
        EvidenceError: It is none of these forms.
    """
    content = read_start(path, MAX_EVIDENCE_BYTES + 1, "this file")  # once: it may be a pipe
    if is_pool(content):
        raise ConfigError("this is a pool, which proves nothing: name a file with evidence", path=path)
    if len(content) > MAX_EVIDENCE_BYTES:
        raise ConfigError(f"this file is too long: at most {MAX_EVIDENCE_BYTES} bytes", path=path)
    content = _unhexed(content)
    tee, evidence = _recognized(content, path)
    if collateral and tee not in _TEE_TYPES.values():
        raise ConfigError(f"--collateral is for SGX and TDX quotes, and this is {tee}", path=path)
    if certificates and tee != snp.TEE:
        raise ConfigError(f"--certificates are for SNP reports, and this is {tee}", path=path)
    if revocations is not None and tee != snp.TEE:
        raise ConfigError(f"--revocations is for SNP reports, and this is {tee}", path=path)
    text = _content(collateral).decode(errors="replace") if collateral else ""
    listed = _listed(revocations) if revocations is not None else b""
    return Given(tee, evidence, text, _chain(certificates) if certificates else (), listed)


def _recognized(content: bytes, path: str) -> tuple[str, bytes]:
    if _is_quote(content):
        return _TEE_TYPES[_tee_type(content)], msgspec.msgpack.encode(QuoteEvidence(content))
    if len(content) == REPORT_BYTES:
        return snp.TEE, msgspec.msgpack.encode(SnpEvidence(content))
    for form in (QuoteEvidence | SnpEvidence, SimulatedEvidence, Quoted):
        try:
            parsed = msgspec.msgpack.decode(content, type=form)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
        if isinstance(parsed, QuoteEvidence):
            if not _is_quote(parsed.quote):
                break
            return _TEE_TYPES[_tee_type(parsed.quote)], content
        if isinstance(parsed, Quoted):
            raise EvidenceError(
                f"{path}: a TPM's evidence proves something only in its session, in which the TPM shows that it holds "
                "the key that signed; let a broker appraise it, and see: plinius audit"
            )
        return (snp.TEE if isinstance(parsed, SnpEvidence) else "simulated"), content
    raise EvidenceError(f"{path}: this is no evidence that is known: no SGX or TDX quote, no SNP report, none of ours")


def _is_quote(content: bytes) -> bool:
    return content[_VENDOR_AT] == _INTEL and _tee_type(content) in _TEE_TYPES


def _tee_type(quote: bytes) -> int:
    return int.from_bytes(quote[_TEE_TYPE_AT], "little")


def _unhexed(content: bytes) -> bytes:
    try:
        return bytes.fromhex(content.decode("ascii").strip())
    except ValueError:
        return content


def _chain(paths: Sequence[str]) -> tuple[bytes, ...]:
    """The certificates of the files, leaf first: each is followed by the one that issued it."""
    found = [certificate for path in paths for certificate in _certificates(path)]
    issuers = {certificate.issuer for certificate in found}
    chain = [certificate for certificate in found if certificate.subject not in issuers][:1]
    while chain and chain[-1].subject != chain[-1].issuer and len(chain) < len(found):
        above = [certificate for certificate in found if certificate.subject == chain[-1].issuer]
        chain += above[:1]
        if not above:
            break
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in chain)


def _certificates(path: str) -> list[x509.Certificate]:
    content = _content(path)
    try:
        if _PEM in content:
            return x509.load_pem_x509_certificates(content)
        return [load_certificate(content)]
    except MALFORMED as error:
        raise ConfigError(f"this is no certificate in DER or PEM: {error}", path=path) from None


def _listed(path: str) -> bytes:
    content = _content(path)
    if not content:  # which would be taken for none
        raise ConfigError("this revocation list is empty; fetch it anew", path=path)
    return content


def _content(path: str) -> bytes:
    return read_small(path, MAX_EVIDENCE_BYTES, "this file")
