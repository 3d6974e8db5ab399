"""Starting the two trusted processes, each with the channels and descriptors that it needs, and nothing else."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from plinius.host.files import Files
from plinius.wire import MAX_POOL_FRAME_BYTES, Channel

# PASSIVE: OpenMP threads that spin while they wait take the cores from everybody else on the machine; on two shared
# cores a training step then took five times as long.
_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "LC_ALL": "C.UTF-8", "PATH": os.defpath}


class Peer(Protocol):
    """Whoever answers the enclave's questions about its key."""

    @property
    def channel(self) -> Channel:
        """Where it is asked."""

    def end(self) -> object:
        """Asks nothing more."""

    def kill(self) -> None:
        """Ends it at once."""


@dataclass
class Child:
    """A running process and our end of its channel."""

    process: subprocess.Popen[bytes]
    channel: Channel

    def end(self) -> int:
        """Closes the channel, makes sure that the process is gone, and returns its exit status."""
        self.channel.close()
        try:
            return self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def kill(self) -> None:
        """Kills the process; `end` waits for it."""
        self.process.kill()


@dataclass
class Enclave(Child):
    """The enclave's process.

    Attributes:
        pool_channel: On which it asks for the pool.
    """

    pool_channel: Channel

    def end(self) -> int:
        """As `Child.end`."""
        self.pool_channel.close()
        return super().end()


@dataclass(frozen=True)
class Owner:
    """What the user says as the owner of the job, handed to the owner process.

    Attributes:
        key_path: The key file; the host never opens it.
        reveal: What the enclave may tell the host: loss, accuracy.
    """

    key_path: str
    reveal: tuple[str, ...]

    def start(self) -> Child:
        """Starts the owner process, which alone opens the key file."""
        options = [f"--key={self.key_path}", *(f"--reveal={it}" for it in self.reveal)]
        return _start("plinius.owner.main", options, ())


def start_enclave(files: Files, *options: str) -> Enclave:
    """Starts the enclave process, with further options of its command line."""
    ours, theirs = socket.socketpair()
    with theirs:
        named = {"pool": files.pool, "data": files.data, "cfg": files.cfg, "tpm": files.tpm}
        descriptors = {name: fd for name, fd in named.items() if fd is not None} | {"pool-channel": theirs.fileno()}
        child = _start(
            "plinius.enclave.main",
            [*(f"--{name}={fd}" for name, fd in descriptors.items()), *options],
            descriptors.values(),
        )
    return Enclave(child.process, child.channel, Channel(ours, MAX_POOL_FRAME_BYTES))


def _start(module: str, options: list[str], descriptors: object) -> Child:
    ours, theirs = socket.socketpair()
    with theirs, _keyboard_blocked():
        # -I: neither the environment nor the current folder can put other code in the place of ours.
        command = [
            sys.executable,
            "-I",
            "-m",
            module,
            f"--parent={os.getpid()}",
            f"--channel={theirs.fileno()}",
        ]
        process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            [*command, *options],
            pass_fds=(theirs.fileno(), *descriptors),  # type: ignore[misc]
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT,
        )
    return Child(process, Channel(ours))


@contextmanager
def _keyboard_blocked() -> Iterator[None]:
    """Ctrl-C reaches the whole group: a child that is started here is deaf to it before it can say so itself."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
