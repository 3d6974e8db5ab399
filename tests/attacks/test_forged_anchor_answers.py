"""Attack: the host answers in the broker's place, or repeats, drops or reorders what passes.

Stopped by: what enclave and broker say is sealed end to end, with a key and a count for each direction.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest
from brokers import Desk, Enclave, head
from plinius.attest.session import Confirm, Denied, Done, Session
from plinius.enclave.anchoring import BrokerAnchor
from plinius.errors import EnclaveError, EvidenceError, PliniusError, RollbackError
from plinius.wire import Challenge, Channel, FromEnclave, KeyRelease, Message, Refusal, Sealed, Stop


class Asking:
    """An enclave's anchor, and a host that decides what it gets."""

    def __init__(self, desk: Desk) -> None:
        self.desk, enclave = desk, Enclave(desk).confirmed()
        assert enclave.grant
        ours, theirs = socket.socketpair()
        ours.settimeout(20)
        self.channel, self._theirs = Channel(ours), Channel(theirs)
        self.anchor = BrokerAnchor(self._theirs, enclave.session, enclave.grant.terms)
        self.outcome: PliniusError | None = None

    def advance(self, answer: Callable[[Sealed], list[Message]], version: int = 1) -> PliniusError | None:
        """Lets the enclave ask, and the host answer."""
        thread = threading.Thread(target=self._ask, args=(version,), daemon=True)
        thread.start()
        asked = self.channel.receive(FromEnclave)
        assert isinstance(asked, Sealed)
        for message in answer(asked):
            self.channel.send(message)
        thread.join(20)
        assert not thread.is_alive()
        return self.outcome

    def _ask(self, version: int) -> None:
        self.outcome = None
        try:
            self.anchor.advance(head(version - 1) if version > 1 else None, head(version))
        except PliniusError as error:
            self.outcome = error

    def honest(self, asked: Sealed) -> Sealed:
        answer = self.desk.broker.answer(asked)
        assert isinstance(answer, Sealed)
        return answer


@pytest.fixture
def asking(desk: Desk) -> Asking:
    return Asking(desk)


def test_an_honest_host(asking: Asking) -> None:
    for version in (1, 2, 3):
        assert asking.advance(lambda asked: [asking.honest(asked)], version) is None
    assert asking.desk.store.head(asking.desk.job.manifest.job_id) == head(3)


def test_an_answer_with_a_guessed_key(asking: Asking) -> None:
    forged = Session(asking.anchor._session.name, bytes(32), is_broker=True, sent=1)
    assert type(asking.advance(lambda _: [forged.seal(Done())])) is EvidenceError


def test_every_changed_byte_of_an_answer(asking: Asking) -> None:
    """Each is refused, and the enclave still expects the true one."""
    asked = asking.anchor._session.seal(Confirm())
    honest = asking.honest(asked)
    for at in range(len(honest.box)):
        box = honest.box[:at] + bytes([honest.box[at] ^ 1]) + honest.box[at + 1 :]
        with pytest.raises(EvidenceError):
            asking.anchor._session.open(Sealed(honest.session, honest.counter, box), Done | Denied)
    assert asking.anchor._session.open(honest, Done | Denied) == Done()


def test_the_enclaves_own_message_sent_back(asking: Asking) -> None:
    assert type(asking.advance(lambda asked: [asked])) is EvidenceError


def test_an_older_answer_again(asking: Asking) -> None:
    kept: list[Sealed] = []

    def first(asked: Sealed) -> list[Message]:
        kept.append(asking.honest(asked))
        return [kept[0]]

    assert asking.advance(first) is None
    assert type(asking.advance(lambda _: [kept[0]], 2)) is EvidenceError


def test_an_answer_under_a_newer_count(asking: Asking) -> None:
    def renumbered(asked: Sealed) -> list[Message]:
        honest = asking.honest(asked)
        return [Sealed(honest.session, honest.counter + 1, honest.box)]

    assert type(asking.advance(renumbered)) is EvidenceError


def test_an_answer_of_another_session(asking: Asking, desk: Desk) -> None:
    other = Asking(desk)
    kept: list[Sealed] = []
    other.advance(lambda asked: kept.append(other.honest(asked)) or [kept[0]])  # type: ignore[func-returns-value]
    assert type(asking.advance(lambda _: [kept[0]])) is EvidenceError


def test_a_refusal_of_the_hosts_own_ends_the_training(asking: Asking) -> None:
    """It is not sealed, and nothing but an end comes of it."""
    assert type(asking.advance(lambda _: [Refusal("RollbackError", "because")])) is RollbackError


def test_silence_is_the_end(asking: Asking) -> None:
    def gone(_: Sealed) -> list[Message]:
        asking.channel._socket.shutdown(socket.SHUT_RDWR)
        return []

    assert type(asking.advance(gone)) is EnclaveError


@pytest.mark.parametrize("message", [KeyRelease(b"x"), Challenge(b"s", b"n", "x25519")])
def test_a_message_that_has_no_place_here(asking: Asking, message: Message) -> None:
    assert type(asking.advance(lambda _: [message])) is EnclaveError


def test_a_stop_in_between_is_remembered(asking: Asking) -> None:
    assert asking.advance(lambda asked: [Stop(), Stop(), asking.honest(asked)]) is None
    assert asking.anchor.stop_requested


class TestTowardsTheBroker:
    def test_a_request_again_is_answered_the_same_and_done_once(self, desk: Desk) -> None:
        enclave = Enclave(desk).confirmed()
        asked = enclave.session.seal(Confirm())
        assert desk.broker.answer(asked) == desk.broker.answer(asked)
        assert desk.events().count("confirmed") == 2

    def test_an_older_request_again(self, desk: Desk) -> None:
        enclave = Enclave(desk).confirmed()
        older = enclave.session.seal(Confirm())
        desk.broker.answer(older)
        desk.broker.answer(enclave.session.seal(Confirm()))
        answer = desk.broker.answer(older)
        assert isinstance(answer, Refusal)
        assert answer.error == "EvidenceError"

    def test_a_request_that_was_left_out(self, desk: Desk) -> None:
        enclave = Enclave(desk).confirmed()
        enclave.session.seal(Confirm())
        answer = desk.broker.answer(enclave.session.seal(Confirm()))
        assert isinstance(answer, Refusal)
        assert "out of its turn" in answer.reason

    def test_every_changed_byte_of_a_request(self, desk: Desk) -> None:
        enclave = Enclave(desk).confirmed()
        asked = enclave.session.seal(Confirm())
        for at in range(len(asked.box)):
            box = asked.box[:at] + bytes([asked.box[at] ^ 1]) + asked.box[at + 1 :]
            answer = desk.broker.answer(Sealed(asked.session, asked.counter, box))
            assert isinstance(answer, Refusal)
            assert answer.error == "EvidenceError"
        assert isinstance(desk.broker.answer(asked), Sealed)
