"""Attack: the host holds a challenge back until it suits it. Stopped by: a challenge ages, by the owner's clock."""

from __future__ import annotations

from pathlib import Path

from brokers import Desk, Enclave
from plinius.wire import KeyRelease, Refusal

SECOND_NS = 1_000_000_000
STALE = "the owner refuses, field evidence_max_age_s: a challenge is answered within 60 s, or its nonce is stale"


def test_a_challenge_is_good_for_as_long_as_the_policy_says_and_no_longer(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "broker.sqlite")
    for age_ns, fresh in ((60 * SECOND_NS, True), (60 * SECOND_NS + 1, False), (3600 * SECOND_NS, False)):
        enclave = Enclave(desk)
        enclave.challenged()
        desk.now_ns += age_ns
        answer = enclave.present(enclave.evidence())
        assert isinstance(answer, KeyRelease) == fresh
        if isinstance(answer, Refusal):
            assert answer == Refusal("PolicyError", STALE)


def test_a_challenge_that_was_forgotten_meanwhile_is_not_known(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "broker.sqlite")
    enclave = Enclave(desk)
    enclave.challenged()
    desk.now_ns += 61 * SECOND_NS
    Enclave(desk).challenged()  # forgets old ones
    answer = enclave.present(enclave.evidence())
    assert isinstance(answer, Refusal)
    assert answer.error == "EvidenceError"
