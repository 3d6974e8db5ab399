"""A hostile host, and the enclave: its process, and its code."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hostile import GARBAGE, HALF, HUGE, bound_to, talk_to
from hosting import kept
from inside import Command
from jobs import Job
from plinius.attest.release import KEMS, seal_key
from plinius.enclave import main as enclave
from plinius.host import child
from plinius.host.files import opened
from plinius.inspection import describe
from plinius.seal import Key
from plinius.wire import (
    Challenge,
    Channel,
    Evidence,
    Failed,
    FromEnclave,
    Infer,
    Inferred,
    KeyRelease,
    KeyRequest,
    Message,
    Progress,
    Started,
    Stop,
    Train,
    Trained,
)


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
        challenge = Challenge(bytes(16), bytes(32), KEMS[0])
        self.channel.send(challenge)
        answer = self.channel.receive(FromEnclave)
        assert isinstance(answer, Evidence)
        self.channel.send(
            KeyRelease(seal_key(self._key, KEMS[0], answer.public_key, bound_to(challenge, answer.public_key)))
        )

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
        with (
            kept(fds["pool"]) as pool,
            talk_to(enclave.serve, **fds, pool_channel=pool.detach(), tee="simulated", tpm=None) as (channel, raw),
        ):
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
            host.channel.send(Challenge(bytes(16), bytes(32), KEMS[0]))
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
