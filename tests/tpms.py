"""Software TPMs (swtpm) for tests: each a process with its state in a folder, reached as the kernel's /dev/tpmrm0 is.

swtpm serves one connection at a time. A thread in between takes many and passes one command on at a time, which is what
the kernel's resource manager does as far as tests need it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

_FETCHED = Path(__file__).parent.parent / ".cache" / "swtpm" / "usr"
_STARTS_WITHIN = 20.0  # seconds


_connections: list[socket.socket] = []


class SoftwareTpm:
    """A running swtpm."""

    def __init__(self, program: str, folder: Path) -> None:
        self._folder, self.path = folder, folder / "many"
        libraries = str(_FETCHED / "lib" / "here") if program.startswith(str(_FETCHED)) else ""
        command = [program, "socket", "--tpm2", "--tpmstate", f"dir={folder}"]
        command += ["--server", f"type=unixio,path={self.alone}", "--ctrl", f"type=unixio,path={self.alone}.ctrl"]
        command += ["--flags", "not-need-init,startup-clear"]
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command, env={**os.environ, "LD_LIBRARY_PATH": libraries}, stdout=log, stderr=log
            )
        self._tpm: socket.socket | None = None
        self._turn = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def alone(self) -> Path:
        """swtpm's own socket, for a test that wants no thread in between (and then no other connection)."""
        return self._folder / "alone"

    def wait(self) -> None:
        """Waits until it serves."""
        until = time.monotonic() + _STARTS_WITHIN
        with socket.socket(socket.AF_UNIX) as probe:
            while probe.connect_ex(str(self.alone)):
                if self._process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"swtpm does not start: {(self._folder / 'log').read_text()}")
                time.sleep(0.005)

    def connect(self) -> int:
        """A new connection: a descriptor, which is closed when the module's tests end."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.path))
        _connections.append(connection)
        return connection.fileno()

    def kill(self) -> None:
        """Ends it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.kill()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            while command := client.recv(4096):
                with self._turn:
                    if self._tpm is None:
                        self._tpm = socket.socket(socket.AF_UNIX)
                        self._tpm.connect(str(self.alone))
                    self._tpm.sendall(command)
                    response = self._tpm.recv(4096)
                if not response:
                    return
                client.sendall(response)


@pytest.fixture(autouse=True, scope="module")
def connections_closed() -> Iterator[None]:
    """Ends what tests had connected."""
    yield
    while _connections:
        _connections.pop().close()


@pytest.fixture(scope="session")
def new_tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], SoftwareTpm]]:
    """Starts software TPMs, each with an empty state; they end with the session."""
    path = f"{os.environ.get('PATH', '')}:{_FETCHED / 'bin'}"
    program = shutil.which("swtpm", path=path)
    if program is None or find_spec("tpm2_pytss") is None:
        pytest.skip("no swtpm or no tpm2-pytss: `make setup` gets both where apt-get can reach Debian's packages")
    with ExitStack() as running:

        def start() -> SoftwareTpm:
            started = SoftwareTpm(program, tmp_path_factory.mktemp("tpm"))
            running.callback(started.close)
            started.wait()
            return started

        yield start


@pytest.fixture(scope="session")
def software_tpm(new_tpm: Callable[[], SoftwareTpm]) -> SoftwareTpm:
    """A TPM that tests leave as it is (they may use NV indexes of their own)."""
    return new_tpm()


@pytest.fixture(scope="session")
def other_software_tpm(new_tpm: Callable[[], SoftwareTpm]) -> SoftwareTpm:
    """Another machine's TPM."""
    return new_tpm()
