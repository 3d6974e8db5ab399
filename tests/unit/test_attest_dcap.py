"""SGX and TDX quotes: what a real one says, when it verifies, and what is refused before a library sees it."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from evidence import AT, packed, real_quote
from plinius.attest import dcap
from plinius.attest.dcap import QuoteEvidence
from plinius.attest.fields import MAX_EVIDENCE_BYTES, unpadded
from plinius.errors import ConfigError, EvidenceError

SECOND = timedelta(seconds=1)
# From the later issue date of Intel's two statements until what ends first: the QE identity, or a revocation list.
WINDOWS = {
    "sgx": (datetime(2025, 6, 19, 10, 56, 11, tzinfo=UTC), datetime(2025, 7, 19, 10, 1, 18, tzinfo=UTC)),
    "tdx": (datetime(2025, 6, 19, 10, 32, 27, tzinfo=UTC), datetime(2025, 7, 19, 10, 0, 35, tzinfo=UTC)),
}


def test_what_the_sgx_quote_says() -> None:
    claims = dcap.verify(packed(real_quote("sgx")), AT)
    assert claims.tee == "sgx"
    assert claims.report_data == b"Hello, world!".ljust(32, b"\0")
    assert claims.measurements["mrenclave"].hex().startswith("33d8736db756ed49")
    assert claims.measurements["mrsigner"].hex().startswith("815f42f11cf64430")
    assert (claims.debug, claims.trusts_os) == (False, False)
    assert claims.tcb_status == "ConfigurationAndSWHardeningNeeded"
    assert claims.advisories == ("INTEL-SA-00289", "INTEL-SA-00615")
    assert claims.numbers == {"isv_svn": 0, "tcb_evaluation_number": 17, "pce_svn": 13}


def test_what_the_tdx_quote_says() -> None:
    claims = dcap.verify(packed(real_quote("tdx")), AT)
    assert (claims.tee, claims.tcb_status, claims.advisories, claims.debug) == ("tdx", "UpToDate", (), False)
    assert len(claims.report_data) == 64  # it is not padded with zeros, so it is equal to no report data of ours
    assert claims.measurements["mrtd"].hex().startswith("91eb2b44d141d4ec")
    assert claims.measurements["rtmr2"].hex().startswith("d833feef2cd94514")


@pytest.mark.parametrize("tee", ["sgx", "tdx"])
def test_every_measurement_and_number_is_one_that_a_policy_may_name(tee: str) -> None:
    claims = dcap.verify(packed(real_quote(tee)), AT)
    assert {name: len(value) for name, value in claims.measurements.items()} == dcap.MEASUREMENTS[tee]
    assert claims.numbers.keys() == dcap.NUMBERS[tee]


@pytest.mark.parametrize("tee", ["sgx", "tdx"])
def test_a_quote_verifies_in_its_window_and_not_one_second_outside(tee: str) -> None:
    evidence, (first, last) = packed(real_quote(tee)), WINDOWS[tee]
    assert dcap.validity(evidence, AT) == (first, last)
    for inside in (first, last - SECOND):
        dcap.verify(evidence, inside)
    for outside in (first - SECOND, last):
        with pytest.raises(EvidenceError, match="does not verify"):
            dcap.verify(evidence, outside)


def test_what_is_out_of_date_is_said_with_dates() -> None:
    evidence = packed(real_quote("tdx"))
    with pytest.raises(EvidenceError, match=r": a revocation list was valid until 2026-04-03T11:21:57\+00:00; fetch"):
        dcap.verify(evidence, datetime(2026, 11, 27, tzinfo=UTC))
    with pytest.raises(EvidenceError, match="TCBInfo expired; fetch"):
        dcap.verify(evidence, datetime(2025, 7, 25, tzinfo=UTC))


@pytest.mark.parametrize(
    ("said", "plain"),
    [
        ("CertExpired { time: UnixTime(9), not_after: UnixTime(5) }", "a certificate was valid until 1970-"),
        ("CertNotValidYet { time: UnixTime(1), not_before: UnixTime(5) }", "a certificate is valid only from 1970-"),
        ("CrlExpired { time: UnixTime(9), next_update: UnixTime(999999999999999) }", "CrlExpired { time"),
        ("UnknownIssuer", "UnknownIssuer"),
    ],
)
def test_the_librarys_structures_are_put_into_words(said: str, plain: str) -> None:
    assert dcap._dated(f"Verification failed: {said}").startswith(f"Verification failed: {plain}")


def test_the_window_is_enforced_whatever_the_library_says(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence, (first, last) = packed(real_quote("sgx")), WINDOWS["sgx"]
    always = dcap._verified
    monkeypatch.setattr(dcap, "_verified", lambda quote, collateral, at: always(quote, collateral, int(AT.timestamp())))
    for outside, text in ((first - SECOND, "only from"), (last, "until")):
        with pytest.raises(EvidenceError, match=text):
            dcap.verify(evidence, outside)


def test_a_time_without_a_zone_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="time zone"):
        dcap.verify(packed(QuoteEvidence(b"q", "{}")), datetime(2025, 7, 1))


def test_a_quote_needs_collateral_and_the_verifiers_own_goes_first() -> None:
    quote = real_quote("sgx")
    bare = packed(QuoteEvidence(quote.quote))
    with pytest.raises(EvidenceError, match="--collateral"):
        dcap.verify(bare, AT)
    assert dcap.verify(bare, AT, collateral=quote.collateral) == dcap.verify(packed(quote), AT)
    with pytest.raises(EvidenceError, match="does not verify"):
        dcap.verify(packed(quote), AT, collateral="{}")


@pytest.mark.parametrize(("quote", "other"), [("sgx", "tdx"), ("tdx", "sgx")])
def test_collateral_of_another_platform_is_refused(quote: str, other: str) -> None:
    with pytest.raises(EvidenceError, match="does not verify"):
        dcap.verify(packed(QuoteEvidence(real_quote(quote).quote, real_quote(other).collateral)), AT)


def test_collateral_brings_no_root_of_its_own() -> None:
    quote = real_quote("sgx")
    collateral = json.loads(quote.collateral)
    leaf = collateral["tcb_info_issuer_chain"].split("-----END")[0] + "-----END CERTIFICATE-----\n"
    with pytest.raises(EvidenceError, match="does not verify"):
        dcap.verify(packed(QuoteEvidence(quote.quote, json.dumps({**collateral, "root_ca_crl": "30"}))), AT)
    alone = {**collateral, "tcb_info_issuer_chain": leaf}
    dcap.verify(packed(QuoteEvidence(quote.quote, json.dumps(alone))), AT)  # the root is built in


@pytest.mark.parametrize(
    "evidence",
    [b"", b"\xc1", b"\x93\xa5quote", msgspec.msgpack.encode(["quote", b"", "", 1]), bytes(MAX_EVIDENCE_BYTES + 1)],
)
def test_malformed_evidence_is_refused(evidence: bytes) -> None:
    with pytest.raises(EvidenceError):
        dcap.verify(evidence, AT)


def test_the_debug_bits_are_read_from_the_attributes() -> None:
    """The library refuses debug quotes itself, so no real one gets here; this is the second look."""
    evidence = packed(real_quote("tdx"))
    verified = dcap._verified(real_quote("tdx").quote, real_quote("tdx").collateral, int(AT.timestamp()))
    report = dict(verified.report["TD10"])
    assert not dcap.verify(evidence, AT).debug
    for bit in range(8):
        report["td_attributes"] = bytes([1 << bit, 0, 0, 0x10, 0, 0, 0, 0]).hex()
        assert dcap._tdx_claims(verified, report).debug
        assert dcap._tdx_claims(verified, {"base": {"base": report}}).debug
    sgx = dcap._verified(real_quote("sgx").quote, real_quote("sgx").collateral, int(AT.timestamp()))
    debug = {**sgx.report["SgxEnclave"], "attributes": "07" + "00" * 15}
    assert dcap._sgx_claims(sgx, debug).debug


def test_only_zeros_are_padding() -> None:
    assert unpadded(b"r" * 32 + bytes(32)) == b"r" * 32
    assert unpadded(b"r" * 32 + bytes(31) + b"\1") == b"r" * 32 + bytes(31) + b"\1"


def test_without_the_library_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dcap_qvl", None)
    with pytest.raises(ConfigError, match=r"pip install 'plinius\[owner\]'"):
        dcap.verify(packed(QuoteEvidence(b"q", "{}")), AT)
