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


class Alarm:
    """Raises once, after so many seconds, unless it is disarmed before."""

    def __init__(self) -> None:
        self.is_armed = False

    def __call__(self, *_: object) -> None:
        if self.is_armed:
            self.is_armed = False
            raise Interrupt

    def arm(self, delay_s: float) -> None:
        self.is_armed = True
        signal.setitimer(signal.ITIMER_REAL, delay_s)


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    alarm = Alarm()
    before = signal.signal(signal.SIGALRM, alarm)
    yield alarm
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def count(pool: Pool, chance: random.Random) -> None:
    with pool.transaction() as tx:
        tx["n"][()] += 1
        tx["all"][:] += 1
        tx["items"].append(np.zeros(3))
        if len(tx["items"]) > 30:
            tx["items"].clear()
        tx["moving"] = np.zeros(chance.randrange(50))


def test_an_interrupt_leaves_no_transaction_open_and_none_half_done(folder: Path, alarm: Alarm) -> None:
    chance, caught, known = random.Random(3), 0, 0  # noqa: S311
    with Pool(folder / "pool") as pool:
        with pool.transaction() as tx:
            tx.update(n=0, all=np.zeros(100), items=[])
        begun = time.monotonic()
        while time.monotonic() - begun < SECONDS:
            try:
                alarm.arm(chance.uniform(1e-6, 6e-4))
                count(pool, chance)
                known += 1
            except Interrupt:
                caught += 1
            finally:
                alarm.is_armed = False
            found = pool.read("n", "all")
            assert (found["all"] == found["n"]).all()
            assert found["n"] - known in {0, 1}
            known = int(found["n"])
        assert pool.verify() == []
    assert caught > 100
    assert known > 100
