"""Two checks: what a medium is said to be, and the pool's own tests on persistent memory."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cases import FSDAX, Case, Seen
from machine import CheckError, Device, Image, Machine

_CHECKOUT: Final = Path(__file__).resolve().parent.parent.parent
GUEST: Final = Path(__file__).resolve().parent / "guest"
PYTHON: Final = ".venv/bin/python"
PLACE: Final = "/plinius-dax"
_LIMIT_S: Final = 240
_TESTS_LIMIT_S: Final = 900


@dataclass
class Guests:
    """Where guests come from.

    Attributes:
        image: What they boot.
        folder: For their devices and consoles.
        boots_s: How long each took to boot.
    """

    image: Image
    folder: Path
    boots_s: list[float] = field(default_factory=list)

    @contextmanager
    def machine(
        self, device: Device, *commands: list[str], new: bool = True, limit_s: float = _LIMIT_S
    ) -> Iterator[Machine]:
        """One that runs commands in the checkout; with `new`, on a new device, else on the one before."""
        backing = self.folder / "device"
        if new:
            backing.unlink(missing_ok=True)
        task = "\n".join(["set -e", f"cd {shlex.quote(str(_CHECKOUT))}", *map(shlex.join, commands)])
        with Machine(self.image, device, backing, new=new, task=task, limit_s=limit_s) as machine:
            yield machine
        self.boots_s.append(machine.boot_s)


def medium(guests: Guests, case: Case) -> str:
    """What `plinius doctor` and an open pool say of a medium.

    Raises:
        CheckError: It is not what is expected.
    """
    doctor = [".venv/bin/plinius", "doctor", PLACE, "--json"]
    look = [PYTHON, str(GUEST / "look.py"), f"{PLACE}/look.pool"]
    with guests.machine(case.device, doctor, look) as machine:
        diagnosis, facts = map(json.loads, machine.finish())
    seen = Seen(**facts)
    if seen != case.expected:
        raise CheckError(f"expected: {case.expected}\n    seen: {seen}")
    if (diagnosis["medium"], diagnosis["durability"]) != (seen.medium, seen.durability):
        raise CheckError(f"the pool is {seen}\n    but doctor says: {diagnosis['medium']}; {diagnosis['durability']}")
    return str(seen)


def tests(guests: Guests) -> str:
    """The pool's own tests, in Python and Rust, on persistent memory.

    Raises:
        CheckError: One of them fails.
    """
    files = [str(path.relative_to(_CHECKOUT)) for path in sorted(_CHECKOUT.glob("tests/unit/test_pool*.py"))]
    # The device is small: what a test that passed has written goes at once.
    where = ["-p", "no:cacheprovider", "--basetemp", f"{PLACE}/pytest", "-o", "tmp_path_retention_policy=failed"]
    pytest = [PYTHON, "-m", "pytest", *where, *files]
    # QEMU's write-back of a line does not touch it, and so cannot find that its page is gone.
    rust = [[program, "--skip", "a_page_that_cannot_be_written_back"] for program in _rust_tests()]
    with guests.machine(FSDAX, pytest, *rust, limit_s=_TESTS_LIMIT_S) as machine:
        said = machine.finish()
    results = [line.split(";")[0] for line in said if " passed" in line]
    if len(results) != 1 + len(rust):
        raise CheckError(f"expected {1 + len(rust)} summaries of tests\n    seen: {results}")
    return "; ".join(results)


def _rust_tests() -> list[str]:
    """The test programs of crates/medium and crates/pm that use a pool file, built for this machine."""
    crates = ["-p", "plinius-medium", "-p", "plinius-pm", "--lib", "--test", "pool"]
    build = ["cargo", "test", *crates, "--no-run", "--locked", "--offline"]
    built = subprocess.run(
        [*build, "--quiet", "--message-format=json"], cwd=_CHECKOUT, stdout=subprocess.PIPE, check=True
    )
    messages = map(json.loads, built.stdout.splitlines())
    return [message["executable"] for message in messages if message.get("executable")]
