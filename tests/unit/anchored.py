"""A job with a freshness anchor: its lives, which may end wherever the anchor is told of a save."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from plinius.errors import PolicyError, RollbackError
from plinius.mirror import Mirror
from plinius.mirror.manifest import AnchoredHead
from plinius.pool import Pool
from plinius.seal import Key


class Killed(BaseException):
    """The process dies here."""


@dataclass
class Memory:
    """An anchor in this process, which can die before or after it has remembered."""

    every: int = 1
    may_go_back: bool = False
    remembered: AnchoredHead | None = None
    advances: list[AnchoredHead] = field(default_factory=list)
    die: str = ""

    def head(self) -> AnchoredHead | None:
        return self.remembered

    def advance(self, expected: AnchoredHead | None, new: AnchoredHead, *, going_back: bool = False) -> None:
        if self.die == "before":
            raise Killed
        if going_back and not self.may_go_back:
            raise PolicyError("the owner lets no job go back", field="going_back")
        if self.remembered not in (expected, new):
            raise RollbackError("another copy of the job was here")
        if self.remembered is not None and not going_back and not _is_forward(self.remembered, new):
            raise RollbackError("an anchor never goes back by itself")
        self.remembered = new
        self.advances.append(new)
        if self.die == "after":
            raise Killed


def _is_forward(old: AnchoredHead, new: AnchoredHead) -> bool:
    """What a broker asks for."""
    same = (old.version, old.digest) == (new.version, new.digest)
    return (same or new.version > old.version) and new.epoch >= old.epoch


class Life:
    """One life of the job: a process that opens the pool, and restores or begins."""

    def __init__(self, path: Path, key: Key, anchor: Memory, *, back_to: int | None = None, **options: int) -> None:
        self.weights = np.zeros(8)
        self._pool = Pool(path)
        self.mirror = Mirror(self._pool, key, name="m", anchor=anchor, weights=self.weights, **options)
        try:
            self.step = self.mirror.restore(back_to)
        except BaseException:
            self.end()
            raise

    def train(self, to: int, *, wait: bool = True) -> None:
        for step in range((self.step or 0) + 1, to + 1):
            self.weights[:] = step
            self.mirror.save(step, wait=wait)
            self.step = step

    def end(self) -> None:
        self._pool.close()


def lived(path: Path, key: Key, anchor: Memory, to: int, **options: int) -> Life:
    """A life that trains to a step and ends."""
    life = Life(path, key, anchor, **options)
    life.train(to)
    life.end()
    return life
