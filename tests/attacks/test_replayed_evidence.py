"""Attack: evidence that was accepted once is presented again. Stopped by: a challenge is for one answer."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from brokers import Desk, Enclave
from plinius.owner import verifiers
from plinius.wire import Evidence, KeyRelease, Refusal


def refused(answer: object) -> str:
    assert isinstance(answer, Refusal)
    return f"{answer.error}: {answer.reason}"


def test_the_same_evidence_again(desk: Desk) -> None:
    enclave = Enclave(desk)
    enclave.challenged()
    evidence = enclave.evidence()
    assert isinstance(desk.broker.answer(evidence), KeyRelease)
    assert refused(desk.broker.answer(evidence)).startswith("EvidenceError: this challenge was answered already")


def test_the_same_evidence_again_after_the_broker_was_killed(desk: Desk) -> None:
    enclave = Enclave(desk)
    enclave.challenged()
    evidence = enclave.evidence()
    assert isinstance(desk.broker.answer(evidence), KeyRelease)
    desk.start()
    assert refused(desk.broker.answer(evidence)).startswith("EvidenceError: this challenge was answered already")


def test_the_same_evidence_twice_at_the_same_time(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are appraised before either is answered: one gets the key."""
    enclave = Enclave(desk)
    enclave.challenged()
    evidence, both = enclave.evidence(), threading.Barrier(2)
    verify = verifiers.verify

    def together(*arguments: Any) -> Any:
        both.wait(20)
        return verify(*arguments)

    monkeypatch.setattr(verifiers, "verify", together)
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(desk.broker.answer, [evidence, evidence]))
    (other,) = [answer for answer in answers if not isinstance(answer, KeyRelease)]
    assert refused(other).startswith("EvidenceError: this challenge was answered already")


def test_old_evidence_in_a_new_session(desk: Desk) -> None:
    old = Enclave(desk)
    old.challenged()
    evidence = old.evidence()
    assert isinstance(desk.broker.answer(evidence), KeyRelease)
    new = Enclave(desk).challenged()
    replayed = Evidence(new.session, evidence.evidence, evidence.public_key)
    assert refused(desk.broker.answer(replayed)).startswith("EvidenceError: the evidence belongs to another session")


def test_a_second_try_after_a_wrong_one(desk: Desk) -> None:
    """Whoever guesses gets one guess a challenge."""
    enclave = Enclave(desk)
    enclave.challenged()
    assert refused(desk.broker.answer(enclave.evidence(bytes(32)))).startswith("EvidenceError: the evidence belongs")
    assert refused(desk.broker.answer(enclave.evidence())).startswith("EvidenceError: this challenge was answered")


def test_an_invented_session(desk: Desk) -> None:
    enclave = Enclave(desk)
    enclave.challenged()
    invented = Evidence(bytes(16), enclave.evidence().evidence, enclave.recipient.public)
    assert refused(desk.broker.answer(invented)).startswith("EvidenceError: this broker knows no such session")
