"""The messages: what is unknown, malformed, cut or too long is refused, and never hangs."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plinius import wire
from plinius.errors import EnclaveError

MESSAGES: list[wire.Message] = [
    wire.Train("net.cfg", "data", "pool", 10, None, 3, None),
    wire.Infer("net.cfg", "data", "pool", 2),
    wire.Stop(),
    wire.KeyRequest(1, "simulated", b"m" * 32, b"i"),
    wire.ManifestRequest("job"),
    wire.Manifest(b"signed"),
    wire.TrainManifest(b"signed", "d", "p"),
    wire.SealedKey(b"key"),
    wire.LineLost(),
    wire.Sealed(b"s" * 16, 7, b"box"),
    wire.Challenge(b"s" * 16, b"n" * 32, "x25519", b"c", b"s" * 64),
    wire.Evidence(b"s" * 16, b"e", b"k" * 32),
    wire.KeyRelease(b"sealed"),
    wire.Refusal("PolicyError", "no"),
    wire.PoolOpened("emulated PM", "process crash", "simulated"),
    wire.Loading(1, 2),
    wire.Started(4, 10, 1, True, 256),
    wire.Progress(5, 5, 0.1, 0.01, 2.5),
    wire.Progress(5, 5, 0.1, 0.01, None),
    wire.Notice("text"),
    wire.Trained(10, 10),
    wire.Inferred(10, 256, 200, 0.5),
    wire.Failed("PoolFull", "full"),
]
UNIONS = [wire.ToEnclave, wire.FromEnclave, wire.ToOwner, wire.FromOwner]


@pytest.fixture
def ends() -> Iterator[tuple[wire.Channel, socket.socket]]:
    """A channel, and the other side of its socket."""
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    with ours, theirs:
        yield wire.Channel(ours), theirs


def frame(body: bytes) -> bytes:
    return struct.pack("<I", len(body)) + body


def refusal(ends: tuple[wire.Channel, socket.socket], content: bytes, expected: Any = wire.FromEnclave) -> str:
    channel, other = ends
    other.sendall(content)
    other.shutdown(socket.SHUT_WR)
    with pytest.raises(EnclaveError) as caught:
        channel.receive(expected)
    return str(caught.value)


def test_every_message_arrives(ends: tuple[wire.Channel, socket.socket]) -> None:
    channel, other = ends
    every = wire.ToEnclave | wire.FromEnclave | wire.ToBroker | wire.FromBroker
    assert {type(message) for message in MESSAGES} == set(get_args(every))
    for message in MESSAGES:
        wire.Channel(other).send(message)
        assert channel.receive(every) == message


def test_messages_that_come_in_pieces_or_together_are_told_apart(ends: tuple[wire.Channel, socket.socket]) -> None:
    channel, other = ends
    stream = b"".join(frame(msgspec.msgpack.encode(message)) for message in MESSAGES)

    def drip() -> None:
        for at in range(0, len(stream), 3):
            other.sendall(stream[at : at + 3])

    sender = threading.Thread(target=drip)
    sender.start()
    assert [channel.receive(type(m)) for m in MESSAGES] == MESSAGES
    sender.join()


@pytest.mark.parametrize("union", UNIONS)
def test_a_message_that_is_not_expected_is_refused(union: Any) -> None:
    for message in MESSAGES:
        body = msgspec.msgpack.encode(message)
        if isinstance(message, union):
            assert wire.parse(body, union) == message
        else:
            with pytest.raises(EnclaveError, match="refused a message"):
                wire.parse(body, union)


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "Unknown"},
        {"type": "Loading", "done": 1},
        {"type": "Loading", "done": 1, "total": 2, "more": 3},
        {"type": "Loading", "done": "1", "total": 2},
        {"type": "Loading", "done": 1.5, "total": 2},
        {"type": ["Loading"], "done": 1, "total": 2},
        {"done": 1, "total": 2},
        {},
        [],
        None,
        "Loading",
        [[[[[[]]]]]],
    ],
)
def test_a_malformed_message_is_refused(ends: tuple[wire.Channel, socket.socket], fields: Any) -> None:
    assert refusal(ends, frame(msgspec.msgpack.encode(fields))).startswith("refused a message: ")


def test_bytes_behind_a_message_are_refused(ends: tuple[wire.Channel, socket.socket]) -> None:
    assert refusal(ends, frame(msgspec.msgpack.encode(wire.Loading(1, 2)) + b"\0")).startswith("refused a message: ")


@pytest.mark.parametrize("length", [wire.MAX_FRAME_BYTES + 1, 1 << 31, (1 << 32) - 1])
def test_a_length_beyond_the_limit_is_refused_before_anything_is_read(
    ends: tuple[wire.Channel, socket.socket], length: int
) -> None:
    assert refusal(ends, struct.pack("<I", length)) == (
        f"refused a message of {length} bytes: the limit is {wire.MAX_FRAME_BYTES}"
    )


def test_an_empty_frame_is_refused(ends: tuple[wire.Channel, socket.socket]) -> None:
    assert refusal(ends, frame(b"")).startswith("refused a message: ")


def test_the_end_between_messages_is_no_error(ends: tuple[wire.Channel, socket.socket]) -> None:
    channel, other = ends
    other.close()
    assert channel.receive(wire.FromEnclave) is None


def test_the_end_within_a_frame_is_never_a_message() -> None:
    whole = frame(msgspec.msgpack.encode(wire.Loading(1, 2)))
    for length in range(1, len(whole)):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(whole[:length])
            theirs.close()
            assert wire.Channel(ours).receive(wire.FromEnclave) is None, length


def test_sending_to_a_process_that_is_gone_is_an_error(ends: tuple[wire.Channel, socket.socket]) -> None:
    channel, other = ends
    other.close()
    with pytest.raises(EnclaveError, match="gone"):
        channel.send(wire.Stop())


def test_a_message_that_is_too_long_is_not_sent(ends: tuple[wire.Channel, socket.socket]) -> None:
    channel, other = ends
    with pytest.raises(EnclaveError, match="too long"):
        channel.send(wire.Notice("x" * wire.MAX_FRAME_BYTES))
    other.settimeout(0.1)
    with pytest.raises(TimeoutError):
        other.recv(1)


def test_the_longest_message_that_may_be_sent_arrives(ends: tuple[wire.Channel, socket.socket]) -> None:
    channel, other = ends
    text = "x" * 100_000
    text += "x" * (wire.MAX_FRAME_BYTES - len(msgspec.msgpack.encode(wire.Notice(text))))
    sender = threading.Thread(target=wire.Channel(other).send, args=(wire.Notice(text),))
    sender.start()
    assert channel.receive(wire.FromEnclave) == wire.Notice(text)
    sender.join()
    with pytest.raises(EnclaveError, match="too long"):
        channel.send(wire.Notice(text + "x"))


@given(st.binary(max_size=200), st.sampled_from(UNIONS))
def test_any_bytes_are_a_message_or_refused(body: bytes, union: Any) -> None:
    with suppress(EnclaveError):
        assert isinstance(wire.parse(body, union), wire.Message)


@given(st.sampled_from(MESSAGES), st.data())
def test_a_changed_message_is_a_message_or_refused(message: wire.Message, data: st.DataObject) -> None:
    body = bytearray(msgspec.msgpack.encode(message))
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with suppress(EnclaveError):
        assert isinstance(wire.parse(bytes(body), type(message)), type(message))


def test_nested_arrays_without_end_are_refused() -> None:
    with pytest.raises(EnclaveError):
        wire.parse(b"\x91" * 100_000, wire.FromEnclave)
    with pytest.raises(EnclaveError):
        wire.parse(b"\x81\xa4type" + b"\x91" * 100_000, wire.FromEnclave)
