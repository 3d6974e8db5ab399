"""The broker: whom it gives a key, what it remembers, and that a kill makes it forget nothing."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from brokers import POLICY, Desk, DirectAnchor, Enclave, head, job_manifest, policy, sign
from plinius.attest.claims import Claims
from plinius.attest.manifest import digest, parse
from plinius.attest.session import Confirm, Denied, Done
from plinius.errors import EvidenceError
from plinius.owner import verifiers
from plinius.owner.broker import Broker, Job
from plinius.owner.policy import Freshness
from plinius.owner.store import RELEASED, Asked, SessionRecord
from plinius.owner.verifiers import Endorsements
from plinius.wire import Challenge, KeyRelease, Manifest, ManifestRequest, Refusal, Sealed


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "broker.sqlite")


def error_of(answer: object) -> str:
    assert isinstance(answer, Refusal | Denied)
    return answer.error


def test_an_honest_enclave_gets_the_key_and_the_terms(desk: Desk) -> None:
    enclave = Enclave(desk).confirmed()
    assert enclave.grant is not None
    assert enclave.grant.key.id == desk.key.id
    assert enclave.grant.reveal == {"loss"}
    assert (enclave.grant.terms.anchor, enclave.grant.terms.anchor_every, enclave.grant.terms.head) == (
        "broker",
        1,
        None,
    )
    assert desk.events() == ["released", "confirmed"]


def test_the_manifest_is_given_to_anybody_by_its_name(desk: Desk) -> None:
    assert desk.broker.answer(ManifestRequest("job")) == Manifest(desk.job.signed)
    assert error_of(desk.broker.answer(ManifestRequest("jobs"))) == "ProvisioningError"


def test_a_head_is_moved_by_compare_and_swap(desk: Desk) -> None:
    enclave = Enclave(desk).confirmed()
    assert enclave.advance(None, head(1)) == Done()
    assert enclave.advance(None, head(1)) == Done(), "repeating an equal one succeeds"
    assert error_of(enclave.advance(None, head(2))) == "RollbackError"
    assert enclave.advance(head(1), head(2)) == Done()
    assert error_of(enclave.advance(head(1), head(3))) == "RollbackError"
    assert desk.store.head(desk.job.manifest.job_id) == head(2)


def test_the_next_enclave_learns_the_head(desk: Desk) -> None:
    Enclave(desk).confirmed().advance(None, head(7, 3))
    grant = Enclave(desk).confirmed().grant
    assert grant is not None
    assert grant.terms.head == head(7, 3)


@pytest.mark.parametrize(
    "new", [head(1, 2), head(2, 2, b"x" * 32), head(3, 1)], ids=["older", "another of this version", "older epoch"]
)
@pytest.mark.parametrize("going_back", [False, True])
def test_a_head_does_not_go_back(desk: Desk, new: Any, going_back: bool) -> None:
    enclave = Enclave(desk).confirmed()
    enclave.advance(None, head(2, 2))
    assert error_of(enclave.advance(head(2, 2), new, going_back=going_back)) == "PolicyError"
    assert desk.store.head(desk.job.manifest.job_id) == head(2, 2)


def test_a_head_goes_back_where_the_owner_wants_it_and_that_is_noted(desk: Desk) -> None:
    Enclave(desk).confirmed().advance(None, head(5))
    desk.with_policy(POLICY + "going_back = true\n")
    enclave = Enclave(desk).confirmed()
    back = head(5, 2, b"older" + bytes(27))
    assert error_of(enclave.advance(head(5), head(4))) == "RollbackError", "not by itself"
    assert enclave.advance(head(5), back, going_back=True) == Done()
    assert desk.events()[-1] == "went back"


def test_starting_anew_is_going_back_though_no_version_is_lower(desk: Desk) -> None:
    enclave = Enclave(desk).confirmed()
    enclave.advance(None, head(2))
    assert error_of(enclave.advance(head(2), head(2, 2), going_back=True)) == "PolicyError"
    assert enclave.advance(head(2), head(2, 2)) == Done()


def test_without_an_anchor_nothing_is_anchored(desk: Desk) -> None:
    desk.with_policy(POLICY.replace('anchor = "broker"', 'anchor = "none"'))
    assert error_of(Enclave(desk).confirmed().advance(None, head(1))) == "PolicyError"


def test_a_second_enclave_of_the_job_ends_the_first(desk: Desk) -> None:
    """When it has shown that it has the newest state, and not before: whoever fails to restore stops nobody."""
    first = Enclave(desk).confirmed()
    first.advance(None, head(1))
    second = Enclave(desk).confirmed()
    assert first.advance(head(1), head(2)) == Done()
    assert error_of(second.advance(head(1), head(1, 2))) == "RollbackError"
    third = Enclave(desk).confirmed()
    assert third.advance(head(2), head(2, 2)) == Done()
    assert error_of(first.advance(head(2), head(3))) == "RollbackError"
    assert error_of(second.advance(head(2, 2), head(2, 3))) == "RollbackError"
    assert third.advance(head(2, 2), head(3, 2)) == Done()


def test_an_enclave_that_never_confirmed_cannot_anchor(desk: Desk) -> None:
    enclave = Enclave(desk)
    enclave.released()
    assert error_of(enclave.advance(None, head(1))) == "EvidenceError"


def test_a_message_that_counts_from_nothing_is_refused(desk: Desk) -> None:
    enclave = Enclave(desk)
    enclave.released()
    assert error_of(desk.broker.answer(Sealed(enclave.challenge.session, 0, b"box"))) == "EvidenceError"


def test_bad_evidence_beside_good_evidence_takes_nothing_back(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """They came at the same time: the key is released while the bad one is appraised."""
    enclave = Enclave(desk)
    enclave.challenged()

    def verify(*_: object) -> Claims:
        monkeypatch.undo()
        assert isinstance(enclave.present(enclave.evidence()), KeyRelease)
        raise EvidenceError("bad")

    monkeypatch.setattr(verifiers, "verify", verify)
    assert error_of(desk.broker.answer(enclave.evidence())) == "EvidenceError"
    assert desk.events() == ["released", "refused"]
    assert enclave.ask(Confirm()) == Done()


def test_only_a_new_life_ends_the_other_sessions(desk: Desk) -> None:
    first, second = Enclave(desk).confirmed(), Enclave(desk).confirmed()
    assert first.advance(None, head(1)) == Done()
    assert first.advance(head(1), head(2)) == Done()
    assert second.advance(head(2), head(2, 2)) == Done(), "it has taken over what the first one saved last"
    assert error_of(first.advance(head(2), head(3))) == "RollbackError"


def test_a_session_that_has_ended_is_told_so_however_long_ago(desk: Desk) -> None:
    first = Enclave(desk).confirmed()
    first.advance(None, head(1))
    Enclave(desk).confirmed().advance(head(1), head(1, 2))
    desk.now_ns += 3600_000_000_000
    Enclave(desk).challenged()
    assert error_of(first.advance(head(1), head(2))) == "RollbackError"


def test_what_another_thread_may_yet_take_back_is_not_read(desk: Desk) -> None:
    record = SessionRecord(b"s" * 16, b"j" * 16, RELEASED, 0, Asked("simulated", b"", b"", b"", ""))
    found: list[SessionRecord | None] = []
    thread = threading.Thread(target=lambda: found.append(desk.store.session(record.name)))
    with suppress(ZeroDivisionError), desk.store.transaction():
        desk.store.put(record)
        thread.start()
        thread.join(0.3)
        assert not found
        raise ZeroDivisionError
    thread.join()
    assert found == [None]


class TestAfterAKill:
    """Everything but the database is gone."""

    def test_a_head_is_still_known(self, desk: Desk) -> None:
        Enclave(desk).confirmed().advance(None, head(3))
        desk.start()
        assert error_of(Enclave(desk).confirmed().advance(None, head(1))) == "RollbackError"

    def test_a_session_goes_on(self, desk: Desk) -> None:
        enclave = Enclave(desk).confirmed()
        enclave.advance(None, head(1))
        desk.start()
        assert enclave.advance(head(1), head(2)) == Done()

    def test_a_challenge_can_still_be_answered_once(self, desk: Desk) -> None:
        enclave = Enclave(desk)
        enclave.challenged()
        desk.start()
        evidence = enclave.evidence()
        assert isinstance(enclave.present(evidence), KeyRelease)
        desk.start()
        assert error_of(enclave.present(evidence)) == "EvidenceError"

    def test_an_answer_that_was_lost_is_given_again_and_done_once(self, desk: Desk) -> None:
        enclave = Enclave(desk).confirmed()
        asked = enclave.session.seal(Confirm())
        first = desk.broker.answer(asked)
        desk.start()
        assert desk.broker.answer(asked) == first
        assert isinstance(first, Sealed)
        assert desk.events().count("confirmed") == 2


class TestTheAuditLog:
    def test_every_changed_field_is_seen(self, desk: Desk) -> None:
        Enclave(desk).confirmed().advance(None, head(1))
        assert len(list(desk.store.audit())) == 3
        for column, value in {
            "at_ns": 1,
            "job": "other",
            "event": "refused",
            "detail": "",
            "digest": bytes(32),
        }.items():
            with sqlite3.connect(desk.path) as database:
                (before,) = database.execute(f"SELECT {column} FROM audit WHERE number = 2").fetchone()  # noqa: S608
                database.execute(f"UPDATE audit SET {column} = ? WHERE number = 2", (value,))  # noqa: S608
            with pytest.raises(EvidenceError, match="entry 2"):
                list(desk.store.audit())
            with sqlite3.connect(desk.path) as database:
                database.execute(f"UPDATE audit SET {column} = ? WHERE number = 2", (before,))  # noqa: S608
        assert len(list(desk.store.audit())) == 3

    def test_a_missing_entry_is_seen(self, desk: Desk) -> None:
        Enclave(desk).confirmed().advance(None, head(1))
        with sqlite3.connect(desk.path) as database:
            database.execute("DELETE FROM audit WHERE number = 2")
        with pytest.raises(EvidenceError, match="entry 3"):
            list(desk.store.audit())

    def test_a_refusal_says_why(self, desk: Desk) -> None:
        enclave = Enclave(desk)
        enclave.challenged()
        enclave.present(enclave.evidence(b"x" * 32))
        (entry,) = desk.store.audit()
        assert (entry.event, entry.job) == ("refused", "job")
        assert "another session" in entry.detail


def test_challenges_that_nobody_answers_do_not_pile_up(desk: Desk) -> None:
    for _ in range(5):
        Enclave(desk).challenged()
    desk.now_ns += 61_000_000_000
    Enclave(desk).challenged()
    with sqlite3.connect(desk.path) as database:
        assert database.execute("SELECT count(*) FROM sessions").fetchone() == (1,)


def test_an_unknown_manifest_or_protocol_gets_no_challenge(desk: Desk) -> None:
    enclave = Enclave(desk)
    assert isinstance(enclave.request(), Challenge)
    assert error_of(enclave.request(manifest=bytes(32))) == "PolicyError"
    assert error_of(enclave.request(manifest=b"")) == "PolicyError"
    assert error_of(enclave.request(protocol=1)) == "AttestationError"
    assert error_of(enclave.request(introduction=b"x")) == "EvidenceError"


class TestEveryFieldOfFreshness:
    """Changed, it refuses what it allowed, and its name is in the message."""

    def test_none_is_left_out(self) -> None:
        tested = {name.removeprefix("test_") for name in vars(type(self)) if name.startswith("test_")}
        assert tested == {"none_is_left_out", *(field.name for field in msgspec.structs.fields(Freshness))}

    def test_anchor(self, desk: Desk) -> None:
        assert Enclave(desk).confirmed().advance(None, head(1)) == Done()
        desk.with_policy(POLICY.replace('anchor = "broker"', 'anchor = "none"'))
        assert "field anchor: " in reason_of(Enclave(desk).confirmed().advance(head(1), head(2)))

    def test_anchor_every(self, desk: Desk) -> None:
        """The enclave is told, and holds the pool to it (tests/unit/test_mirror_rollback.py)."""
        desk.with_policy(POLICY.replace("anchor_every = 1", "anchor_every = 7"))
        assert DirectAnchor(desk).every == 7

    def test_anchor_gap_s(self, desk: Desk) -> None:
        """The enclave is told, and waits (tests/unit/test_tpm_anchor.py)."""
        asked = msgspec.structs.replace(desk.job.policy.freshness, anchor="tpm", anchor_gap_s=3)
        desk.job = replace(desk.job, policy=msgspec.structs.replace(desk.job.policy, freshness=asked))
        desk.start()
        grant = Enclave(desk).confirmed().grant
        assert grant is not None
        assert grant.terms.anchor_gap_s == 3

    def test_going_back(self, desk: Desk) -> None:
        desk.with_policy(POLICY + "going_back = true\n")
        enclave = Enclave(desk).confirmed()
        enclave.advance(None, head(2))
        assert enclave.advance(head(2), head(1), going_back=True) == Done()
        desk.with_policy(POLICY)
        again = Enclave(desk).confirmed()
        assert "field going_back: " in reason_of(again.advance(head(1), head(1, 1, b"x" * 32), going_back=True))

    def test_evidence_max_age_s(self, desk: Desk) -> None:
        for text, fresh in ((POLICY.replace("= 60", "= 90"), True), (POLICY, False)):
            desk.with_policy(text)
            enclave = Enclave(desk)
            enclave.challenged()
            desk.now_ns += 61_000_000_000
            answer = enclave.present(enclave.evidence())
            assert isinstance(answer, KeyRelease) == fresh
        assert "field evidence_max_age_s: " in reason_of(answer)


def reason_of(answer: object) -> str:
    assert isinstance(answer, Refusal | Denied)
    return answer.reason


def test_two_jobs_have_each_its_own_key_policy_and_head(desk: Desk, tmp_path: Path) -> None:
    """One broker, one store; the second job keeps no freshness record."""
    other = Desk(tmp_path / "unused.sqlite", identity=desk.identity)
    content = sign(desk.identity, job_manifest(desk.identity, job="other", job_id=b"o" * 16))
    text = POLICY.replace('anchor = "broker"', 'anchor = "none"')
    other.job = Job(parse(content), content, digest(content), policy(text), other.key, Endorsements())
    both = Broker(desk.identity, {"job": desk.job, "other": other.job}, desk.store, lambda: desk.now_ns)
    desk.broker = other.broker = both
    assert both.answer(ManifestRequest("other")) == Manifest(content)
    one, two = Enclave(desk).confirmed(), Enclave(other).confirmed()
    assert one.grant is not None
    assert two.grant is not None
    assert (one.grant.key.id, two.grant.key.id) == (desk.key.id, other.key.id)
    assert one.advance(None, head(1)) == Done()
    assert error_of(two.advance(None, head(1))) == "PolicyError"
    assert [desk.store.head(job.manifest.job_id) for job in (desk.job, other.job)] == [head(1), None]
    assert {entry.job for entry in desk.store.audit()} == {"job", "other"}


def test_a_new_life_of_one_job_ends_no_session_of_another(desk: Desk, tmp_path: Path) -> None:
    other = Desk(tmp_path / "unused.sqlite", identity=desk.identity)
    content = sign(desk.identity, job_manifest(desk.identity, job="other", job_id=b"o" * 16))
    other.job = Job(parse(content), content, digest(content), policy(POLICY), other.key, Endorsements())
    both = Broker(desk.identity, {"job": desk.job, "other": other.job}, desk.store, lambda: desk.now_ns)
    desk.broker = other.broker = both
    one, two = Enclave(desk).confirmed(), Enclave(other).confirmed()
    for enclave in (one, two):
        assert enclave.advance(None, head(1)) == Done()
        assert enclave.advance(head(1), head(1, 2)) == Done()
    assert one.advance(head(1, 2), head(2, 2)) == Done()
