"""A hostile owner, or host, and the enclave that asks for its key."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hostile import GARBAGE, HALF, HUGE, bound_to
from plinius.attest.release import KEMS, Grant, Terms, seal_key
from plinius.attest.simulated import SimulatedAttester
from plinius.enclave.provisioning import request_key
from plinius.errors import EnclaveError, PliniusError, PolicyError, ProvisioningError
from plinius.seal import Key
from plinius.wire import (
    Challenge,
    Channel,
    Evidence,
    FromEnclave,
    KeyRelease,
    KeyRequest,
    Message,
    Refusal,
    Stop,
    Train,
)


class Asking:
    """An enclave that asks for its key, and what comes of it."""

    def __init__(self) -> None:
        ours, self._theirs = socket.socketpair()
        ours.settimeout(20)
        self.raw, self.channel = ours, Channel(ours)
        self.result: Grant | PliniusError | None = None
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()
        assert isinstance(self.channel.receive(FromEnclave), KeyRequest)

    def _ask(self) -> None:
        try:
            self.result = request_key(Channel(self._theirs), SimulatedAttester())
        except PliniusError as error:
            self.result = error

    def challenge(self) -> tuple[bytes, bytes]:
        """Challenges it, and returns its public key and what the release is bound to."""
        challenge = Challenge(secrets.token_bytes(16), secrets.token_bytes(32), KEMS[0])
        self.channel.send(challenge)
        answer = self.channel.receive(FromEnclave)
        assert isinstance(answer, Evidence)
        return answer.public_key, bound_to(challenge, answer.public_key)

    def outcome(self) -> Grant | PliniusError | None:
        self.raw.shutdown(socket.SHUT_WR)
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self.result


def test_an_honest_release_arrives(key: Key) -> None:
    asking = Asking()
    asking.channel.send(KeyRelease(seal_key(key, KEMS[0], *asking.challenge())))
    result = asking.outcome()
    assert isinstance(result, Grant)
    assert result.key.id == key.id


def test_a_key_sealed_to_another_enclave_does_not_open(key: Key, public_key: bytes) -> None:
    asking = Asking()
    _, bound = asking.challenge()
    asking.channel.send(KeyRelease(seal_key(key, KEMS[0], public_key, bound)))
    assert isinstance(asking.outcome(), ProvisioningError)


def test_a_key_sealed_in_another_session_does_not_open(key: Key) -> None:
    asking = Asking()
    its_key, bound = asking.challenge()
    asking.channel.send(KeyRelease(seal_key(key, KEMS[0], its_key, bytes(len(bound)))))
    assert isinstance(asking.outcome(), ProvisioningError)


def test_a_replayed_release_does_not_open(key: Key) -> None:
    earlier = Asking()
    release = KeyRelease(seal_key(key, KEMS[0], *earlier.challenge()))
    earlier.channel.send(release)
    assert isinstance(earlier.outcome(), Grant)
    later = Asking()
    later.challenge()
    later.channel.send(release)
    assert isinstance(later.outcome(), ProvisioningError)


def test_a_changed_release_does_not_open(key: Key) -> None:
    def answer_to(change: Callable[[bytearray], bytes | bytearray]) -> object:
        asking = Asking()
        asking.channel.send(KeyRelease(bytes(change(bytearray(seal_key(key, KEMS[0], *asking.challenge()))))))
        return asking.outcome()

    def flipped(at: int) -> Callable[[bytearray], bytearray]:
        return lambda sealed: sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]

    assert isinstance(answer_to(bytes), Grant)
    for at in (*range(0, 128, 16), -16, -1):
        assert isinstance(answer_to(flipped(at)), ProvisioningError), at
    for cut in (lambda sealed: sealed[:-1], lambda sealed: sealed + b"\0", lambda _: b""):
        assert isinstance(answer_to(cut), ProvisioningError)


@pytest.mark.parametrize("anchor", ["", "None", "broker2", "clock"])
def test_terms_with_an_anchor_that_is_unknown_give_no_key(key: Key, anchor: Any) -> None:
    """Taken for none, they would let the host roll the job back."""
    asking = Asking()
    asking.channel.send(KeyRelease(seal_key(key, KEMS[0], *asking.challenge(), Terms(anchor=anchor))))
    assert isinstance(asking.outcome(), ProvisioningError)


@pytest.mark.parametrize("content", [GARBAGE, HUGE, HALF, b""])
@pytest.mark.parametrize("after_the_challenge", [False, True])
def test_garbage_and_an_early_end_give_the_enclave_no_key(content: bytes, after_the_challenge: bool) -> None:
    asking = Asking()
    if after_the_challenge:
        asking.challenge()
    asking.raw.sendall(content)
    assert isinstance(asking.outcome(), ProvisioningError | EnclaveError)


@pytest.mark.parametrize("message", [KeyRelease(b"x" * 100), Stop(), Train("c", "d", "p", 1, 1, 1, 1)])
def test_a_message_out_of_order_is_refused_by_the_enclave(message: Message) -> None:
    asking = Asking()
    asking.channel.send(message)
    assert isinstance(asking.outcome(), EnclaveError)


@pytest.mark.parametrize(
    ("name", "kind"), [("PolicyError", PolicyError), ("SystemExit", EnclaveError), ("named", EnclaveError)]
)
def test_a_refusal_names_a_class_of_ours_or_none(name: str, kind: type[PliniusError]) -> None:
    asking = Asking()
    asking.channel.send(Refusal(name, "because"))
    result = asking.outcome()
    assert type(result) is kind
    assert str(result) == "because"
