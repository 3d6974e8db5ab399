"""Attack: requests that fill the broker's disk or log, break its verifiers, or come while its disk is full.

Stopped by: known TEEs only, challenges that are forgotten job by job, transactions that end whatever happens.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import Any

import pytest
from brokers import POLICY, Desk, Enclave, head, job_manifest, policy, sign
from plinius.attest.manifest import digest
from plinius.attest.session import Advance, Done
from plinius.errors import ConfigError, EvidenceError
from plinius.owner import verifiers
from plinius.owner.broker import Broker, Job
from plinius.owner.store import ENDED, RELEASED, Store
from plinius.owner.verifiers import Endorsements
from plinius.wire import Challenge, Evidence, KeyRelease, Refusal


@pytest.mark.parametrize("tee", ["x" * 1_000_000, "tpm2] 7 job: released: tpm2, session 00 [", "", "Simulated"])
def test_a_tee_that_nobody_knows_is_neither_remembered_nor_noted(desk: Desk, tee: str) -> None:
    answer = Enclave(desk).request(tee=tee)
    assert isinstance(answer, Refusal)
    assert answer.error == "EvidenceError"
    assert len(answer.reason) < 200
    assert desk.events() == []
    assert desk.store.head(desk.job.manifest.job_id) is None


def test_challenges_of_a_hasty_job_do_not_end_those_of_another(desk: Desk) -> None:
    """Each job has a time of its own to answer in."""
    manifest = job_manifest(desk.identity, job="hasty", job_id=b"h" * 16)
    content = sign(desk.identity, manifest)
    short = policy(POLICY.replace("max_age_s = 60", "max_age_s = 1"))
    hasty = Job(manifest, content, digest(content), short, desk.key, Endorsements())
    desk.broker = Broker(desk.identity, {"job": desk.job, "hasty": hasty}, desk.store, lambda: desk.now_ns)
    enclave = Enclave(desk)
    enclave.challenged()
    desk.now_ns += 2_000_000_000
    assert isinstance(enclave.request(manifest=hasty.digest), Challenge)
    assert isinstance(enclave.present(enclave.evidence()), KeyRelease)


def test_refused_evidence_does_not_pile_up(desk: Desk) -> None:
    for _ in range(5):
        enclave = Enclave(desk)
        enclave.challenged()
        enclave.present(enclave.evidence(bytes(32)))
    confirmed = Enclave(desk).confirmed()
    desk.now_ns += 61_000_000_000
    Enclave(desk).challenged()
    with sqlite3.connect(desk.path) as database:
        assert database.execute("SELECT count(*) FROM sessions").fetchone() == (2,)
    assert confirmed.advance(None, head(1)) == Done(), "who got the key goes on"


def test_bad_evidence_at_the_same_time_does_not_end_a_session_that_got_the_key(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    enclave = Enclave(desk)
    enclave.challenged()
    good = enclave.evidence()
    bad = Evidence(good.session, enclave.attester.attest(bytes(32), b""), good.public_key)
    verify, answers = verifiers.verify, []

    def slow(asked: Any, evidence: bytes, *rest: Any) -> Any:
        if evidence == bad.evidence and not answers:
            answers.append(desk.broker.answer(good))  # what another thread does meanwhile
        return verify(asked, evidence, *rest)

    monkeypatch.setattr(verifiers, "verify", slow)
    assert isinstance(desk.broker.answer(bad), Refusal)
    assert isinstance(answers[0], KeyRelease)
    record = desk.store.session(good.session)
    assert record is not None
    assert record.state == RELEASED


class PanicException(BaseException):
    """A panic of a library in Rust."""


@pytest.mark.parametrize("kind", [OverflowError, PanicException])
def test_evidence_that_breaks_its_verifier_is_refused_and_noted(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    enclave = Enclave(desk)
    enclave.challenged()

    def broken(*_: Any) -> None:
        raise kind("of something that the evidence says")

    with monkeypatch.context() as patch:
        patch.setattr(verifiers, "verify", broken)
        answer = enclave.present(enclave.evidence())
    assert isinstance(answer, Refusal)
    assert kind.__name__ in answer.reason
    assert "of something" not in answer.reason
    assert desk.events() == ["refused"]
    assert isinstance(enclave.present(enclave.evidence()), Refusal), "a challenge is for one try"
    record = desk.store.session(enclave.challenge.session)
    assert record is not None
    assert record.state == ENDED


class Faulty:
    """A database whose disk fails at one statement."""

    def __init__(self, database: sqlite3.Connection, statement: str) -> None:
        self._database, self._statement, self.failed = database, statement, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def execute(self, query: str, *values: Any) -> Any:
        if query.startswith(self._statement) and not self.failed:
            self.failed = True
            raise sqlite3.OperationalError("disk I/O error")
        return self._database.execute(query, *values)


@pytest.mark.parametrize("statement", ["BEGIN", "INSERT", "COMMIT"])
def test_a_disk_that_fails_once_does_not_stop_the_broker(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    enclave = Enclave(desk).confirmed()
    faulty = Faulty(desk.store._database, statement)
    monkeypatch.setattr(desk.store, "_database", faulty)
    asked = enclave.session.seal(Advance(None, head(1), going_back=False))
    with pytest.raises(sqlite3.OperationalError):
        desk.broker.answer(asked)
    assert faulty.failed
    assert desk.store.head(desk.job.manifest.job_id) is None
    answer: Any = desk.broker.answer(asked)  # the host asks again
    assert enclave.session.open(answer, Done) == Done()
    desk.start()
    assert desk.store.head(desk.job.manifest.job_id) == head(1)


def test_a_full_disk(desk: Desk) -> None:
    enclave = Enclave(desk).confirmed()
    desk.store._database.execute("PRAGMA max_page_count = 1")
    answers = 0
    with suppress(sqlite3.OperationalError):
        while answers < 200:
            Enclave(desk).challenged()
            answers += 1
    assert answers < 200
    desk.store._database.execute("PRAGMA max_page_count = 100000")
    assert enclave.advance(None, head(1)) == Done()


@pytest.mark.parametrize("new", [head(1 << 63), head(1, 1 << 63), head(1, digest=b"short")])
def test_a_head_that_no_database_holds(desk: Desk, new: Any) -> None:
    answer = Enclave(desk).confirmed().advance(None, new)
    assert isinstance(answer, Refusal)
    assert answer.error == "EvidenceError"


def test_a_number_of_the_log_that_was_made_negative(desk: Desk) -> None:
    Enclave(desk).confirmed()
    with sqlite3.connect(desk.path) as database:
        database.execute("UPDATE audit SET number = -1 WHERE number = 1")
    with pytest.raises(EvidenceError, match="entry -1"):
        list(desk.store.audit())


def test_a_log_that_is_damaged_is_one_clear_error(desk: Desk) -> None:
    Enclave(desk).confirmed()
    desk.store._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    desk.store.close()
    content = bytearray(desk.path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    desk.path.write_bytes(content)
    broken = Store(str(desk.path))
    with pytest.raises(ConfigError, match="database"):
        list(broken.audit())


def test_what_is_printed_of_a_session_holds_no_secret(desk: Desk) -> None:
    enclave = Enclave(desk).confirmed()
    record = desk.store.session(enclave.challenge.session)
    assert record is not None
    assert enclave.grant is not None
    for secret in (record.key, record.asked.secret, enclave.grant.terms.session_key):
        assert secret
        assert repr(secret) not in repr((record, record.asked, enclave.grant))
