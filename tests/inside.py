"""The command line with enclave and owner as threads of the test: what takes seconds as processes takes milliseconds.

Everything but the start of the two processes, and their hardening, is the real code: command, host, messages, owner,
enclave.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from jobs import Done
from plinius import cli, process
from plinius.enclave import main as enclave
from plinius.host import supervisor
from plinius.host.child import Child, Enclave, Owner
from plinius.host.files import Files
from plinius.owner import main as owner
from plinius.wire import MAX_POOL_FRAME_BYTES, Channel

Command = Callable[..., Done]


class _Thread:
    """What the host uses of a process."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def wait(self, timeout: float | None = None) -> int:
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise subprocess.TimeoutExpired("thread", timeout or 0)
        return 0

    def kill(self) -> None:
        """A thread sees the end of its channel."""


def start_thread(serve: Callable[[argparse.Namespace], None], **options: Any) -> Child:
    """Starts one side of a channel as a thread; what the host gets."""
    ours, theirs = socket.socketpair()
    end = theirs.dup()
    named = argparse.Namespace(channel=theirs.detach(), **options)

    def work() -> None:
        # However it ends, the other side sees it, as it sees the end of a process.
        with end, suppress(SystemExit):
            try:
                serve(named)
            finally:
                end.shutdown(socket.SHUT_RDWR)

    thread: Any = _Thread(work)
    return Child(thread, Channel(ours))


def start_enclave_thread(serve: Callable[[argparse.Namespace], None], **options: Any) -> Enclave:
    """The same for the enclave's, which has a channel for the pool too."""
    ours, theirs = socket.socketpair()
    child = start_thread(serve, pool_channel=theirs.detach(), **options)
    return Enclave(child.process, child.channel, Channel(ours, MAX_POOL_FRAME_BYTES))


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in this process."""
    # The enclave shows warnings in its own way, and here it is a thread of this process.
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    # Hardening this process could not be taken back.
    monkeypatch.setattr(process, "leave_no_traces", lambda: None)

    def start_enclave(files: Files, *options: str) -> Enclave:
        return start_enclave_thread(
            enclave.serve, pool=files.pool, data=files.data, cfg=files.cfg, tee="simulated", tpm=None
        )

    def start_owner(asked: Owner) -> Child:
        return start_thread(owner.serve, key=asked.key_path, reveal=asked.reveal)

    monkeypatch.setattr(supervisor, "start_enclave", start_enclave)
    monkeypatch.setattr(Owner, "start", start_owner)

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["plinius", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, captured.out, captured.err)

    return run
