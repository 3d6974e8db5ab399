"""Single training steps of one network: on plain data, on plain data with a save after it, and on sealed data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from plinius.bench.clock import timed
from plinius.bench.workload import as_input
from plinius.darknet import Config
from plinius.darknet.training import Training
from plinius.dataset import SealedDataset, batch_indices, seal_dataset
from plinius.mirror import Mirror
from plinius.pool import Pool
from plinius.seal import Key

_RECORDS = 4096

Batch: TypeAlias = tuple[npt.NDArray[Any], npt.NDArray[Any]]


class Steps:
    """A network in training on made-up images, and its steps, which all train it on.

    Args:
        config: The network.
        pool: For the sealed data and the mirror.
        place: A folder for the sealed file.
    """

    def __init__(self, config: Config, pool: Pool, place: Path) -> None:
        shape = (config.input_shape.channels, config.input_shape.height, config.input_shape.width)
        generator = np.random.default_rng(1)
        self._images = generator.integers(0, 256, (_RECORDS, *shape), np.uint8)
        self._labels = generator.integers(0, config.outputs, _RECORDS).astype(np.int64)
        key = Key.generate()
        seal_dataset(self._images, self._labels, key, place / "data.sealed")
        self._data = SealedDataset(pool, key, place / "data.sealed")
        self._training = Training.start(config, seed=1)
        self._mirror = Mirror(pool, key, name="bench", **self._training.state)
        self._count = 0
        self.saves_s: list[float] = []

    def plain_s(self, batch: int) -> float:
        """Seconds of a step on plain data."""
        return timed(lambda: self._step(self._plain, batch))

    def sealed_s(self, batch: int) -> float:
        """Seconds of a step on sealed data."""
        return timed(lambda: self._step(self._data.batch, batch))

    def saved_s(self, batch: int) -> float:
        """Seconds of a step on plain data with a save after it, which `saves_s` keeps too."""
        step_s = self.plain_s(batch)
        save_s = timed(lambda: self._mirror.save(self._count))
        self.saves_s.append(save_s)
        return step_s + save_s

    def _plain(self, indices: npt.NDArray[np.int64]) -> Batch:
        return as_input(self._images[indices]), self._labels[indices]

    def _step(self, read: Callable[[npt.NDArray[np.int64]], Batch], batch: int) -> None:
        self._training.step(self._count, *read(batch_indices(_RECORDS, 1, self._count, batch)))
        self._count += 1
