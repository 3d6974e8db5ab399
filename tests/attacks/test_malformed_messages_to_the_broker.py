"""Attack: garbage, halves, floods, giants on the broker's port. Stopped by: bounded frames, typed messages, timeouts.

Whatever arrives, the broker goes on serving the others.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest
from brokers import Desk, Enclave
from hostile import GARBAGE, HALF, HUGE
from plinius.endpoint import Endpoint
from plinius.owner import service
from plinius.owner.service import Service
from plinius.wire import Channel, FromBroker, Manifest, ManifestRequest, Refusal, Stop


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "broker.sqlite")


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


def test_connections_that_say_nothing_do_not_shut_others_out(
    listening: Service, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than there is room for are turned away at once, and there is room again when they go."""
    silent = [listening.endpoint.connect(10) for _ in range(service.MAX_CONNECTIONS)]
    with connected(listening) as late:
        assert is_ended(late)
    for each in silent:
        each.close()
    for _ in range(100):
        with connected(listening) as connection:
            Channel(connection).send(ManifestRequest("job"))
            if Channel(connection).receive(FromBroker) is not None:
                return
    pytest.fail("there is no room again")


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
