"""Two claims on one file: who stores into a pool that its owner has open, or that nobody has open any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from plinius import Pool
from plinius.errors import PoolBusy, PoolError

PATIENCE_S = 3.0

# As the enclave does it: the descriptor is inherited.
MAP = """
import sys
from plinius._core import Mapping, Medium
from plinius.errors import PoolError
descriptor = int(sys.argv[1])
try:
    mapping = Mapping.on(Medium.of(descriptor), descriptor)
except PoolError as error:
    print("refused:", error, flush=True)
    sys.exit()
print("mapped", flush=True)
for line in sys.stdin:
    offset, length = map(int, line.split())
    mapping.write((offset, length), 0, b"s" * length)
    print("stored", flush=True)
"""


class Child:
    """Another process that maps the pool to store into it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self.pid = process, process.pid
        self.said = self._line()

    def store(self, extent: tuple[int, int]) -> None:
        assert self.process.stdin is not None
        print(*extent, file=self.process.stdin, flush=True)
        assert self._line() == "stored"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextmanager
def mapping(descriptor: int) -> Iterator[Child]:
    command = [sys.executable, "-I", "-c", MAP, str(descriptor)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, pass_fds=(descriptor,)) as process:
        try:
            yield Child(process)
        finally:
            process.kill()


@pytest.fixture
def descriptor(path: Path) -> Iterator[int]:
    """The file of a pool that nobody has open. It is closed last: that would let go of a pool's lock."""
    Pool(path).close()
    opened = os.open(path, os.O_RDWR)
    yield opened
    os.close(opened)


def test_a_pool_into_which_a_process_still_stores_is_busy(path: Path, descriptor: int) -> None:
    with mapping(descriptor) as child:
        assert child.said == "mapped"
        for _ in range(2):  # the first refusal leaves no claim of ours behind, and nothing listed
            began_s = time.monotonic()
            with pytest.raises(PoolBusy, match=f"^{path}: the pool is open in process {child.pid};"):
                Pool(path)
            assert PATIENCE_S <= time.monotonic() - began_s < PATIENCE_S + 10
        child.kill()
        Pool(path).close()


def test_who_was_refused_holds_nothing(path: Path, descriptor: int) -> None:
    with mapping(descriptor) as child:
        with pytest.raises(PoolBusy):
            Pool(path)
        child.kill()
        code = "import sys; from plinius import Pool; Pool(sys.argv[1])"
        subprocess.run([sys.executable, "-I", "-c", code, path], check=True)


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_a_pool_is_open_as_soon_as_that_process_is_gone(path: Path, descriptor: int, stopped: bool) -> None:
    with mapping(descriptor) as child:
        assert child.said == "mapped"
        if stopped:
            os.kill(child.pid, signal.SIGSTOP)
        killer = threading.Timer(0.5, child.process.kill)
        killer.start()
        began_s = time.monotonic()
        with Pool(path) as pool:
            took_s = time.monotonic() - began_s
            assert child.process.wait(10) == -signal.SIGKILL
            assert pool.bytes > 0
        killer.join()
        assert 0.4 < took_s < PATIENCE_S


def test_a_pool_that_is_open_here_is_mapped_by_a_child_and_committed_here(path: Path, descriptor: int) -> None:
    with Pool(path) as pool, mapping(descriptor) as child:
        assert child.said == "mapped"
        for number in range(3):
            reserved = pool.reserve()
            extents = reserved.more([5000])
            child.store(extents[0])
            reserved.commit(f"entry {number}", b"", extents)
            time.sleep(0.03)  # the lock is not believed to be held for so long: it is taken anew
        child.kill()
    with Pool(path) as pool:
        assert [entry[0] for entry in pool.core.entries()] == ["entry 0", "entry 1", "entry 2"]
        for _, _, ((offset, length),) in pool.core.entries():
            assert path.read_bytes()[offset : offset + length] == b"s" * length


def test_one_process_stores_at_a_time(path: Path, descriptor: int) -> None:
    with Pool(path) as pool, mapping(descriptor) as first:
        assert first.said == "mapped"
        with mapping(descriptor) as second:
            assert second.said.startswith(f"refused: the pool is open in process {first.pid}")
        reserved = pool.reserve()
        extents = reserved.more([100])
        first.store(extents[0])
        reserved.commit("entry", b"", extents)
        first.kill()
        with mapping(descriptor) as third:
            assert third.said == "mapped"


def test_who_has_a_pool_open_refuses_another_opener_while_its_child_stores(path: Path, descriptor: int) -> None:
    code = "import sys; from plinius import Pool; Pool(sys.argv[1])"
    with Pool(path), mapping(descriptor) as child:
        assert child.said == "mapped"
        done = subprocess.run([sys.executable, "-I", "-c", code, path], capture_output=True, text=True, check=False)
        assert f"the pool is open in process {os.getpid()};" in done.stderr


def test_who_maps_a_pool_claims_it_once_more_without_harm(path: Path, descriptor: int) -> None:
    """Claims belong to the process: a second mapping here is no second process."""
    from plinius._core import Mapping, Medium  # noqa: PLC0415 (the core is not this test's to import at its top)

    first = Mapping.on(Medium.of(descriptor), descriptor)
    second = Mapping.on(Medium.of(descriptor), descriptor)
    with mapping(descriptor) as child:
        assert child.said.startswith("refused: ")
    first.close()
    second.close()
    with pytest.raises(PoolError, match="closed"):
        first.write((0, 1), 0, b"x")
    with mapping(descriptor) as child:
        assert child.said == "mapped"
