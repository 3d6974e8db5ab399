"""Evidence of which a byte was changed: nothing that is signed may change, and what is not signed says nothing.

Each byte of each part is changed, one at a time. What is refused must be everything that a signature covers; what is
still accepted lies in named places outside of all signatures, and leaves what the evidence says as it was.
"""

from __future__ import annotations

import json
import re

import pytest
from evidence import AT, packed, real_quote, real_snp
from plinius.attest import dcap, snp
from plinius.attest.claims import Claims
from plinius.attest.dcap import QuoteEvidence
from plinius.attest.snp import SnpEvidence
from plinius.errors import EvidenceError

HEADER_BYTES = 48
ISSUER_SIGNATURE_BYTES = 512
BODY_BYTES = {"sgx": 384, "tdx": 584}


def changed(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def survivors(claims: Claims, content: bytes, verify: object) -> set[int]:
    """Where a changed byte is not refused; then the claims must be the same."""
    found = set()
    for at in range(len(content)):
        try:
            assert verify(changed(content, at)) == claims, at  # type: ignore[operator]
            found.add(at)
        except EvidenceError:
            pass
    return found


def unsigned_places(tee: str, quote: bytes) -> set[int]:
    """The places of a quote that no signature covers (DCAP ECDSA quote library, appendix A.4).

    They are lengths and types of the parts behind the body, the line breaks of the PEM chain, the copy of Intel's root
    certificate, in the place of which the built-in one is used, and zeros behind the end.
    """
    signature = HEADER_BYTES + BODY_BYTES[tee]
    start = quote.index(b"-----BEGIN")
    lengths = {*range(signature, signature + 4), *range(start - 6, start)}
    certified = signature + 4 + 64 + 64
    if tee == "tdx":  # type and length of the certification data that hold the QE's report
        lengths |= {*range(certified, certified + 6)}
    certificates = [match.span() for match in re.finditer(rb"-----BEGIN.*?-----END CERTIFICATE-----", quote, re.DOTALL)]
    assert len(certificates) == 3
    breaks = {at for at in range(certificates[0][0], certificates[1][1]) if quote[at] in b"\n-"}
    return lengths | breaks | {*range(certificates[1][1], len(quote))}


@pytest.mark.parametrize("tee", ["sgx", "tdx"])
def test_every_signed_byte_of_a_quote_counts(tee: str, capsys: pytest.CaptureFixture[str]) -> None:
    evidence = real_quote(tee)
    claims = dcap.verify(packed(evidence), AT)
    accepted = survivors(
        claims, evidence.quote, lambda quote: dcap.verify(packed(QuoteEvidence(quote, evidence.collateral)), AT)
    )
    assert accepted <= unsigned_places(tee, evidence.quote)
    assert len(accepted) < len(evidence.quote) / 4
    with capsys.disabled():
        print(f" {tee} quote: {len(evidence.quote) - len(accepted)} of {len(evidence.quote)} changed bytes refused")


@pytest.mark.parametrize("tee", ["sgx", "tdx"])
@pytest.mark.parametrize(
    "field", ["tcb_info", "tcb_info_signature", "qe_identity", "qe_identity_signature", "root_ca_crl", "pck_crl"]
)
def test_every_byte_of_what_intel_signed_counts(tee: str, field: str, capsys: pytest.CaptureFixture[str]) -> None:
    evidence = real_quote(tee)
    collateral = json.loads(evidence.collateral)
    claims = dcap.verify(packed(evidence), AT)

    def verify(content: bytes) -> Claims:
        text = json.dumps({**collateral, field: content.decode("latin-1")})
        return dcap.verify(packed(QuoteEvidence(evidence.quote, text)), AT)

    content = collateral[field].encode()
    assert survivors(claims, content, verify) == set()
    with capsys.disabled():
        print(f" {tee} {field}: {len(content)} of {len(content)} changed bytes refused")


@pytest.mark.parametrize("tee", ["sgx", "tdx"])
@pytest.mark.parametrize("field", ["tcb_info_issuer_chain", "qe_identity_issuer_chain"])
def test_every_byte_of_the_signing_certificate_counts(tee: str, field: str) -> None:
    """The certificate behind it is Intel's root, in the place of which the built-in one is used."""
    evidence = real_quote(tee)
    collateral = json.loads(evidence.collateral)
    claims = dcap.verify(packed(evidence), AT)
    content = collateral[field].encode()
    end = content.index(b"-----END")

    def verify(content: bytes) -> Claims:
        text = json.dumps({**collateral, field: content.decode("latin-1")})
        return dcap.verify(packed(QuoteEvidence(evidence.quote, text)), AT)

    accepted = survivors(claims, content[:end], lambda start: verify(start + content[end:]))
    assert {at for at in accepted if content[at] not in b"\n-"} == set()


def test_every_byte_of_an_snp_report_counts() -> None:
    evidence = real_snp()
    claims = snp.verify(packed(evidence), AT)
    accepted = survivors(
        claims, evidence.report, lambda report: snp.verify(packed(SnpEvidence(report, evidence.certificates)), AT)
    )
    assert accepted == set()


@pytest.mark.parametrize("index", range(3), ids=["vcek", "ask", "ark"])
def test_every_byte_of_amds_certificates_counts(index: int) -> None:
    evidence = real_snp()
    claims = snp.verify(packed(evidence), AT)

    def verify(certificate: bytes) -> Claims:
        chain = list(evidence.certificates)
        chain[index] = certificate
        return snp.verify(packed(SnpEvidence(evidence.report, tuple(chain))), AT)

    certificate = evidence.certificates[index]
    unused_bits = len(certificate) - ISSUER_SIGNATURE_BYTES - 1  # of the signature's BIT STRING; it says nothing
    assert survivors(claims, certificate, verify) <= {unused_bits}
