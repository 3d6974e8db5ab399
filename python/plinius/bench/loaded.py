"""What the trusted process loads, seen from inside: a process that imports what the enclave does, and rehearses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from plinius.errors import PliniusError

_PATIENCE_S: Final = 300
# As in the enclave before the key arrives: what its main module loads, and in the rehearsal what a training needs.
_PROGRAM: Final = """
import json, sys
import plinius.enclave.main
import torch
from plinius.attest import attesters, simulated
from plinius.enclave import commands, provisioning, rehearsal, sandbox
rehearsal.rehearse()
objects = sorted({line.split(maxsplit=5)[5].strip() for line in open("/proc/self/maps") if ".so" in line})
json.dump({"objects": objects, "modules": sorted(sys.modules)}, sys.stdout)
"""


@dataclass(frozen=True)
class Loaded:
    """What is loaded.

    Attributes:
        objects: Bytes of each shared object's file, by its name.
        modules: How many modules of each top-level package.
        own: Our modules.
    """

    objects: dict[str, int]
    modules: dict[str, int]
    own: list[str]

    @property
    def megabytes(self) -> float:
        """Of all shared objects together."""
        return sum(self.objects.values()) / 1e6


def look() -> Loaded:
    """Starts such a process and looks.

    Raises:
        PliniusError: It failed; torch is missing, most likely.
    """
    command = [sys.executable, "-c", _PROGRAM]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ran = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False, env=environment
    )
    if ran.returncode:
        last = ran.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise PliniusError(f"a process that loads what the enclave does failed: {last[0]}")
    found = json.loads(ran.stdout)
    modules: dict[str, int] = {}
    for name in found["modules"]:
        top = name.partition(".")[0]
        modules[top] = modules.get(top, 0) + 1
    own = [name for name in found["modules"] if name.partition(".")[0] == "plinius"]
    return Loaded({Path(path).name: _size(path) for path in found["objects"]}, modules, own)


def _size(path: str) -> int:
    """Of a file; 0 if it is gone from where it was mapped."""
    return Path(path).stat().st_size if Path(path).exists() else 0
