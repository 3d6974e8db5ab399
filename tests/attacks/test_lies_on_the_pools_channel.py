"""What is no answer to a question about the pool: other messages, errors of all kinds, and what is no message."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec
import pytest
from hostile import GARBAGE, HALF, HUGE
from lying import PAGE, Enclave, Host
from plinius import Key
from plinius.enclave.hosted import host_at
from plinius.errors import EnclaveError, PliniusError, PoolError
from plinius.host.keeper import Keeper
from plinius.wire import (
    MAX_POOL_FRAME_BYTES,
    Channel,
    CommitEntry,
    Entry,
    FindEntry,
    FromPool,
    Message,
    PoolDone,
    PoolFailed,
    PoolRequest,
    Space,
    TakeSpace,
    ToPool,
)

pytestmark = pytest.mark.filterwarnings("ignore:rollback is not detected")


# Answers to other questions, and errors.

ANSWERS: list[FromPool] = [PoolDone(), Entry(None, []), Entry(b"", []), Space([]), Space([(PAGE, 1)])]


@pytest.mark.parametrize("question", [PoolRequest, FindEntry, TakeSpace, CommitEntry])
def test_the_answer_to_another_question(
    host: Host, enclave: Enclave, descriptor: int, key: Key, question: type[Message]
) -> None:
    fitting = {PoolRequest: PoolDone, FindEntry: Entry, TakeSpace: Space, CommitEntry: PoolDone}[question]
    for number, other in enumerate(ANSWERS):
        if isinstance(other, fitting):
            continue
        host.lie = lambda request, answer, other=other: other if isinstance(request, question) else answer  # type: ignore[misc]
        with pytest.raises(EnclaveError, match="the host answered another question"):
            Enclave(host, descriptor, key, f"new {number}").save(1)


@pytest.mark.parametrize(
    "name", ["KeyboardInterrupt", "SystemExit", "named", "annotations", "", "Exception", "PliniusErr"]
)
@pytest.mark.parametrize("question", [PoolRequest, FindEntry, TakeSpace, CommitEntry])
def test_an_error_of_an_unknown_class_is_the_hosts(
    host: Host, descriptor: int, key: Key, question: type[Message], name: str
) -> None:
    host.lie = lambda request, answer: PoolFailed(name, "why") if isinstance(request, question) else answer
    with pytest.raises(EnclaveError, match=r"^why$"):
        Enclave(host, descriptor, key).save(1)


def test_what_a_pool_can_fail_with_can_be_said_and_nothing_else(host: Host, descriptor: int, key: Key) -> None:
    """No word of the host's makes an enclave say that it met a rollback, or that an owner refused something."""
    for kind in (PliniusError, *subclasses(PliniusError)):
        host.lie = lambda request, answer, kind=kind: (  # type: ignore[misc]
            PoolFailed(kind.__name__, "why") if isinstance(request, TakeSpace) else answer
        )
        with pytest.raises(PliniusError, match=r"why$") as caught:
            Enclave(host, descriptor, key).save(1)
        assert type(caught.value) is (kind if issubclass(kind, PoolError) else EnclaveError)


def subclasses(kind: type[PliniusError]) -> list[type[PliniusError]]:
    direct = kind.__subclasses__()
    return [*direct, *(further for each in direct for further in subclasses(each))]


# What is no message.


def framed(fields: object) -> bytes:
    body = msgspec.msgpack.encode(fields)
    return struct.pack("<I", len(body)) + body


NO_ANSWERS = {
    "garbage": GARBAGE,
    "a huge frame": HUGE,
    "a frame too long by one": struct.pack("<I", MAX_POOL_FRAME_BYTES + 1) + bytes(100),
    "half a frame": HALF,
    "half a length": HALF[:3],
    "the end": b"",
    "an empty frame": bytes(4),
    "a negative offset": framed({"type": "Space", "extents": [(-1, 1)]}),
    "a negative length": framed({"type": "Entry", "meta": b"", "extents": [(1, -1)]}),
    "2^63": framed({"type": "Space", "extents": [(1 << 63, 1)]}),
    "2^64 - 1": framed({"type": "Space", "extents": [(1, (1 << 64) - 1)]}),
    "a fraction": framed({"type": "Space", "extents": [(4096.0, 1)]}),
    "three numbers": framed({"type": "Space", "extents": [(1, 1, 1)]}),
    "no list": framed({"type": "Space", "extents": 7}),
    "a question": framed({"type": "PoolRequest"}),
    "another channel's": framed({"type": "Stop"}),
    "one field more": framed({"type": "PoolDone", "more": 1}),
}


@contextmanager
def speaking(keeper: Keeper, said: bytes, question: type[Message]) -> Iterator[socket.socket]:
    """A host that answers honestly until it says its last words to a question."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(20)

    def serve() -> None:
        channel = Channel(ours, MAX_POOL_FRAME_BYTES)
        while isinstance(request := channel.receive(ToPool), ToPool):
            if isinstance(request, question):
                with suppress(BrokenPipeError):
                    ours.sendall(said)
                ours.close()
                return
            channel.send(keeper.answer(request))

    thread = threading.Thread(target=serve)
    thread.start()
    with theirs:
        yield theirs
    thread.join(20)
    assert not thread.is_alive()
    ours.close()


@pytest.mark.parametrize("question", [PoolRequest, FindEntry, TakeSpace, CommitEntry])
@pytest.mark.parametrize("said", NO_ANSWERS.values(), ids=NO_ANSWERS.keys())
def test_what_is_no_answer_is_an_error_of_the_host(
    host: Host, descriptor: int, key: Key, said: bytes, question: type[Message]
) -> None:
    with speaking(host.keeper, said, question) as end:
        ask = host_at(Channel(end, MAX_POOL_FRAME_BYTES))
        with pytest.raises(EnclaveError):
            Enclave(ask, descriptor, key).save(1)


def test_a_frame_that_is_too_long_is_refused_before_it_is_read(host: Host, descriptor: int, key: Key) -> None:
    with (
        speaking(host.keeper, struct.pack("<I", MAX_POOL_FRAME_BYTES + 1), PoolRequest) as end,
        pytest.raises(EnclaveError, match=f"^refused a message of {MAX_POOL_FRAME_BYTES + 1} bytes"),
    ):
        Enclave(host_at(Channel(end, MAX_POOL_FRAME_BYTES)), descriptor, key)
