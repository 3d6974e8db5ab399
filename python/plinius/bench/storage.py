"""Reads and writes of 4 KiB by several threads: with `fio` where it is installed, else with a loop of our own.

Every thread has a file of its own, laid out before the clock starts. A write is followed by an fsync. Reads are direct
(O_DIRECT) where they are asked for, so that the page cache is not what is measured.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from plinius.errors import PliniusError

BLOCK_BYTES: Final = 4096
LOOP: Final = "loop"
FIO: Final = "fio"
_LAYOUT_BYTES: Final = 1 << 20
_FIO_TIMEOUT_S: Final = 120
_OFFSETS: Final = 1 << 16


@dataclass(frozen=True)
class Pattern:
    """A way to use a file.

    Attributes:
        writes: It is written, else read.
        random: In no order, else from the beginning to the end and again.
    """

    writes: bool
    random: bool

    @property
    def name(self) -> str:
        """For people."""
        return f"{'random' if self.random else 'sequential'} {'write' if self.writes else 'read'}"


PATTERNS: Final = tuple(Pattern(writes, random) for writes in (False, True) for random in (False, True))


@dataclass(frozen=True)
class Load:
    """One point of the figure.

    Attributes:
        folder: Where the files are; see `lay_out`.
        pattern: What is done.
        threads: How many do it.
        file_bytes: The size of each thread's file.
        seconds: For so long.
        direct: Past the page cache.
    """

    folder: Path
    pattern: Pattern
    threads: int
    file_bytes: int
    seconds: float
    direct: bool


def tool() -> str:
    """What measures on this machine."""
    return FIO if shutil.which(FIO) else LOOP


def lay_out(folder: Path, threads: int, file_bytes: int) -> None:
    """Writes the files of all threads, with bytes that are no zeros, and makes them durable.

    Raises:
        PliniusError: There is no room, or this folder cannot be used.
    """
    content = os.urandom(min(_LAYOUT_BYTES, file_bytes))
    try:
        for number in range(threads):
            with _file(folder, number).open("wb") as file:
                for _ in range(file_bytes // len(content)):
                    file.write(content)
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise PliniusError(f"{folder}: cannot lay out files here: {error.strerror}") from None


def can_be_direct(folder: Path) -> bool:
    """Whether files in this folder can be read past the page cache."""
    try:
        descriptor = os.open(_file(folder, 0), os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return False
        raise
    os.close(descriptor)
    return True


def bytes_per_s(load: Load, measured_with: str) -> float:
    """Measures one point.

    Raises:
        PliniusError: fio failed, or a file could not be used.
    """
    try:
        return _with_fio(load) if measured_with == FIO else _with_loop(load)
    except OSError as error:
        raise PliniusError(f"{load.folder}: cannot measure here: {error.strerror}") from None


def _file(folder: Path, number: int) -> Path:
    return folder / f"data.{number}"


def _with_fio(load: Load) -> float:
    kind = ("rand" if load.pattern.random else "") + ("write" if load.pattern.writes else "read")
    options = {
        "name": "data",
        "directory": load.folder,
        "filename_format": "data.$jobnum",
        "rw": kind,
        "bs": BLOCK_BYTES,
        "size": load.file_bytes,
        "numjobs": load.threads,
        "runtime": f"{round(load.seconds * 1000)}ms",
        "ioengine": "psync",
        "direct": int(load.direct),
        "fsync": int(load.pattern.writes),
        "invalidate": int(load.direct),
        "output-format": "json",
    }
    flags = ["--thread", "--time_based", "--group_reporting"]
    command = [FIO, *flags, *(f"--{name}={value}" for name, value in options.items())]
    try:
        done = subprocess.run(  # noqa: S603 (the words are ours)
            command, capture_output=True, text=True, check=True, timeout=_FIO_TIMEOUT_S, cwd=load.folder
        )
        [job] = json.loads(done.stdout)["jobs"]
        return float(job["write" if load.pattern.writes else "read"]["bw_bytes"])
    except subprocess.CalledProcessError as error:
        raise PliniusError(f"fio failed in {load.folder}: {error.stderr.strip() or error.stdout.strip()}") from None
    except (subprocess.TimeoutExpired, ValueError, KeyError) as error:
        raise PliniusError(f"fio did not answer as expected: {type(error).__name__}") from None


def _with_loop(load: Load) -> float:
    """All threads begin together; each goes on until the time is up, and counts what it did until then."""
    done = [0.0] * load.threads
    errors: list[OSError] = []
    begin = threading.Barrier(load.threads)

    def run(number: int, operate: Callable[[int], object]) -> None:
        offsets = _offsets(load, number)
        count, passed_s = 0, 0.0
        begin.wait()
        begun_s = time.perf_counter()
        try:
            while passed_s < load.seconds:
                operate(next(offsets))
                count += 1
                passed_s = time.perf_counter() - begun_s
        except OSError as error:
            errors.append(error)
        else:
            done[number] = count * BLOCK_BYTES / passed_s

    with ExitStack() as stack:
        operations = [stack.enter_context(_operation(load, number)) for number in range(load.threads)]
        threads = [threading.Thread(target=run, args=pair) for pair in enumerate(operations)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    return sum(done)


def _offsets(load: Load, number: int) -> Iterator[int]:
    """Where a thread reads or writes, without end."""
    blocks = load.file_bytes // BLOCK_BYTES
    order = np.arange(blocks)
    if load.pattern.random:
        order = np.random.default_rng(number).integers(0, blocks, _OFFSETS)
    offsets: list[int] = (order * BLOCK_BYTES).tolist()
    while True:
        yield from offsets


@contextmanager
def _operation(load: Load, number: int) -> Iterator[Callable[[int], object]]:
    """What a thread does at an offset. Its memory is a page, as O_DIRECT wants it."""
    flags = (os.O_WRONLY if load.pattern.writes else os.O_RDONLY) | (os.O_DIRECT if load.direct else 0) | os.O_CLOEXEC
    descriptor = os.open(_file(load.folder, number), flags)
    try:
        with mmap.mmap(-1, BLOCK_BYTES) as page:
            page[:] = os.urandom(BLOCK_BYTES)

            def read(offset: int) -> None:
                os.preadv(descriptor, [page], offset)

            def write(offset: int) -> None:
                os.pwrite(descriptor, page, offset)
                os.fsync(descriptor)

            yield write if load.pattern.writes else read
    finally:
        os.close(descriptor)
