"""The check that kills the machine: again and again, in the middle of commits."""

from __future__ import annotations

import mmap
import random
import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from cases import FSDAX
from checks import GUEST, PLACE, PYTHON, Guests
from machine import CheckError, Machine
from plinius import Key

# The state in which each kill strikes, as the pool's state word has it (docs/design.md); Idle is between two commits
# or while the next one streams its data.
AIMS: Final = ("Idle", "Mutating", "Copying", "Idle", "Mutating")
_WORDS: Final = {"Idle": 0x1D1E1D1E1D1E1D1E, "Mutating": 0x3A7A3A7A3A7A3A7A, "Copying": 0xC0B1C0B1C0B1C0B1}
_MAGIC: Final = b"PLINIUS\0"
_STATE_AT: Final = 8192
_AIM_LIMIT_S: Final = 30


def kills(guests: Guests) -> str:
    """Each life checks what the one before left, commits, and is killed.

    Raises:
        CheckError: A step that was reported is lost, or the contents are not those of one step.
    """
    key = guests.folder / "job.key"
    Key.generate().save(key)
    commit = [PYTHON, str(GUEST / "commit.py"), f"{PLACE}/job.pool", str(key)]
    lives: list[_Life] = []
    for aim in (*AIMS, "Idle"):  # the last one shows what was left by the one before
        with guests.machine(FSDAX, commit, new=not lives) as machine:
            lives.append(_Life.of(machine, aim))
    pairs = [(before.reported, after.recovered) for before, after in pairwise(lives)]
    steps = ", ".join(f"{reported}/{recovered}" for reported, recovered in pairs)
    if not all(recovered in {reported, reported + 1} for reported, recovered in pairs):
        raise CheckError(f"expected: the last reported step or the next\n    seen (reported/recovered): {steps}")
    found = Counter(life.found for life in lives[1:])
    return f"reported/recovered {steps}; found {', '.join(f'{state} {count}' for state, count in found.items())}"


@dataclass
class _Life:
    """One machine from its start to its kill.

    Attributes:
        found: The pool's state, before it was opened.
        recovered: The step that was in it.
        reported: The last step that was reported as durable.
    """

    found: str = ""
    recovered: int = 0
    reported: int = 0

    @classmethod
    def of(cls, machine: Machine, aim: str) -> _Life:
        """Lets it commit for a moment, and kills it."""
        life = cls()
        for line in machine.lines():
            match line.split():
                case ["found", state]:
                    life.found = state
                case ["recovered", step]:
                    life.recovered = int(step)
                case ["step", step]:
                    if not life.reported:
                        time.sleep(random.uniform(0, 1))  # noqa: S311 (any moment)
                        _kill_in(aim, machine)
                    life.reported = int(step)
                case _:
                    raise machine.failure("it ended before it was killed")
        if not life.reported:
            raise machine.failure("it ended before its first commit")
        return life


def _kill_in(aim: str, machine: Machine) -> None:
    """Waits until the pool on the machine's device is in a state, which the host can see, and kills the machine.

    Raises:
        CheckError: It never is.
    """
    word = _WORDS[aim].to_bytes(8, "little")
    end_s = time.monotonic() + _AIM_LIMIT_S
    with machine.backing.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as device:
        at = device.find(_MAGIC) + _STATE_AT
        while device[at : at + len(word)] != word:
            if time.monotonic() > end_s:
                raise CheckError(f"the pool was not seen in the state {aim}")
        machine.kill()  # at once: even unmapping takes longer than a commit
