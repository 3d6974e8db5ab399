"""A machine that lies about its TPM: keys of another one, replayed, relayed, forged and changed evidence."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plinius.attest import tpm2_verify
from plinius.attest.claims import Claims
from plinius.attest.tpm2_messages import Credential, Introduction, Quoted, qualifying_data
from plinius.attest.tpm_wire import ak_point, parse_quote, parse_signature, qualified_name_of
from plinius.errors import EvidenceError
from tpms import SoftwareTpm

NOW = datetime(2026, 6, 1, tzinfo=UTC)
REPORT_DATA = hashlib.sha256(b"this session").digest()
ANOTHER = hashlib.sha256(b"another session").digest()


class Session(NamedTuple):
    """What went over the wire in one honest session, and the verifier's secret."""

    introduction: bytes
    secret: bytes
    evidence: bytes

    def verify(self, **changed: bytes) -> Claims:
        now = self._replace(**changed)
        return tpm2_verify.verify(now.evidence, NOW, introduction=now.introduction, secret=now.secret)

    @property
    def quoted(self) -> Quoted:
        return msgspec.msgpack.decode(self.evidence, type=Quoted)

    @property
    def introduced(self) -> Introduction:
        return msgspec.msgpack.decode(self.introduction, type=Introduction)


@pytest.fixture(scope="module")
def machines(software_tpm: SoftwareTpm, other_software_tpm: SoftwareTpm) -> Iterator[tuple[Any, Any]]:
    """Two machines' TPMs, open."""
    from plinius.attest.tpm import Tpm  # noqa: PLC0415 (a package that may be missing)

    with ExitStack() as opened:
        yield tuple(opened.enter_context(Tpm(tpm.connect())) for tpm in (software_tpm, other_software_tpm))


def attester(tpm: Any) -> Any:
    from plinius.attest.tpm2 import Tpm2Attester  # noqa: PLC0415

    return Tpm2Attester(tpm)


@pytest.fixture(scope="module")
def session(machines: tuple[Any, Any]) -> Session:
    honest, secret = attester(machines[0]), os.urandom(32)
    introduction = honest.introduce()
    session = Session(introduction, secret, honest.attest(REPORT_DATA, tpm2_verify.challenge(introduction, secret)))
    assert session.verify().report_data == REPORT_DATA
    return session


def encoded(message: msgspec.Struct, **changed: Any) -> bytes:
    return msgspec.msgpack.encode(msgspec.structs.replace(message, **changed))


def test_an_attestation_key_of_another_tpm(machines: tuple[Any, Any], session: Session) -> None:
    """The endorsement key of a good machine, the attestation key of a bad one: neither can open the credential."""
    bad = msgspec.msgpack.decode(attester(machines[1]).introduce(), type=Introduction)
    mixed = encoded(session.introduced, ak_public=bad.ak_public)
    credential = tpm2_verify.challenge(mixed, os.urandom(32))
    for machine in machines:
        with pytest.raises(EvidenceError, match="open the credential"):
            attester(machine).attest(REPORT_DATA, credential)


def test_a_credential_for_another_tpm(machines: tuple[Any, Any], session: Session) -> None:
    with pytest.raises(EvidenceError, match="open the credential"):
        attester(machines[1]).attest(REPORT_DATA, tpm2_verify.challenge(session.introduction, os.urandom(32)))


def test_evidence_of_another_tpm(machines: tuple[Any, Any], session: Session) -> None:
    with pytest.raises(EvidenceError, match="not signed by the attestation key of the introduction"):
        session.verify(introduction=attester(machines[1]).introduce())


def test_replayed_with_another_sessions_report_data(session: Session) -> None:
    with pytest.raises(EvidenceError, match="another session"):
        session.verify(evidence=encoded(session.quoted, report_data=ANOTHER))


def test_a_machine_that_could_not_open_the_credential(session: Session) -> None:
    """Its quote is good, its session is ours, but it does not know the secret."""
    with pytest.raises(EvidenceError, match="did not open this session's credential"):
        session.verify(secret=os.urandom(32))


def test_values_of_pcrs_that_were_not_quoted(session: Session) -> None:
    pcrs = session.quoted.pcrs
    for changed in ([(0, ANOTHER), *pcrs[1:]], [pcrs[0]] * 16, pcrs[:-1], [*pcrs, (16, bytes(32))]):
        with pytest.raises(EvidenceError, match="than those that came with it"):
            session.verify(evidence=encoded(session.quoted, pcrs=changed))


def attest_structure(ak_public: bytes, secret: bytes) -> bytes:
    """A quote as a bad machine wants it: of PCRs that it never had."""
    clock = struct.pack(">QIIB", 1, 1, 0, 1) + bytes(8)
    pcrs = struct.pack(">IHB3s32s", 1, 0x000B, 3, b"\x01\0\0", b"\0\x20" + bytes(30))[:10]
    digest = hashlib.sha256(bytes(32)).digest()
    parts = [struct.pack(">IH", 0xFF544347, 0x8018)]
    parts += [struct.pack(">H", len(part)) + part for part in (qualified_name_of(ak_public),)]
    parts += [struct.pack(">H", 32) + qualifying_data(REPORT_DATA, secret), clock, pcrs, b"\0\x20" + digest]
    return b"".join(parts)


def forged(tpm: Any, ak_public: bytes, handle: Any, secret: bytes) -> bytes:
    """Evidence with a quote of our own making, signed as any data is."""
    from tpm2_pytss.constants import ESYS_TR, TPM2_ALG, TPM2_ST  # noqa: PLC0415
    from tpm2_pytss.types import TPMT_SIG_SCHEME, TPMT_TK_HASHCHECK  # noqa: PLC0415

    structure = attest_structure(ak_public, secret)
    ticket = TPMT_TK_HASHCHECK(tag=TPM2_ST.HASHCHECK, hierarchy=ESYS_TR.NULL)
    ticket.hierarchy = 0x40000007
    digest = hashlib.sha256(structure).digest()
    signature = tpm.esys.sign(handle, digest, TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL), ticket)
    return msgspec.msgpack.encode(Quoted(REPORT_DATA, structure, signature.marshal(), [(0, bytes(32))]))


def key(tpm: Any, hierarchy: str, without: int = 0) -> tuple[Any, bytes]:
    """A key like the attestation key, in a hierarchy, without some attributes."""
    from plinius.attest.tpm_wire import AK_TEMPLATE  # noqa: PLC0415
    from tpm2_pytss.constants import ESYS_TR  # noqa: PLC0415

    attributes = int.from_bytes(AK_TEMPLATE[4:8], "big") & ~without
    template = AK_TEMPLATE[:4] + attributes.to_bytes(4, "big") + AK_TEMPLATE[8:]
    return tpm.create(getattr(ESYS_TR, hierarchy), template)


def test_a_key_that_signs_anything(machines: tuple[Any, Any], session: Session, monkeypatch: Any) -> None:
    """Not restricted to what its TPM made: the signature holds, and everything in the quote is a lie."""
    tpm = machines[0]
    handle, public = key(tpm, "ENDORSEMENT", without=1 << 16)
    introduction = encoded(session.introduced, ak_public=public)
    try:
        evidence = forged(tpm, public, handle, session.secret)
    finally:
        tpm.flush(handle)
    for refuse in (
        lambda: tpm2_verify.challenge(introduction, os.urandom(32)),
        lambda: session.verify(introduction=introduction, evidence=evidence),
    ):
        with pytest.raises(EvidenceError, match="lacks the attribute restricted"):
            refuse()
    # The forgery is a good one: nothing but that attribute is wrong with it.
    monkeypatch.delitem(tpm2_verify.ak_point.__globals__["_ATTRIBUTES"], "restricted")
    assert session.verify(introduction=introduction, evidence=evidence).measurements["pcr0"] == bytes(32)


@pytest.mark.parametrize("attribute", ["fixedTPM", "fixedParent", "sensitiveDataOrigin", "sign"])
def test_a_key_that_may_leave_its_tpm(session: Session, attribute: str) -> None:
    bit = {"fixedTPM": 1, "fixedParent": 4, "sensitiveDataOrigin": 5, "sign": 18}[attribute]
    public = bytearray(session.introduced.ak_public)
    public[4:8] = (int.from_bytes(public[4:8], "big") & ~(1 << bit)).to_bytes(4, "big")
    with pytest.raises(EvidenceError, match=f"lacks the attribute {attribute},"):
        tpm2_verify.challenge(encoded(session.introduced, ak_public=bytes(public)), os.urandom(32))


def test_a_key_of_another_hierarchy(machines: tuple[Any, Any], session: Session) -> None:
    """Whose quotes would obfuscate how often the machine was started."""
    from tpm2_pytss.types import TPMT_SIG_SCHEME  # noqa: PLC0415

    tpm = machines[0]
    handle, public = key(tpm, "OWNER")
    try:
        qualifying = qualifying_data(REPORT_DATA, session.secret)
        attested, signature = tpm.esys.quote(handle, "sha256:0", qualifying, TPMT_SIG_SCHEME(scheme=0x0010))
    finally:
        tpm.flush(handle)
    evidence = Quoted(REPORT_DATA, bytes(attested), signature.marshal(), [(0, bytes(32))])
    with pytest.raises(EvidenceError, match="signed by another key"):
        session.verify(
            introduction=encoded(session.introduced, ak_public=public), evidence=msgspec.msgpack.encode(evidence)
        )


def test_what_a_good_key_signs_beside_quotes(machines: tuple[Any, Any], session: Session) -> None:
    """Its TPM signs the time too, with the same key and whatever the caller wants to have in it."""
    from tpm2_pytss.constants import ESYS_TR  # noqa: PLC0415
    from tpm2_pytss.types import TPMT_SIG_SCHEME  # noqa: PLC0415

    tpm = machines[0]
    handle, _ = tpm.create_ak()
    try:
        qualifying = qualifying_data(REPORT_DATA, session.secret)
        attested, signature = tpm.esys.get_time(handle, qualifying, TPMT_SIG_SCHEME(scheme=0x0010), ESYS_TR.ENDORSEMENT)
    finally:
        tpm.flush(handle)
    evidence = Quoted(REPORT_DATA, bytes(attested), signature.marshal(), [(0, bytes(32))])
    with pytest.raises(EvidenceError, match="its type is 0x8019, not 0x8018"):
        session.verify(evidence=msgspec.msgpack.encode(evidence))


def test_structures_that_are_no_quotes(session: Session) -> None:
    honest = session.quoted.attested
    assert parse_quote(honest).pcrs == tuple(range(16))
    for wrong, message in (
        (b"\xfe" + honest[1:], "magic number"),
        (honest + b"\0", "1 bytes too many"),
        (honest[:-1], "cut off"),
        (honest[:6] + b"\xff\xff" + honest[8:], "65535 bytes where at most 34 can be"),
        (honest[:-40] + b"\x0c" + honest[-39:], "PCR bank"),
        (honest[:-37] + bytes(3) + honest[-34:], "must cover some"),
    ):
        with pytest.raises(EvidenceError, match=message):
            parse_quote(wrong)
    for wrong in (session.quoted.signature + b"\0", session.introduced.ak_public + b"\0"):
        with pytest.raises(EvidenceError):
            (parse_signature if wrong.startswith(b"\0\x18") else ak_point)(wrong)


def test_every_byte_of_the_evidence_counts(session: Session) -> None:
    for at in range(len(session.evidence)):
        for flip in (0x01, 0x80):
            changed = bytearray(session.evidence)
            changed[at] ^= flip
            with pytest.raises(EvidenceError):
                session.verify(evidence=bytes(changed))


def test_every_byte_of_the_introduction_counts(session: Session) -> None:
    """Changed, it is refused, or it is another TPM's: which one it is, the policy names."""
    honest = session.verify().measurements["ek"]
    for at in range(len(session.introduction)):
        changed = bytearray(session.introduction)
        changed[at] ^= 0x01
        try:
            claims = session.verify(introduction=bytes(changed))
        except EvidenceError:
            continue
        assert claims.measurements["ek"] != honest


def test_every_byte_of_a_credential_counts(machines: tuple[Any, Any], session: Session) -> None:
    ours = attester(machines[0])
    credential = tpm2_verify.challenge(session.introduction, os.urandom(32))
    for at in range(0, len(credential), 7):
        changed = bytearray(credential)
        changed[at] ^= 0x01
        with pytest.raises(EvidenceError):
            ours.attest(REPORT_DATA, bytes(changed))


def test_every_truncation_is_refused(session: Session) -> None:
    for length in range(len(session.evidence)):
        with pytest.raises(EvidenceError):
            session.verify(evidence=session.evidence[:length])
    for length in range(len(session.introduction)):
        with pytest.raises(EvidenceError):
            tpm2_verify.challenge(session.introduction[:length], os.urandom(32))
    for message in (session.evidence + b"\0", bytes(1 << 20)):
        with pytest.raises(EvidenceError):
            session.verify(evidence=message)


@settings(max_examples=300, deadline=None)
@given(attested=st.binary(max_size=200), signature=st.binary(max_size=100), ak=st.binary(max_size=120))
def test_structures_of_noise(attested: bytes, signature: bytes, ak: bytes) -> None:
    """Behind good msgpack, which noise seldom gets past."""
    introduction = msgspec.msgpack.encode(Introduction(b"", b"", ak))
    evidence = msgspec.msgpack.encode(Quoted(REPORT_DATA, attested, signature, []))
    with pytest.raises(EvidenceError):
        tpm2_verify.verify(evidence, NOW, introduction=introduction, secret=bytes(32))
    with pytest.raises(EvidenceError):
        tpm2_verify.challenge(introduction, bytes(32))


def test_a_credential_of_noise(machines: tuple[Any, Any]) -> None:
    ours = attester(machines[0])
    for blob, seed in ((b"", b""), (bytes(128), bytes(512)), (bytes(68), bytes(256)), (b"\xff" * 68, b"\xff" * 256)):
        with pytest.raises(EvidenceError):
            ours.attest(REPORT_DATA, msgspec.msgpack.encode(Credential(blob, seed)))
