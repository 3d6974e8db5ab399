"""Small training jobs for the tests, run through the command line as a user would."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PLINIUS = Path(sys.executable).with_name("plinius")
PATIENCE_S = 60.0
CLASSES = 10

CFG = """
[net]
batch={batch}
subdivisions=1
height=8
width=8
channels=1
learning_rate={learning_rate}
policy=constant
max_batches=6
momentum=0.9
decay=0.0005

[convolutional]
batch_normalize=1
filters={filters}
size=3
stride=1
pad=1
activation=leaky

[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=leaky

[dropout]
probability=.2

[connected]
output=10
activation=linear

[softmax]
groups=1
"""


@dataclass(frozen=True)
class Job:
    """The files of a training job."""

    cfg: Path
    data: Path
    key: Path
    pool: Path

    def train(self, *options: object) -> list[str]:
        """The arguments of `plinius train`."""
        named = ["--data", self.data, "--key", self.key, "--pool", self.pool]
        return ["train", *map(str, [self.cfg, *named, "--threads", "1", *options])]

    def infer(self, *options: object) -> list[str]:
        named = ["--data", self.data, "--key", self.key, "--pool", self.pool]
        return ["infer", *map(str, [self.cfg, *named, *options])]

    def export(self, output: Path) -> list[str]:
        return ["export", *map(str, [self.cfg, "--key", self.key, "--pool", self.pool, "--output", output])]

    def but(self, **files: Path) -> Job:
        """The same job with other files."""
        return replace(self, **files)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What ``--json`` printed."""
        return [json.loads(line) for line in self.out.splitlines()]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The messages of a type."""
        return [message for message in self.messages if message["type"] == kind]


def plinius(*arguments: object, **options: Any) -> Done:
    """Runs a command to its end."""
    command = [PLINIUS, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, **options)
    return Done(done.returncode, done.stdout, done.stderr)


def must(*arguments: object) -> Done:
    """Runs a command that succeeds."""
    done = plinius(*arguments)
    assert (done.code, done.err) == (0, ""), done
    return done


def refused(code: int, *arguments: object, **options: Any) -> str:
    """Runs a command that must fail with an exit code and one line, which it returns."""
    return line_of(code, plinius(*arguments, **options))


def line_of(code: int, done: Done) -> str:
    """The one line of a command that failed with an exit code."""
    assert done.err.startswith("plinius: "), done
    assert done.err.endswith("\n"), done
    assert done.err.count("\n") == 1, done
    assert "Traceback" not in done.out, done
    assert done.code == code, done
    return done.err.removeprefix("plinius: ").strip()


class Running:
    """`plinius train --json` while it runs; `stop` or a kill ends it.

    Args:
        arguments: Of the command, without ``--json``.
        options: Of `Popen`.
    """

    def __init__(self, *arguments: str, **options: Any) -> None:
        pipe = subprocess.PIPE
        self.host = subprocess.Popen([PLINIUS, *arguments, "--json"], stdout=pipe, stderr=pipe, text=True, **options)

    @property
    def pid(self) -> int:
        return self.host.pid

    def messages(self) -> Iterator[dict[str, Any]]:
        """What it prints from now on, until it is gone; a line that a kill cut is left out."""
        assert self.host.stdout
        for line in self.host.stdout:
            if line.endswith("}\n"):
                yield json.loads(line)

    def until(self, kind: str, **facts: object) -> dict[str, Any]:
        """Waits for a message."""
        for message in self.messages():
            if message["type"] == kind and all(message[name] == value for name, value in facts.items()):
                return message
        raise AssertionError(f"it ended without {kind} {facts}: {self.end()}")

    def enclave(self) -> int:
        """The enclave's process."""
        return wait_for(lambda: child_of(self.pid, "plinius.enclave.main"))

    def end(self) -> Done:
        """Waits for its end."""
        out, err = self.host.communicate(timeout=PATIENCE_S)
        return Done(self.host.returncode, out, err)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.host.kill()
        self.host.communicate()


def child_of(process: int, module: str, but: Collection[int] = ()) -> int | None:
    """The child that runs a module and is none of those; None if there is none now."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return None
    others = (int(child) for child in children if int(child) not in but)
    return next((child for child in others if module in _command_line(child)), None)


def is_alive(process: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for(found: Callable[[], Any], within_s: float = PATIENCE_S) -> Any:
    """Waits until something is true and returns it."""
    deadline_s = time.monotonic() + within_s
    while not (result := found()):
        assert time.monotonic() < deadline_s, f"not within {within_s} s"
        time.sleep(0.002)
    return result


def idx_bytes(array: npt.NDArray[np.uint8]) -> bytes:
    """An array of bytes as an IDX file."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def pictures(count: int, seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Random images whose class can be learnt: the row that is bright."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count, dtype=np.uint8)
    images = random.integers(0, 120, (count, 8, 8), dtype=np.uint8)
    images[np.arange(count), labels % 8] += 120
    return images, labels


def contents(folder: Path) -> Mapping[str, bytes]:
    """All files of a folder, to see that nothing was lost."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()}


def _command_line(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode().replace("\0", " ")
    except OSError:
        return ""


def environment(**more: str) -> dict[str, str]:
    """The environment of this process and more."""
    return {**os.environ, **more}
