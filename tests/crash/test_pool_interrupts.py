"""Interrupts (Ctrl-C, a time limit) at random moments of transactions: each is whole or undone, and none stays open."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from plinius import Pool

SECONDS = 4


class Interrupt(BaseException):
    """As KeyboardInterrupt; of our own, so that a real one still ends the tests."""


@pytest.fixture
def alarms() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    yield
    signal.signal(signal.SIGALRM, before)


def count(pool: Pool, chance: random.Random) -> None:
    with pool.transaction() as tx:
        tx["n"][()] += 1
        tx["all"][:] += 1
        tx["items"].append(np.zeros(3))
        if len(tx["items"]) > 30:
            tx["items"].clear()
        tx["moving"] = np.zeros(chance.randrange(50))


def test_an_interrupt_leaves_no_transaction_open_and_none_half_done(folder: Path, alarms: None) -> None:
    chance, caught, known = random.Random(3), 0, 0  # noqa: S311
    with Pool(folder / "pool") as pool:
        with pool.transaction() as tx:
            tx.update(n=0, all=np.zeros(100), items=[])
        begun = time.monotonic()
        while time.monotonic() - begun < SECONDS:
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 6e-4))  # once
                count(pool, chance)
                known += 1
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupt:
                caught += 1
            found = pool.read("n", "all")
            assert (found["all"] == found["n"]).all()
            assert found["n"] - known in {0, 1}
            known = int(found["n"])
        assert pool.verify() == []
    assert caught > 100
    assert known > 100
