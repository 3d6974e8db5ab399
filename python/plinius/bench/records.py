"""The files of a report: one for each experiment, whole or not at all, kept for the same plan and machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec

from plinius.bench import storage
from plinius.bench.machine import Machine
from plinius.bench.peers import built_peers
from plinius.errors import ConfigError


class Settings(msgspec.Struct, frozen=True):
    """What decides, besides the machine, whether an older result answers the same question.

    Attributes:
        quick: See `Plan`.
        memory: See `Plan`.
        disk: See `Plan`.
        data: See `Plan`.
        peers: That the user named.
        surroundings: See `surroundings`.
        code: The measurement of this package: what it measures may have changed.
    """

    quick: bool
    memory: str
    disk: str
    data: str | None
    peers: list[str]
    surroundings: list[str]
    code: str


def surroundings(data: Path | None) -> list[str]:
    """What is here that experiments find by themselves, and measure something else without."""
    folders = sorted(path.name for path in data.iterdir() if path.is_dir()) if data else []
    return [storage.tool(), *(peer.name for peer in built_peers()), *folders]


class Record(msgspec.Struct, frozen=True):
    """One experiment, as its file has it.

    Attributes:
        experiment: Its name.
        settings: Of the run.
        machine: Where.
        measured_at: When it was over, in RFC 3339.
        took_s: How long it took.
        busy_cores: How many cores other programs kept busy just before it or just after it.
        result: What was measured; None: nothing was.
        reason: Why nothing was.
    """

    experiment: str
    settings: Settings
    machine: Machine
    measured_at: str
    took_s: float
    busy_cores: float
    result: dict[str, Any] | None = None
    reason: str | None = None


def read(path: Path) -> Record | None:
    """Reads a record; None: there is none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):
        return None


def check(record: Record) -> None:
    """Raises what `write` would.

    Raises:
        ValueError: A number of it is none, or infinite.
    """
    json.dumps(msgspec.to_builtins(record), allow_nan=False)


def write(path: Path, record: Record) -> None:
    """Writes a record.

    Raises:
        ConfigError: It cannot be written.
        ValueError: A number of it is none, or infinite.
    """
    replace(path, (json.dumps(msgspec.to_builtins(record), indent=1, allow_nan=False) + "\n").encode())


def replace(path: Path, content: bytes) -> None:
    """Makes a file, or replaces it, so that it is whole whenever somebody looks, and stays.

    Raises:
        ConfigError: It cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot write: {error.strerror}", path=str(path)) from None
