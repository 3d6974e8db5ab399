"""The order of training: which records a step sees."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from plinius.errors import ConfigError


def batch_indices(count: int, seed: int, step: int, batch: int) -> npt.NDArray[np.int64]:
    """Which records a step trains on: a stateless shuffle of (seed, epoch), so a position is one number.

    Args:
        count: Records in the data set.
        seed: The job's.
        step: The optimizer step, from 0.
        batch: Records a step.

    Returns:
        ``[batch]`` indices; a batch at the end of an epoch goes on with the next.

    Raises:
        ConfigError: A number is out of range, or none.
    """
    for name, value, least in (("count", count, 1), ("seed", seed, 0), ("step", step, 0), ("batch", batch, 1)):
        if not isinstance(value, (int, np.integer)) or not least <= value < 1 << 64:
            raise ConfigError(f"{name}={value!r}: give a whole number from {least} to 2^64 - 1")
    positions = np.arange(step * batch, (step + 1) * batch)
    epochs = positions // count
    order = [_permutation(count, seed, int(epoch)) for epoch in np.unique(epochs)]
    return np.stack([order[int(e - epochs[0])][p % count] for e, p in zip(epochs, positions, strict=True)])


@lru_cache(maxsize=2)
def _permutation(count: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    return generator.permutation(count)
