"""What a Darknet training job consists of: network, optimizer, learning rate, and one step of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, TypedDict

import numpy as np
import numpy.typing as npt
import torch

from plinius.darknet.cfg import Config
from plinius.darknet.network import Network
from plinius.darknet.optimizer import accumulate_gradients, make_optimizer, set_rate
from plinius.darknet.schedule import Schedule
from plinius.errors import ConfigError

MIRROR_NAME: Final = "training"
"""The name of the mirror that ``plinius train`` makes in a pool."""


class TrainingState(TypedDict):
    """The parts of a training that a mirror holds."""

    network: Network
    optimizer: torch.optim.SGD


@dataclass(frozen=True)
class Training:
    """A network in training.

    Attributes:
        network: The model.
        optimizer: Darknet's SGD.
        schedule: The learning rate of each iteration.
    """

    network: Network
    optimizer: torch.optim.SGD
    schedule: Schedule

    @classmethod
    def start(cls, config: Config, seed: int) -> Training:
        """Makes a network with fresh weights; the seed fixes them and everything random that follows."""
        torch.use_deterministic_algorithms(mode=True)
        torch.manual_seed(seed)
        network = Network(config, torch.Generator().manual_seed(seed))
        return cls(network, make_optimizer(network, config), Schedule(config.net))

    @property
    def state(self) -> TrainingState:
        """What a mirror of this training holds."""
        return {"network": self.network, "optimizer": self.optimizer}

    def step(self, iteration: int, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> torch.Tensor:
        """Trains on one batch.

        Args:
            iteration: Steps made before this one.
            images: ``[batch, channels, height, width]``.
            labels: ``[batch]`` class numbers.

        Returns:
            The loss, a scalar.

        Raises:
            ConfigError: A label is no class of this network.
        """
        outputs = self.network.config.outputs
        if labels.min() < 0 or labels.max() >= outputs:
            # Which labels is not said: the host reads this, and they are the data's.
            message = f"the data has labels that are no class of this network, which has {outputs} outputs"
            raise ConfigError(message, path=self.network.config.path)
        self.network.train()
        # Darknet counts a batch before it updates with it: the first update has the rate of iteration 1.
        set_rate(self.optimizer, self.schedule.rate(iteration + 1))
        self.optimizer.zero_grad()
        loss = accumulate_gradients(self.network, torch.from_numpy(images), torch.from_numpy(labels))
        self.optimizer.step()
        return loss


def digest(cfg: bytes) -> str:
    """The measurement of a cfg by which a job knows it again: SHA-256, hexadecimal."""
    return hashlib.sha256(cfg).hexdigest()


def check_images(config: Config, image_shape: tuple[int, ...]) -> None:
    """Refuses data whose images are not what the network takes.

    Raises:
        ConfigError: The shapes differ.
    """
    shape = config.input_shape
    wanted = (shape.channels, shape.height, shape.width)
    if image_shape != wanted:
        raise ConfigError(
            f"the network takes images of {wanted}, the data has {image_shape} (channels, height, width)",
            path=config.path,
            section="net",
        )
