"""The order of training: which records a step sees."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt


def batch_indices(count: int, seed: int, step: int, batch: int) -> npt.NDArray[np.int64]:
    """Which records a step trains on: a stateless shuffle of (seed, epoch), so a position is one number.

    Args:
        count: Records in the data set.
        seed: The job's.
        step: The optimizer step, from 0.
        batch: Records a step.

    Returns:
        ``[batch]`` indices; a batch at the end of an epoch goes on with the next.
    """
    positions = np.arange(step * batch, (step + 1) * batch)
    epochs = positions // count
    order = [_permutation(count, seed, int(epoch)) for epoch in np.unique(epochs)]
    return np.stack([order[int(e - epochs[0])][p % count] for e, p in zip(epochs, positions, strict=True)])


@lru_cache(maxsize=2)
def _permutation(count: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    return generator.permutation(count)
