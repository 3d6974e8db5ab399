"""Other systems that run the same workload: programs that are started once for each measurement.

A peer is called as ``COMMAND POOL_FILE ARRAY_BYTES SWAPS_PER_TRANSACTION SECONDS PWB SEED`` and prints one line of
JSON. `bench/peers/README.md` says what it has to do.
"""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from plinius.bench.source import source_tree
from plinius.errors import ConfigError, PliniusError

Answer = TypeVar("Answer")

# Creating a pool takes a second or so on a slow machine.
_PATIENCE_S: Final = 60


@dataclass(frozen=True)
class Workload:
    """What is measured once."""

    pool: str
    array_bytes: int
    swaps_per_transaction: int
    seconds: float
    pwb: str
    seed: int


class Swapped(msgspec.Struct, frozen=True):
    """What a peer answers."""

    swaps: int
    seconds: float
    checksum_ok: bool


@dataclass(frozen=True)
class Peer:
    """A system to compare with."""

    name: str
    command: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Peer:
        """Reads ``NAME=COMMAND``; the command is split as a shell does it.

        Raises:
            ConfigError: It is none.
        """
        name, _, command = text.partition("=")
        if not name or not command.strip():
            raise ConfigError(f"--peer {text}: say NAME=COMMAND, as in libpmemobj=target/pmemobj_sps")
        return cls(name, _words(command))

    def __str__(self) -> str:
        """As it is parsed."""
        return f"{self.name}={shlex.join(self.command)}"

    def swaps_per_s(self, workload: Workload) -> float:
        """Runs the workload.

        Raises:
            PliniusError: The peer failed, or lost a word.
        """
        answer = ask(self.command, workload, Swapped)
        if not answer.checksum_ok:
            raise PliniusError(f"{self.name} lost a word of the array while it swapped ({workload})")
        return answer.swaps / answer.seconds


class Fences(msgspec.Struct, frozen=True):
    """What `bench/fences.rs` answers: all of it for one transaction, in the mean or the median.

    Attributes:
        fences: How many there are.
        written_back_lines: Cache lines that pwb wrote back.
        copied_lines: Cache lines that were copied to the second heap.
        one_line_ns: To store one word, write it back and fence, with nothing else to wait for.
        transaction_ns: The whole transaction.
        fence_ns: For each fence, what the transaction is faster without it.
        all_fences_ns: What it is faster without any.
        noise_ns: The same difference between two equal transactions.
    """

    fences: float
    written_back_lines: float
    copied_lines: float
    one_line_ns: float
    transaction_ns: float
    fence_ns: list[float]
    all_fences_ns: float
    noise_ns: float


def fences(command: str, workload: Workload) -> Fences:
    """Has the cost of each fence measured.

    Raises:
        ConfigError: There is no such program.
        PliniusError: It failed.
    """
    return ask(_words(command), workload, Fences)


def ask(command: tuple[str, ...], workload: Workload, kind: type[Answer]) -> Answer:
    """Runs a program on a workload, and reads its last line."""
    arguments = (
        workload.pool,
        str(workload.array_bytes),
        str(workload.swaps_per_transaction),
        str(workload.seconds),
        workload.pwb,
        str(workload.seed),
    )
    limit_s = 3 * workload.seconds + _PATIENCE_S
    try:
        done = subprocess.run(  # noqa: S603 (the user named the program)
            [*command, *arguments], capture_output=True, text=True, errors="replace", timeout=limit_s, check=False
        )
    except OSError as error:
        raise ConfigError(f"{command[0]}: cannot be run: {error.strerror}; build it with: make bench-sps") from None
    except subprocess.TimeoutExpired:
        raise PliniusError(f"{command[0]}: did not end after {limit_s:.0f} s") from None
    if done.returncode:
        raise PliniusError(f"{command[0]}: failed ({done.returncode}): {_last_line(done.stderr)}")
    try:
        return msgspec.json.decode(_last_line(done.stdout), type=kind)
    except msgspec.DecodeError as error:
        raise PliniusError(f"{command[0]}: its answer is no {kind.__name__}: {error}") from None


def _words(command: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(command))
    except ValueError as error:
        raise ConfigError(f"{command}: {error}") from None


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def built_peers() -> list[Peer]:
    """The peer that this source tree has built, if it has: `make target/pmemobj_sps`."""
    root = source_tree()
    built = root / "target" / "pmemobj_sps" if root else None
    return [Peer("libpmemobj", (str(built),))] if built and built.is_file() else []
