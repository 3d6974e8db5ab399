"""A hostile enclave, or host, and the owner."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hostile import GARBAGE, HALF, HUGE, bound_to, talk_to
from plinius.attest import simulated
from plinius.attest.release import KEMS, RecipientKey
from plinius.attest.simulated import SimulatedAttester, SimulatedEvidence
from plinius.owner import main as owner
from plinius.wire import (
    PROTOCOL_VERSION,
    Challenge,
    Channel,
    Evidence,
    FromOwner,
    KeyRelease,
    KeyRequest,
    Refusal,
)


@contextmanager
def challenged(key: Path) -> Iterator[tuple[Channel, Challenge]]:
    """An owner that has sent its challenge."""
    with talk_to(owner.serve, key=str(key), reveal=()) as (channel, _):
        channel.send(KeyRequest(PROTOCOL_VERSION, simulated.TEE))
        challenge = channel.receive(FromOwner)
        assert isinstance(challenge, Challenge)
        yield channel, challenge


def honest(challenge: Challenge, vouched_for: bytes, sent: bytes) -> Evidence:
    """Evidence that vouches for a key, and the key that is sent with it."""
    return Evidence(challenge.session, SimulatedAttester().attest(bound_to(challenge, vouched_for), b""), sent)


def refusal(channel: Channel) -> str:
    """The class of the owner's refusal, after which it says no more."""
    answer = channel.receive(FromOwner)
    assert isinstance(answer, Refusal)
    assert channel.receive(FromOwner) is None
    return answer.error


def test_honest_evidence_gets_the_key(files: Path, public_key: bytes) -> None:
    """By the same steps as in the tests below."""
    with challenged(files / "job.key") as (channel, challenge):
        channel.send(honest(challenge, public_key, public_key))
        assert isinstance(channel.receive(FromOwner), KeyRelease)


def test_evidence_of_another_session_is_refused(files: Path, public_key: bytes) -> None:
    with challenged(files / "job.key") as (channel, challenge):
        earlier = honest(challenge, public_key, public_key)
        channel.send(earlier)
        assert isinstance(channel.receive(FromOwner), KeyRelease)
    with challenged(files / "job.key") as (channel, challenge):
        channel.send(earlier)
        assert refusal(channel) == "EvidenceError"


def test_another_public_key_than_the_evidence_vouches_for_is_refused(files: Path, public_key: bytes) -> None:
    hosts_own = RecipientKey(KEMS[0]).public
    with challenged(files / "job.key") as (channel, challenge):
        channel.send(honest(challenge, public_key, hosts_own))
        assert refusal(channel) == "EvidenceError"


def test_another_measurement_is_refused(files: Path, public_key: bytes) -> None:
    other_code = bytes([simulated.measurement()[0] ^ 1]) + simulated.measurement()[1:]
    with challenged(files / "job.key") as (channel, challenge):
        claims = SimulatedEvidence(other_code, bound_to(challenge, public_key))
        channel.send(Evidence(challenge.session, msgspec.msgpack.encode(claims), public_key))
        assert refusal(channel) == "PolicyError"


@pytest.mark.parametrize("malformed", [b"", b"\0" * 31, b"\0" * 32, b"\0" * 33, b"\1" + b"\0" * 31])
def test_a_malformed_public_key_is_refused(files: Path, malformed: bytes) -> None:
    """Points of small order among them: with those, what is sealed could be opened by anybody."""
    with challenged(files / "job.key") as (channel, challenge):
        channel.send(honest(challenge, malformed, malformed))
        assert refusal(channel) == "EvidenceError"


@pytest.mark.parametrize("evidence", [b"", b"\xff", msgspec.msgpack.encode([b"m"]), msgspec.msgpack.encode([1, 2])])
def test_malformed_evidence_is_refused(files: Path, public_key: bytes, evidence: bytes) -> None:
    with challenged(files / "job.key") as (channel, challenge):
        channel.send(Evidence(challenge.session, evidence, public_key))
        assert refusal(channel) == "EvidenceError"


@pytest.mark.parametrize(
    "request_", [KeyRequest(PROTOCOL_VERSION + 1, simulated.TEE), KeyRequest(PROTOCOL_VERSION, "sgx")]
)
def test_an_unknown_protocol_or_tee_is_refused(files: Path, request_: KeyRequest) -> None:
    with talk_to(owner.serve, key=str(files / "job.key"), reveal=()) as (channel, _):
        channel.send(request_)
        assert refusal(channel) == "AttestationError"


@pytest.mark.parametrize("content", [GARBAGE, HUGE, HALF, b""])
@pytest.mark.parametrize("after_the_challenge", [False, True])
def test_garbage_and_an_early_end_leave_the_owner_silent(
    files: Path, content: bytes, after_the_challenge: bool
) -> None:
    with talk_to(owner.serve, key=str(files / "job.key"), reveal=()) as (channel, raw):
        if after_the_challenge:
            channel.send(KeyRequest(PROTOCOL_VERSION, simulated.TEE))
            assert isinstance(channel.receive(FromOwner), Challenge)
        raw.sendall(content)
        raw.shutdown(socket.SHUT_WR)
        answers = list(iter(lambda: channel.receive(FromOwner), None))
        assert not [answer for answer in answers if not isinstance(answer, Refusal)]


def test_evidence_before_the_challenge_is_refused(files: Path, public_key: bytes) -> None:
    with talk_to(owner.serve, key=str(files / "job.key"), reveal=()) as (channel, _):
        channel.send(Evidence(b"s", b"x", public_key))
        assert refusal(channel) == "EnclaveError"
