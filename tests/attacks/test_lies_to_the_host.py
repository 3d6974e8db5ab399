"""A hostile enclave or owner, and the host."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Callable

import pytest
from hostile import GARBAGE, HALF, HUGE
from inside import Command, start_thread
from jobs import Job, line_of
from plinius.host import supervisor
from plinius.wire import (
    Challenge,
    Channel,
    Failed,
    Inferred,
    KeyRelease,
    Loading,
    Notice,
    Stop,
)

Script = Callable[[Channel, socket.socket], None]


@pytest.fixture
def with_enclave(inside: Command, monkeypatch: pytest.MonkeyPatch, job: Job) -> Callable[[Script], str]:
    """Runs `plinius train` with an enclave that follows a script; what the command says in the end."""

    def run(script: Script) -> str:
        def serve(options: argparse.Namespace) -> None:
            raw = socket.socket(fileno=options.channel)
            with raw:
                script(Channel(raw), raw)

        monkeypatch.setattr(supervisor, "start_enclave", lambda *_: start_thread(serve))
        return line_of(12, inside(*job.train("--restarts", 0)))

    return run


def test_garbage_from_an_enclave_is_refused(with_enclave: Callable[[Script], str]) -> None:
    assert with_enclave(lambda _, raw: raw.sendall(GARBAGE)).startswith("refused a message: ")
    assert with_enclave(lambda _, raw: raw.sendall(HUGE)).startswith("refused a message of 4294967295 bytes")


def test_an_enclave_that_ends_within_a_message_has_died(with_enclave: Callable[[Script], str]) -> None:
    for content in (b"", HALF, HALF[:3]):
        assert with_enclave(lambda _, raw, content=content: raw.sendall(content)).startswith("the enclave died")


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
