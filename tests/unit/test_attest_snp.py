"""SEV-SNP reports: a real one, and made ones for what no real one shows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from evidence import AMD_OID, AT, Made, packed, real_snp
from plinius.attest import snp
from plinius.attest.claims import Claims
from plinius.attest.snp import SnpEvidence
from plinius.attest.snp_chain import AMD_ROOTS
from plinius.errors import EvidenceError

SECOND = timedelta(seconds=1)
WINDOW = (datetime(2023, 4, 3, 19, 23, 43, tzinfo=UTC), datetime(2030, 4, 3, 19, 23, 43, tzinfo=UTC))
TURIN = Made(
    product=b"Turin-A0",
    chip=bytes(range(1, 9)),
    spl={1: 2, 2: 3, 3: 4, 8: 200, 9: 1},
    tcb=bytes([1, 2, 3, 4, 0, 0, 0, 200]),
)


def verify(made: Made, at: datetime = AT, revoked: int | None = None) -> Claims:
    return snp.verify(packed(made.evidence(revoked)), at, roots={made.root})


def refusal(made: Made, at: datetime = AT, revoked: int | None = None) -> str:
    with pytest.raises(EvidenceError) as caught:
        verify(made, at, revoked)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_the_real_report_says() -> None:
    claims = snp.verify(packed(real_snp()), AT)
    assert (claims.tee, claims.debug, claims.tcb_status, claims.trusts_os) == ("snp", False, None, False)
    assert claims.measurements["measurement"].hex().startswith("7a1e5c266c0108db")
    assert claims.measurements["guest_policy"].hex() == "0000000000030000"
    assert claims.measurements["vmpl"] == b"\0"
    assert claims.measurements["root"] == AMD_ROOTS["Milan"]
    tcb = {"tcb_bootloader": 3, "tcb_tee": 0, "tcb_snp": 8, "tcb_microcode": 115}
    assert claims.numbers == {"guest_svn": 0, "report_version": 2, **tcb}
    assert len(claims.report_data) == 64


def test_the_real_report_verifies_while_its_certificates_are_valid_and_not_one_second_longer() -> None:
    evidence = packed(real_snp())
    assert snp.validity(evidence, AT) == WINDOW
    for inside in WINDOW:
        snp.verify(evidence, inside)
    for outside, text in ((WINDOW[0] - SECOND, "only from"), (WINDOW[1] + SECOND, "until")):
        with pytest.raises(EvidenceError, match=text):
            snp.verify(evidence, outside)


def test_a_made_report_verifies_under_its_own_root_only() -> None:
    made = Made()
    claims = verify(made)
    assert claims.report_data == b"r" * 32
    assert claims.measurements.keys() == {*snp.MEASUREMENTS, "root"}
    assert claims.numbers.keys() <= snp.NUMBERS
    with pytest.raises(EvidenceError, match=f"none of AMD's that are trusted.*{made.root.hex()}"):
        snp.verify(packed(made.evidence()), AT)


def test_turin_has_another_layout_of_its_tcb_and_a_short_chip_id() -> None:
    tcb = {"tcb_fmc": 1, "tcb_bootloader": 2, "tcb_tee": 3, "tcb_snp": 4, "tcb_microcode": 200}
    assert tcb.items() <= verify(TURIN).numbers.items()


@pytest.mark.parametrize("byte", [0, 1, 2, 3, 7])
def test_each_number_of_the_tcb_must_be_the_vceks(byte: int) -> None:
    tcb = bytearray(TURIN.tcb)
    tcb[byte] += 1
    assert "TCB" in refusal(replace(TURIN, tcb=bytes(tcb)))


@pytest.mark.parametrize("arc", [1, 2, 3, 8])
def test_an_older_vcek_does_not_vouch_for_a_newer_tcb(arc: int) -> None:
    made = Made()
    assert "TCB" in refusal(replace(made, spl={**made.spl, arc: made.spl[arc] + 1}))


def test_the_report_of_another_chip_is_refused() -> None:
    made, other = Made(), Made(chip=bytes(range(2, 66)))
    with pytest.raises(EvidenceError, match="another chip"):
        snp.verify(packed(SnpEvidence(other.report(), made.certificates())), AT, roots={made.root})


def test_debug_is_read_from_the_guest_policy() -> None:
    assert not verify(Made()).debug
    assert verify(Made(policy=0x30000 | 1 << 19)).debug


def test_the_privilege_level_is_told() -> None:
    assert verify(Made(vmpl=2)).measurements["vmpl"] == b"\2"
    assert "privilege level 4" in refusal(Made(vmpl=4))


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (Made(version=1), "version 1"),
        (Made(version=6), "version 6"),
        (Made(flags=0b100), "VLEK"),
        (Made(flags=0b10), "MASK_CHIP_ID"),
        (Made(chip=bytes(64)), "another chip"),
        (Made(product=b"Venice-A0"), "Venice"),
        (Made(ask_is_ca=False), "may not issue"),
        (Made(vcek_issuer="ark"), "VCEK is not signed"),
        (Made(leave_out=f"{AMD_OID}.2"), "No "),
        (Made(leave_out=f"{AMD_OID}.3.3"), "No "),
        (Made(leave_out=f"{AMD_OID}.4"), "No "),
    ],
)
def test_what_is_not_understood_or_not_in_order_is_refused(made: Made, text: str) -> None:
    assert text in refusal(made)


def test_certificates_that_are_missing_or_in_another_order_are_refused() -> None:
    made = Made()
    chain = made.certificates()
    for wrong in (
        (),
        chain[:2],
        chain[::-1],
        (chain[0], chain[2], chain[1]),
        (chain[0], chain[2], chain[2]),
        (b"", *chain[1:]),
    ):
        with pytest.raises(EvidenceError):
            snp.verify(packed(SnpEvidence(made.report(), wrong)), AT, roots={made.root})


def test_the_verifiers_own_certificates_go_first() -> None:
    made = Made()
    bare = packed(SnpEvidence(made.report()))
    assert snp.verify(bare, AT, roots={made.root}, certificates=made.certificates()) == verify(made)
    with pytest.raises(EvidenceError, match="three certificates"):
        snp.verify(bare, AT, roots={made.root})


def test_a_revoked_intermediate_certificate_is_refused() -> None:
    verify(Made(), revoked=99)
    assert "revoked" in refusal(Made(ask_serial=7), revoked=7)
    assert "revoked" in refusal(Made(), revoked=5)  # the ARK's


def test_a_revocation_list_must_be_signed_by_the_ark_and_current() -> None:
    made = Made()
    crl = bytearray(made.revocations(99))
    crl[-1] ^= 1
    for wrong, text in (
        (bytes(crl), "not signed by the ARK"),
        (made.revocations(99, issuer="ask"), "not signed by the ARK"),
        (b"no list", "cannot be read"),
    ):
        with pytest.raises(EvidenceError, match=text):
            snp.verify(packed(made.evidence()), AT, roots={made.root}, revocations=wrong)
    old = replace(made, last=AT - SECOND).revocations(99)
    with pytest.raises(EvidenceError, match="not valid at this time"):
        snp.verify(packed(made.evidence()), AT, roots={made.root}, revocations=old)


@pytest.mark.parametrize("length", [0, 1, 0x2A0, 0x49F, 0x4A1])
def test_a_report_of_another_length_is_refused(length: int) -> None:
    made = Made()
    report = (made.report() + b"\0")[:length]
    with pytest.raises(EvidenceError, match="1184 bytes"):
        snp.verify(packed(SnpEvidence(report, made.certificates())), AT, roots={made.root})
