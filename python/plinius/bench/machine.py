"""What a result was measured on."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from plinius import pool
from plinius.bench.experiment import Plan
from plinius.bench.tables import cpu

_LOOKS: Final = 3
_LOOK_S: Final = 0.1
_PACKAGES: Final = ("plinius", "torch", "numpy", "cryptography")


@dataclass(frozen=True)
class Machine:
    """A machine, and what it runs.

    Attributes:
        cpu: Its name.
        cores: That this process may use.
        kernel: Its release.
        memory: The medium of the pools, in words.
        disk: The medium of the folder on the disk, in words.
        versions: By package.
    """

    cpu: str
    cores: int
    kernel: str
    memory: str
    disk: str
    versions: dict[str, str]


def this_machine(plan: Plan) -> Machine:
    """The one that this runs on.

    Raises:
        PoolError: There is no such folder.
    """
    versions = {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}
    media = [pool.medium_at(str(folder))[0] for folder in (plan.memory, plan.disk)]
    cores = len(os.sched_getaffinity(0))
    return Machine(
        cpu(), cores, platform.release(), media[0], f"{media[1]} on {_file_system(str(plan.disk))}", versions
    )


def busy_cores() -> float:
    """How many cores other programs keep busy now: nothing of ours does while this looks.

    What ended just before may still be cleared away, so the quietest of a few looks counts.
    """
    return min(_busy_cores() for _ in range(_LOOKS))


def _busy_cores() -> float:
    before = _spent_s()
    time.sleep(_LOOK_S)
    return (_spent_s() - before) / _LOOK_S


def _spent_s() -> float:
    """Seconds that the cores of this process have worked, from /proc/stat; proc(5): the 4th and 5th column are idle."""
    ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    spent = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *numbers = line.split()
        if name in ours:
            user, nice, system, _idle, _io_wait, interrupts, soft_interrupts, steal, *_ = map(int, numbers)
            spent += user + nice + system + interrupts + soft_interrupts + steal
    return spent / os.sysconf("SC_CLK_TCK")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _file_system(folder: str) -> str:
    """The type of the file system with a folder, from /proc/mounts; a later mount hides an earlier one."""
    found = ("", "unknown")
    path = os.path.realpath(folder)
    with open("/proc/mounts") as mounts:  # noqa: PTH123
        for line in mounts:
            _, at, kind, *_ = line.split()
            inside = path == at or path.startswith(at.rstrip("/") + "/")
            if inside and len(at) >= len(found[0]):
                found = (at, kind)
    return found[1]
