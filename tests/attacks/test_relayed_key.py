"""Attack: the host puts a key of its own in the place of the enclave's, or of the owner's.

Stopped by: both keys are in what the evidence is bound to, and the owner signs challenge and release.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from brokers import Desk, Enclave
from plinius.attest.release import RecipientKey, Terms, seal_key
from plinius.attest.simulated import SimulatedAttester
from plinius.enclave.anchoring import BrokerAnchor
from plinius.enclave.provisioning import Ordered, request_ordered_key
from plinius.errors import EvidenceError, PliniusError, ProvisioningError
from plinius.owner.identity import Identity
from plinius.seal import Key
from plinius.wire import Challenge, Channel, Evidence, FromEnclave, KeyRelease, Message, Refusal


def test_the_hosts_key_beside_the_enclaves_evidence(desk: Desk) -> None:
    enclave = Enclave(desk)
    enclave.challenged()
    mine = RecipientKey(enclave.challenge.kem)
    answer = desk.broker.answer(Evidence(enclave.challenge.session, enclave.evidence().evidence, mine.public))
    assert answer == Refusal(
        "EvidenceError", "the evidence belongs to another session, key or manifest: it was replayed or relayed"
    )


@pytest.mark.parametrize("field", ["session", "nonce", "enclave_key", "owner_key", "manifest"])
def test_evidence_that_is_bound_to_something_else(desk: Desk, field: str) -> None:
    enclave = Enclave(desk)
    enclave.challenged()
    answer = enclave.present(enclave.evidence(enclave.bound(**{field: bytes(32)})))
    assert isinstance(answer, Refusal)
    assert answer.error == "EvidenceError"


@dataclass
class Relaying:
    """A host between an enclave and the honest broker, which may change what passes."""

    desk: Desk
    change: Callable[[Message], Message]
    result: Any = None

    def run(self) -> Any:
        ours, theirs = socket.socketpair()
        ours.settimeout(20)
        thread = threading.Thread(target=self._ask, args=(Channel(theirs),), daemon=True)
        thread.start()
        channel = Channel(ours)
        while (message := channel.receive(FromEnclave)) is not None:
            channel.send(self.change(self.desk.broker.answer(message)))  # type: ignore[arg-type]
        thread.join(20)
        return self.result

    def _ask(self, channel: Channel) -> None:
        try:
            ordered = Ordered.read(self.desk.job.signed)
            self.result = request_ordered_key(channel, SimulatedAttester(), ordered)[0]
        except PliniusError as error:
            self.result = error
        finally:
            channel.close()


def test_an_honest_relay_works(desk: Desk) -> None:
    assert Relaying(desk, lambda message: message).run().key.id == desk.key.id


def test_a_key_that_the_host_sealed(desk: Desk) -> None:
    """Anybody can seal to a public key: the enclave would train under the host's key, and the host could read it."""

    def change(message: Message) -> Message:
        if not isinstance(message, KeyRelease):
            return message
        mine = seal_key(Key.generate(), "x25519", bytes(31) + b"\x09", bytes(32), Terms(session_key=bytes(32)))
        return KeyRelease(mine, message.signature)

    result = Relaying(desk, change).run()
    assert type(result) is EvidenceError
    assert "the release is not signed by the owner" in str(result)


@pytest.mark.parametrize("field", ["session", "nonce", "kem", "credential", "signature"])
def test_a_challenge_that_the_host_changed(desk: Desk, field: str) -> None:
    def change(message: Message) -> Message:
        if not isinstance(message, Challenge):
            return message
        value = getattr(message, field)
        other = "x25519" if field == "kem" else bytes([value[0] ^ 1]) + value[1:] if value else b"x"
        return msgspec.structs.replace(message, **{field: other})

    result = Relaying(desk, change).run()
    assert type(result) is EvidenceError
    assert "the challenge is not signed by the owner" in str(result)


@contextmanager
def another_owner(desk: Desk) -> Iterator[None]:
    honest = desk.identity
    desk.broker._identity = Identity.generate()
    yield
    desk.broker._identity = honest


def test_a_broker_of_somebody_else(desk: Desk) -> None:
    with another_owner(desk):
        result = Relaying(desk, lambda message: message).run()
    assert type(result) is EvidenceError


def test_a_release_of_another_session_with_the_owners_signature(desk: Desk) -> None:
    other = Enclave(desk)
    earlier = other.released()
    assert isinstance(earlier, KeyRelease)
    result = Relaying(desk, lambda message: earlier if isinstance(message, KeyRelease) else message).run()
    assert type(result) is EvidenceError


def test_a_release_without_a_session(desk: Desk) -> None:
    """As the owner's process on one machine releases: no broker would hear what such an enclave says."""
    recipient = RecipientKey("x25519")
    grant = recipient.open(seal_key(desk.key, "x25519", recipient.public, b"b", ["loss"]), b"b")
    ours, _ = socket.socketpair()
    with pytest.raises(ProvisioningError, match="no session"):
        BrokerAnchor.begin(Channel(ours), b"s", grant.terms)
