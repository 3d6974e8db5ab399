"""Whoever sits on the other end of a channel may lie: each lie ends in one clear error, and nothing hangs."""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from inside import Command, start_thread
from jobs import Job, line_of
from plinius.attest import simulated
from plinius.attest.release import Grant, seal_key
from plinius.attest.simulated import SimulatedEvidence
from plinius.enclave import main as enclave
from plinius.enclave.provisioning import request_key
from plinius.errors import EnclaveError, PliniusError, PolicyError, ProvisioningError
from plinius.host import child, supervisor
from plinius.host.files import opened
from plinius.inspection import describe
from plinius.owner import main as owner
from plinius.seal import Key
from plinius.wire import (
    PROTOCOL_VERSION,
    Challenge,
    Channel,
    Evidence,
    Failed,
    FromEnclave,
    FromOwner,
    Infer,
    Inferred,
    KeyRelease,
    KeyRequest,
    Loading,
    Message,
    Notice,
    Progress,
    Refusal,
    Started,
    Stop,
    Train,
    Trained,
)

GARBAGE = b"\x04\0\0\0\xff\xff\xff\xff"
HUGE = struct.pack("<I", 0xFFFFFFFF)
HALF = struct.pack("<I", 100) + b"half"


@contextmanager
def talk_to(serve: Callable[[argparse.Namespace], None], **options: object) -> Iterator[tuple[Channel, socket.socket]]:
    """Our end of a channel to a process's code, which runs as a thread and must be at its end afterwards."""
    served = start_thread(serve, **options)
    with served.channel._socket as ours:
        ours.settimeout(20)
        yield served.channel, ours
    served.process.wait(20)


@pytest.fixture(autouse=True)
def warnings_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The enclave shows warnings in its own way, and here it is a thread of this process."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)


# A hostile enclave, or host, and the owner.


@contextmanager
def challenged(key: Path) -> Iterator[tuple[Channel, Challenge]]:
    """An owner that has sent its challenge."""
    with talk_to(owner.serve, key=str(key), reveal=()) as (channel, _):
        channel.send(KeyRequest(PROTOCOL_VERSION, simulated.TEE))
        challenge = channel.receive(FromOwner)
        assert isinstance(challenge, Challenge)
        yield channel, challenge


def refusal(channel: Channel) -> str:
    """The class of the owner's refusal, after which it says no more."""
    answer = channel.receive(FromOwner)
    assert isinstance(answer, Refusal)
    assert channel.receive(FromOwner) is None
    return answer.error


def bound_to(challenge: Challenge, public_key: bytes) -> bytes:
    return simulated.report_data(challenge.session, challenge.nonce, public_key)


@pytest.fixture
def enclave_key() -> X25519PrivateKey:
    return X25519PrivateKey.generate()


@pytest.fixture
def public_key(enclave_key: X25519PrivateKey) -> bytes:
    return enclave_key.public_key().public_bytes_raw()


def test_honest_evidence_gets_the_key(files: Path, public_key: bytes) -> None:
    """By the same steps as in the tests below."""
    with challenged(files / "job.key") as (channel, challenge):
        channel.send(Evidence(simulated.attest(bound_to(challenge, public_key)), public_key))
        assert isinstance(channel.receive(FromOwner), KeyRelease)


def test_evidence_of_another_session_is_refused(files: Path, public_key: bytes) -> None:
    with challenged(files / "job.key") as (channel, challenge):
        earlier = Evidence(simulated.attest(bound_to(challenge, public_key)), public_key)
        channel.send(earlier)
        assert isinstance(channel.receive(FromOwner), KeyRelease)
    with challenged(files / "job.key") as (channel, challenge):
        channel.send(earlier)
        assert refusal(channel) == "EvidenceError"


def test_another_public_key_than_the_evidence_vouches_for_is_refused(files: Path, public_key: bytes) -> None:
    hosts_own = X25519PrivateKey.generate().public_key().public_bytes_raw()
    with challenged(files / "job.key") as (channel, challenge):
        channel.send(Evidence(simulated.attest(bound_to(challenge, public_key)), hosts_own))
        assert refusal(channel) == "EvidenceError"


def test_another_measurement_is_refused(files: Path, public_key: bytes) -> None:
    other_code = bytes([simulated.measurement()[0] ^ 1]) + simulated.measurement()[1:]
    with challenged(files / "job.key") as (channel, challenge):
        claims = SimulatedEvidence(other_code, bound_to(challenge, public_key))
        channel.send(Evidence(msgspec.msgpack.encode(claims), public_key))
        assert refusal(channel) == "PolicyError"


@pytest.mark.parametrize("malformed", [b"", b"\0" * 31, b"\0" * 32, b"\0" * 33, b"\1" + b"\0" * 31])
def test_a_malformed_public_key_is_refused(files: Path, malformed: bytes) -> None:
    """Points of small order among them: with those, what is sealed could be opened by anybody."""
    with challenged(files / "job.key") as (channel, challenge):
        channel.send(Evidence(simulated.attest(bound_to(challenge, malformed)), malformed))
        assert refusal(channel) == "EvidenceError"


@pytest.mark.parametrize("evidence", [b"", b"\xff", msgspec.msgpack.encode([b"m"]), msgspec.msgpack.encode([1, 2])])
def test_malformed_evidence_is_refused(files: Path, public_key: bytes, evidence: bytes) -> None:
    with challenged(files / "job.key") as (channel, _):
        channel.send(Evidence(evidence, public_key))
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
        channel.send(Evidence(simulated.attest(b"x"), public_key))
        assert refusal(channel) == "EnclaveError"


# A hostile owner, or host, and the enclave that asks for its key.


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
            self.result = request_key(Channel(self._theirs))
        except PliniusError as error:
            self.result = error

    def challenge(self) -> tuple[bytes, bytes]:
        """Challenges it, and returns its public key and what the release is bound to."""
        challenge = Challenge(secrets.token_bytes(16), secrets.token_bytes(32))
        self.channel.send(challenge)
        answer = self.channel.receive(FromEnclave)
        assert isinstance(answer, Evidence)
        return answer.public_key, bound_to(challenge, answer.public_key)

    def outcome(self) -> Grant | PliniusError | None:
        self.raw.shutdown(socket.SHUT_WR)
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self.result


@pytest.fixture
def key() -> Key:
    return Key.generate()


def test_an_honest_release_arrives(key: Key) -> None:
    asking = Asking()
    asking.channel.send(KeyRelease(seal_key(key, *asking.challenge())))
    result = asking.outcome()
    assert isinstance(result, Grant)
    assert result.key.id == key.id


def test_a_key_sealed_to_another_enclave_does_not_open(key: Key, public_key: bytes) -> None:
    asking = Asking()
    _, bound = asking.challenge()
    asking.channel.send(KeyRelease(seal_key(key, public_key, bound)))
    assert isinstance(asking.outcome(), ProvisioningError)


def test_a_key_sealed_in_another_session_does_not_open(key: Key) -> None:
    asking = Asking()
    its_key, bound = asking.challenge()
    asking.channel.send(KeyRelease(seal_key(key, its_key, bytes(len(bound)))))
    assert isinstance(asking.outcome(), ProvisioningError)


def test_a_replayed_release_does_not_open(key: Key) -> None:
    earlier = Asking()
    release = KeyRelease(seal_key(key, *earlier.challenge()))
    earlier.channel.send(release)
    assert isinstance(earlier.outcome(), Grant)
    later = Asking()
    later.challenge()
    later.channel.send(release)
    assert isinstance(later.outcome(), ProvisioningError)


def test_a_changed_release_does_not_open(key: Key) -> None:
    def answer_to(change: Callable[[bytearray], bytes | bytearray]) -> object:
        asking = Asking()
        asking.channel.send(KeyRelease(bytes(change(bytearray(seal_key(key, *asking.challenge()))))))
        return asking.outcome()

    def flipped(at: int) -> Callable[[bytearray], bytearray]:
        return lambda sealed: sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]

    assert isinstance(answer_to(bytes), Grant)
    for at in (*range(0, 128, 16), -16, -1):
        assert isinstance(answer_to(flipped(at)), ProvisioningError), at
    for cut in (lambda sealed: sealed[:-1], lambda sealed: sealed + b"\0", lambda _: b""):
        assert isinstance(answer_to(cut), ProvisioningError)


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


# A hostile host and a real enclave process.


@pytest.mark.parametrize("content", [GARBAGE, HUGE, HALF, b"", b"\0" * 8])
def test_an_enclave_process_that_gets_garbage_ends(trained_files: Job, content: bytes) -> None:
    with opened(
        *(str(path) for path in (trained_files.pool, trained_files.data, trained_files.cfg)), create_pool=False
    ) as f:
        process = child.start_enclave(f)
        try:
            process.channel._socket.sendall(content)
            process.channel._socket.shutdown(socket.SHUT_WR)
            process.channel._socket.settimeout(20)
            answer = process.channel.receive(FromEnclave)
            assert answer is None or isinstance(answer, Failed)
            assert process.process.wait(timeout=20) == 0
        finally:
            process.process.kill()
            process.end()


# A hostile host and the enclave's code.


@pytest.fixture
def trained_files(job: Job, inside: Command) -> Job:
    """A job with two steps behind it."""
    assert inside(*job.train("--steps", 2)).err == ""
    return job


class Host:
    """A host that speaks with the enclave's code by hand; the owner is honest."""

    def __init__(self, job: Job, channel: Channel, raw: socket.socket) -> None:
        self.channel, self.raw = channel, raw
        self._key = Key.load(job.key)

    def release_the_key(self) -> None:
        assert isinstance(self.channel.receive(FromEnclave), KeyRequest)
        challenge = Challenge(bytes(16), bytes(32))
        self.channel.send(challenge)
        answer = self.channel.receive(FromEnclave)
        assert isinstance(answer, Evidence)
        self.channel.send(KeyRelease(seal_key(self._key, answer.public_key, bound_to(challenge, answer.public_key))))

    def until(self, *kinds: type[Message]) -> Message:
        while (message := self.channel.receive(FromEnclave)) is not None:
            if isinstance(message, kinds):
                return message
        raise AssertionError(f"it ended without {kinds}")


@contextmanager
def commanded(job: Job, command: Train | Infer | None = None, **options: int | None) -> Iterator[Host]:
    """The enclave's code, told to train if nothing else is said."""
    asked = {"steps": 1 << 30, "every": None, "seed": None, "threads": 1, **options}
    descriptors = {"pool": os.O_RDWR, "data": os.O_RDONLY, "cfg": os.O_RDONLY}
    fds = {name: os.open(getattr(job, name), flags) for name, flags in descriptors.items()}
    try:
        with talk_to(enclave.serve, **fds) as (channel, raw):
            channel.send(command or Train("cfg", "data", "pool", **asked))
            yield Host(job, channel, raw)
    finally:
        for fd in fds.values():
            os.close(fd)


@pytest.mark.parametrize("content", [GARBAGE, HUGE])
def test_garbage_during_the_training_ends_it_and_what_was_reported_is_durable(
    trained_files: Job, content: bytes
) -> None:
    with commanded(trained_files) as host:
        host.release_the_key()
        host.until(Started)
        host.raw.sendall(content)
        failed = host.until(Failed)
        assert isinstance(failed, Failed)
        assert failed.error == "EnclaveError"
        assert failed.reason.startswith("refused a message")
    assert describe(str(trained_files.pool))["mirrors"][0]["step"] >= 2


def test_a_host_that_is_gone_ends_the_training(trained_files: Job) -> None:
    began_s = time.monotonic()
    with commanded(trained_files) as host:
        host.release_the_key()
        host.until(Started)
    assert time.monotonic() - began_s < 10


def test_a_host_that_stops_it_gets_the_step_that_is_durable(trained_files: Job) -> None:
    with commanded(trained_files) as host:
        host.release_the_key()
        host.until(Started)
        host.channel.send(Stop())
        trained = host.until(Trained)
    assert isinstance(trained, Trained)
    assert describe(str(trained_files.pool))["mirrors"][0]["step"] == trained.step


@pytest.mark.parametrize("when", [KeyRequest, Evidence])
def test_an_end_while_the_enclave_asks_for_its_key(trained_files: Job, when: type[Message]) -> None:
    before = trained_files.pool.read_bytes()
    with commanded(trained_files) as host:
        host.until(KeyRequest)
        if when is Evidence:
            host.channel.send(Challenge(bytes(16), bytes(32)))
            host.until(Evidence)
    assert trained_files.pool.read_bytes() == before


@pytest.mark.parametrize(("option", "value"), [("steps", 0), ("steps", -1), ("seed", -1), ("every", 0), ("threads", 0)])
def test_the_enclave_checks_the_options_itself(trained_files: Job, option: str, value: int) -> None:
    with commanded(trained_files, **{option: value}) as host:
        host.release_the_key()
        failed = host.until(Failed)
    assert isinstance(failed, Failed)
    assert (failed.error, failed.reason.split(":")[0]) == ("ConfigError", f"--{option} {value}")


def test_the_host_learns_no_more_than_the_owner_grants(trained_files: Job) -> None:
    with commanded(trained_files) as host:
        host.release_the_key()
        progress = host.until(Progress)
    assert isinstance(progress, Progress)
    assert progress.loss is None
    with commanded(trained_files, Infer("cfg", "data", "pool", 1)) as host:
        host.release_the_key()
        failed = host.until(Failed, Inferred)
    assert failed == Failed("PolicyError", "the owner does not reveal the accuracy to this host")


# A hostile enclave or owner, and the host.


Script = Callable[[Channel, socket.socket], None]


@pytest.fixture
def with_enclave(inside: Command, monkeypatch: pytest.MonkeyPatch, job: Job) -> Callable[[Script], str]:
    """Runs `plinius train` with an enclave that follows a script; what the command says in the end."""

    def run(script: Script) -> str:
        def serve(options: argparse.Namespace) -> None:
            raw = socket.socket(fileno=options.channel)
            with raw:
                script(Channel(raw), raw)

        monkeypatch.setattr(supervisor, "start_enclave", lambda _: start_thread(serve))
        return line_of(12, inside(*job.train("--restarts", 0)))

    return run


def test_garbage_from_an_enclave_is_refused(with_enclave: Callable[[Script], str]) -> None:
    assert with_enclave(lambda _, raw: raw.sendall(GARBAGE)).startswith("refused a message: ")
    assert with_enclave(lambda _, raw: raw.sendall(HUGE)).startswith("refused a message of 4294967295 bytes")


def test_an_enclave_that_ends_within_a_message_has_died(with_enclave: Callable[[Script], str]) -> None:
    for content in (b"", HALF, HALF[:3]):
        assert with_enclave(lambda _, raw, content=content: raw.sendall(content)).startswith("the enclave died")


def test_an_enclave_may_not_send_what_is_the_owners(with_enclave: Callable[[Script], str]) -> None:
    for message in (KeyRelease(b"k"), Challenge(b"s", b"n"), Stop()):
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
