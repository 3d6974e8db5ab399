"""Ratios of what was measured in pairs, with an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

_RESAMPLES: Final = 10_000


@dataclass(frozen=True)
class Interval:
    """A median, and the 95 % interval of it from bootstrap resampling."""

    median: float
    low: float
    high: float

    def text(self, digits: int) -> str:
        """As reports print it."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


def median(values: Sequence[float]) -> Interval:
    """The median of measurements.

    Raises:
        ValueError: There is none.
    """
    if not values:
        raise ValueError("nothing was measured")
    found = np.asarray(values, float)
    resampled = np.random.default_rng(1).choice(found, (_RESAMPLES, len(found)))
    low, high = np.percentile(np.median(resampled, axis=1), [2.5, 97.5])
    return Interval(float(np.median(found)), float(low), float(high))


def ratio(measured: Sequence[float], base: Sequence[float]) -> Interval:
    """The median ratio of pairs, each measured one after the other."""
    return median([one / other for one, other in zip(measured, base, strict=True)])
