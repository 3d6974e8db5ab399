"""What `plinius bench step` trains: a network of a cfg, and a transformer whose step takes as long as is asked for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from torch import nn

from plinius.bench.tensors import Tensors
from plinius.darknet import parse
from plinius.darknet.training import Training
from plinius.dataset import batch_indices
from plinius.errors import ConfigError

_RECORDS: Final = 4096
_TOKENS: Final = 256
_LENGTH: Final = 64
_HEADS: Final = 8
_LOOKS: Final = 8


class Net(Protocol):
    """A network in training."""

    @property
    def name(self) -> str:
        """What it is, in words."""

    @property
    def batch(self) -> int:
        """Records in a batch."""

    @property
    def state(self) -> dict[str, Any]:
        """What a mirror of it holds."""

    def step(self) -> None:
        """Trains on one batch."""


class _Darknet:
    """A network of a cfg, on made-up images; Darknet's SGD with momentum."""

    def __init__(self, cfg: str) -> None:
        try:
            text = Path(cfg).read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot be read: {error.strerror}", path=cfg) from None
        config = parse(text, cfg)
        self.name = Path(cfg).name
        self.batch = config.net.batch
        shape = (config.input_shape.channels, config.input_shape.height, config.input_shape.width)
        generator = np.random.default_rng(1)
        self._images = generator.random((_RECORDS, *shape), np.float32)
        self._labels = generator.integers(0, config.outputs, _RECORDS).astype(np.int64)
        self._training = Training.start(config, seed=1)
        self._steps = 0

    @property
    def state(self) -> dict[str, Any]:
        return {**self._training.state}

    def step(self) -> None:
        indices = batch_indices(_RECORDS, 1, self._steps, self.batch)
        self._training.step(self._steps, self._images[indices], self._labels[indices])
        self._steps += 1


class _Transformer:
    """A transformer on made-up tokens, with Adam; its batch is doubled until a step takes long enough."""

    def __init__(self, width: int, layers: int, step_s: float) -> None:
        torch.manual_seed(1)
        layer = nn.TransformerEncoderLayer(width, _HEADS, 4 * width, batch_first=True)
        self._model = nn.Sequential(
            nn.Embedding(_TOKENS, width),
            nn.TransformerEncoder(layer, layers, enable_nested_tensor=False),
            nn.Linear(width, _TOKENS),
        )
        self._optimizer = torch.optim.Adam(self._model.parameters(), lr=1e-4)
        self.batch = 1
        self.step()
        while min(self._timed_step_s() for _ in range(_LOOKS)) < step_s:
            self.batch *= 2
        self.name = f"transformer, {layers} layers of width {width}, {_LENGTH} tokens, Adam"

    @property
    def state(self) -> dict[str, Any]:
        return {"model": self._model, "optimizer": self._optimizer}

    def step(self) -> None:
        tokens = torch.randint(_TOKENS, (self.batch, _LENGTH + 1))
        self._optimizer.zero_grad()
        scores = self._model(tokens[:, :-1])
        loss = nn.functional.cross_entropy(scores.flatten(0, 1), tokens[:, 1:].flatten())
        torch.autograd.backward([loss])
        self._optimizer.step()

    def _timed_step_s(self) -> float:
        begun_s = time.perf_counter()
        self.step()
        return time.perf_counter() - begun_s


def darknet(cfg: str) -> Net:
    """Makes the network of a cfg.

    Raises:
        ConfigError: The cfg cannot be read, or is none.
    """
    return _Darknet(cfg)


def transformer(width: int, layers: int, step_s: float) -> Net:
    """Makes a transformer whose step takes at least `step_s`."""
    return _Transformer(width, layers, step_s)


def tensors_of(net: Net) -> Tensors:
    """All tensors of its state under names of their own, for those that save such a dict."""
    found: Tensors = {}
    for part, value in net.state.items():
        entries = value.state_dict()
        if isinstance(value, torch.optim.Optimizer):
            entries = {f"{index}.{name}": one for index, all_ in entries["state"].items() for name, one in all_.items()}
        found |= {f"{part}.{name}": one for name, one in entries.items() if isinstance(one, torch.Tensor)}
    return found
