"""Attack: garbage, halves, floods, giants on the broker's port. Stopped by: bounded frames, typed messages, timeouts.

Whatever arrives, the broker goes on serving the others.
"""

from __future__ import annotations

import errno
import socket
import sqlite3
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec
import pytest
from brokers import Desk, Enclave
from hostile import GARBAGE, HALF, HUGE
from plinius.endpoint import Endpoint
from plinius.owner import service
from plinius.owner.service import Service
from plinius.wire import Channel, FromBroker, Manifest, ManifestRequest, Refusal, Stop, ToBroker


@pytest.fixture
def listening(desk: Desk, tmp_path: Path) -> Iterator[Service]:
    listening = Service(desk.broker, Endpoint("127.0.0.1", 0, tls=False), tmp_path)
    thread = threading.Thread(target=listening.serve)
    thread.start()
    yield listening
    listening.close()
    thread.join(10)
    assert not thread.is_alive()


@contextmanager
def connected(listening: Service) -> Iterator[socket.socket]:
    with listening.endpoint.connect(10) as connection:
        connection.settimeout(10)
        yield connection


def is_ended(connection: socket.socket) -> bool:
    """Whether the broker hangs up, and says nothing before."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def still_serves(listening: Service, desk: Desk) -> None:
    with connected(listening) as connection:
        speaks(connection, desk)


def speaks(connection: socket.socket, desk: Desk) -> None:
    channel = Channel(connection)
    channel.send(ManifestRequest("job"))
    assert channel.receive(FromBroker) == Manifest(desk.job.signed)


@pytest.mark.parametrize(
    "content", [GARBAGE, HUGE, HALF, b"\0" * 100, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\0"]
)
def test_what_is_no_message_ends_the_connection_and_nothing_else(
    listening: Service, desk: Desk, content: bytes
) -> None:
    with connected(listening) as connection:
        connection.sendall(content)
        assert is_ended(connection)
    still_serves(listening, desk)


def test_a_message_of_another_direction(listening: Service, desk: Desk) -> None:
    with connected(listening) as connection:
        Channel(connection).send(Stop())
        assert is_ended(connection)
    still_serves(listening, desk)


def test_a_giant_inside_of_the_limit(listening: Service, desk: Desk) -> None:
    body = msgspec.msgpack.encode(ManifestRequest("x" * ((1 << 20) - 100)))
    with connected(listening) as connection:
        connection.sendall(struct.pack("<I", len(body)) + body)
        assert isinstance(Channel(connection).receive(FromBroker), Refusal)
    still_serves(listening, desk)


def test_connections_that_say_nothing_do_not_shut_others_out(listening: Service, desk: Desk) -> None:
    """Who has been silent for longest makes room; who just spoke does not."""
    with ExitStack() as opened:
        first = opened.enter_context(connected(listening))
        silent = [opened.enter_context(connected(listening)) for _ in range(service.MAX_CONNECTIONS - 2)]
        still_serves(listening, desk)  # all before it have been let in by now, and `first` speaks after that
        speaks(first, desk)
        silent.append(opened.enter_context(connected(listening)))
        for _ in range(5):
            still_serves(listening, desk)
        assert is_ended(silent[0])
        speaks(first, desk)
        speaks(silent[-1], desk)


def test_who_reads_no_answer_keeps_no_place(listening: Service, desk: Desk) -> None:
    many = msgspec.msgpack.encode(ManifestRequest("job"))
    with ExitStack() as opened:
        for _ in range(service.MAX_CONNECTIONS):
            deaf = opened.enter_context(connected(listening))
            deaf.setblocking(False)
            with suppress(BlockingIOError):
                for _ in range(1000):
                    deaf.sendall(100 * (struct.pack("<I", len(many)) + many))
        still_serves(listening, desk)


def test_where_there_is_no_descriptor_or_thread_left_it_goes_on_when_there_is(
    listening: Service, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failed = listening._lines.admit, []

    def admit(connection: socket.socket) -> socket.socket | None:
        if len(failed) < 2:
            failed.append(OSError(errno.EMFILE, "too many") if not failed else RuntimeError("can't start new thread"))
            raise failed[-1]
        return real(connection)

    monkeypatch.setattr(listening._lines, "admit", admit)
    for _ in range(2):
        with connected(listening) as connection:
            assert is_ended(connection)
    still_serves(listening, desk)


def test_a_request_that_fails_is_told_to_the_owner_in_a_line_and_not_answered(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    served = Service(desk.broker, Endpoint("127.0.0.1", 0, tls=False), tmp_path, told.append)
    thread = threading.Thread(target=served.serve)
    thread.start()
    failures = [sqlite3.OperationalError("database or disk is full"), ValueError("a secret")]
    answer = desk.broker.answer

    def failing(request: ToBroker) -> FromBroker:
        if failures:
            raise failures.pop(0)
        return answer(request)

    monkeypatch.setattr(desk.broker, "answer", failing)
    for _ in range(2):
        with connected(served) as connection:
            Channel(connection).send(ManifestRequest("job"))
            assert is_ended(connection)
    still_serves(served, desk)
    served.close()
    thread.join(10)
    assert told == [
        "the broker could not answer a request: its database fails: database or disk is full",
        "the broker could not answer a request: ValueError",
    ]
    assert capfd.readouterr().err == ""


def test_every_cut_and_changed_byte_of_an_honest_request(listening: Service, desk: Desk) -> None:
    """It is refused, or it is another request; none gets a key, and the broker goes on."""
    enclave = Enclave(desk)
    enclave.challenged()
    body = bytearray(msgspec.msgpack.encode(enclave.evidence()))
    released = 0
    for at in range(0, len(body), 37):
        changed = bytes(body[:at]) + bytes([body[at] ^ 1]) + bytes(body[at + 1 :])
        with connected(listening) as connection:
            connection.sendall(struct.pack("<I", len(changed)) + changed)
            connection.shutdown(socket.SHUT_WR)
            answer = Channel(connection).receive(FromBroker)
            released += answer is not None and not isinstance(answer, Refusal)
    assert released == 0
    still_serves(listening, desk)
