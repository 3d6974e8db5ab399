"""A hostile enclave or owner, and the host."""

from __future__ import annotations

import argparse
import socket
import struct
from collections.abc import Callable

import msgspec
import pytest
from hostile import GARBAGE, HALF, HUGE
from inside import Command, start_enclave_thread
from jobs import Job, line_of
from plinius.host import supervisor
from plinius.wire import (
    Challenge,
    Channel,
    CommitEntry,
    Entry,
    Failed,
    FromPool,
    Inferred,
    KeyRelease,
    Loading,
    Notice,
    PoolDone,
    PoolFailed,
    PoolRequest,
    Stop,
    TakeSpace,
)

Script = Callable[[Channel, socket.socket], None]


@pytest.fixture(params=["channel"])
def with_enclave(
    request: pytest.FixtureRequest, inside: Command, monkeypatch: pytest.MonkeyPatch, job: Job
) -> Callable[[Script], str]:
    """Runs `plinius train` with an enclave that follows a script; what the command says in the end.

    Its parameter is the option that names the channel on which the script speaks.
    """
    other = {"channel": "pool_channel", "pool_channel": "channel"}[request.param]

    def run(script: Script) -> str:
        def serve(options: argparse.Namespace) -> None:
            with (
                socket.socket(fileno=getattr(options, request.param)) as raw,
                socket.socket(fileno=getattr(options, other)),
            ):
                script(Channel(raw), raw)

        monkeypatch.setattr(supervisor, "start_enclave", lambda *_: start_enclave_thread(serve))
        return line_of(12, inside(*job.train("--restarts", 0)))

    return run


def test_garbage_from_an_enclave_is_refused(with_enclave: Callable[[Script], str]) -> None:
    assert with_enclave(lambda _, raw: raw.sendall(GARBAGE)).startswith("refused a message: ")
    assert with_enclave(lambda _, raw: raw.sendall(HUGE)).startswith("refused a message of 4294967295 bytes")


def test_an_enclave_that_ends_within_a_message_has_died(with_enclave: Callable[[Script], str]) -> None:
    for content in (b"", HALF, HALF[:3]):
        assert with_enclave(lambda _, raw, content=content: raw.sendall(content)).startswith("the enclave died")


def saying(content: bytes) -> Script:
    """Says that, and stays until the host has had enough."""

    def say(_: Channel, raw: socket.socket) -> None:
        raw.sendall(content)
        assert raw.recv(1) == b""

    return say


on_the_pools_channel = pytest.mark.parametrize("with_enclave", ["pool_channel"], indirect=True)


@on_the_pools_channel
def test_garbage_about_the_pool_is_refused(with_enclave: Callable[[Script], str]) -> None:
    for content in (GARBAGE, bytes(4)):
        assert with_enclave(saying(content)).startswith("refused a message: ")
    assert with_enclave(saying(HUGE)).startswith("refused a message of 4294967295 bytes")


@on_the_pools_channel
def test_an_enclave_that_ends_within_a_question_has_died(with_enclave: Callable[[Script], str]) -> None:
    for content in (b"", HALF, HALF[:3]):
        assert with_enclave(lambda _, raw, content=content: raw.sendall(content)).startswith("the enclave died")


@on_the_pools_channel
def test_an_enclave_may_ask_about_the_pool_and_nothing_else_there(with_enclave: Callable[[Script], str]) -> None:
    for message in (TakeSpace([0]), PoolDone(), Entry(None, []), Stop(), Notice("text"), Failed("PoolFull", "full")):
        body = msgspec.msgpack.encode(message)
        line = with_enclave(saying(struct.pack("<I", len(body)) + body))
        assert line.startswith("refused a message: ")


@on_the_pools_channel
def test_what_cannot_be_done_with_the_pool_is_an_answer(with_enclave: Callable[[Script], str]) -> None:
    early, late = TakeSpace([1]), [TakeSpace([1 << 62]), TakeSpace([1 << 50])]
    requests = [early, PoolRequest(), *late, CommitEntry("", b"", []), CommitEntry("x", b"", [(0, 1)])]
    answers: list[object] = []

    def ask(channel: Channel, _: socket.socket) -> None:
        for request in requests:
            channel.send(request)
            answers.append(channel.receive(FromPool))

    assert with_enclave(ask).startswith("the enclave died")
    assert [answer.error for answer in answers if isinstance(answer, PoolFailed)] == [
        "PoolError",
        "PoolFull",
        "PoolFull",
        "PoolError",
        "PoolError",
    ]


def test_an_enclave_may_not_send_what_is_the_owners(with_enclave: Callable[[Script], str]) -> None:
    for message in (KeyRelease(b"k"), Challenge(b"s", b"n", "x25519"), Stop()):
        line = with_enclave(lambda channel, _, message=message: channel.send(message))
        assert line.startswith("refused a message: ")


def test_an_enclave_that_answers_another_question_is_refused(with_enclave: Callable[[Script], str]) -> None:
    assert (
        with_enclave(lambda channel, _: channel.send(Inferred(1, 2, 1, 0.1))) == "the enclave answered another question"
    )


def test_an_error_of_an_unknown_class_is_an_error_of_the_enclave(with_enclave: Callable[[Script], str]) -> None:
    for name in ("KeyboardInterrupt", "annotations", "", "PliniusError.__init__"):
        assert with_enclave(lambda channel, _, name=name: channel.send(Failed(name, "why"))) == "why"


def test_an_error_in_several_lines_is_shown_in_one(with_enclave: Callable[[Script], str]) -> None:
    assert (
        with_enclave(lambda channel, _: channel.send(Failed("EnclaveError", "a\nplinius: b\r\nc"))) == "a plinius: b c"
    )


def test_control_characters_do_not_reach_the_terminal(with_enclave: Callable[[Script], str]) -> None:
    assert "\x1b" not in with_enclave(lambda channel, _: channel.send(Failed("EnclaveError", "\x1b[2Jgone")))


def test_many_messages_do_not_stop_the_host(with_enclave: Callable[[Script], str]) -> None:
    def flood(channel: Channel, _: socket.socket) -> None:
        for number in range(2000):
            channel.send(Notice(f"notice {number}"))
            channel.send(Loading(number, 2000))

    assert with_enclave(flood).startswith("the enclave died")
