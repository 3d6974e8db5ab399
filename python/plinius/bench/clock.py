"""How often something is measured: for some time, but not less often than a median needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Turns:
    """How often everything is measured in turn: `at_least` times, and then until the time is up or `at_most` times."""

    seconds: float
    at_least: int
    at_most: int

    def __iter__(self) -> Iterator[float]:
        """Yields once for each turn how much of the time was over at its beginning, from 0 to 1."""
        begun_s = time.perf_counter()
        for turn in range(self.at_most):
            share = min(1, max((time.perf_counter() - begun_s) / self.seconds, turn / self.at_most))
            if turn >= self.at_least and share == 1:
                return
            yield share


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    begun_s = time.perf_counter()
    work()
    return time.perf_counter() - begun_s
