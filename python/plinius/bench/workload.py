"""What the experiments train and classify: a network, and pictures; real ones where they are there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from plinius.darknet import Config, parse

FASHION_CFG: Final = """\
[net]
batch=100
height=28
width=28
channels=1
learning_rate=0.05
policy=poly
power=2
max_batches=300
momentum=0.9
decay=0.0005

[convolutional]
batch_normalize=1
filters=16
size=3
stride=1
pad=1
activation=leaky

[maxpool]
size=2
stride=2

[convolutional]
batch_normalize=1
filters=32
size=3
stride=1
pad=1
activation=leaky

[maxpool]
size=2
stride=2

[convolutional]
batch_normalize=1
filters=64
size=3
stride=1
pad=1
activation=leaky

[dropout]
probability=.25

[connected]
output=10
activation=linear

[softmax]
groups=1
"""
"""The network of examples/fashion.cfg."""
MNIST_CFG: Final = Path("cfg", "plinius-mnist.cfg")
_CLASSES: Final = 10
_SIDE: Final = 28
_NOISE: Final = 160
_BAR: Final = 95


class Network(NamedTuple):
    """A network to train.

    Attributes:
        name: For people.
        cfg: Its text, as bytes.
        config: What it says.
        papers: It is the paper's network for MNIST.
    """

    name: str
    cfg: bytes
    config: Config
    papers: bool


class Pictures(NamedTuple):
    """Pictures with classes.

    Attributes:
        name: For people.
        images: ``[count, channels, height, width]``, uint8.
        labels: ``[count]``, int64.
        real: They are MNIST's; else the experiment made them.
    """

    name: str
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    real: bool


def network(data: Path | None, steps: int | None = None) -> Network:
    """The paper's network for MNIST where its cfg is there, else a small one of ours.

    Args:
        data: A folder with cfg/plinius-mnist.cfg.
        steps: Its schedule ends after so many steps; without it, where its cfg says.

    Raises:
        ConfigError: The cfg is none.
    """
    file = data / MNIST_CFG if data else None
    papers = file is not None and file.is_file()
    if file is not None and papers:
        name, text = file.name, file.read_bytes()
    else:
        name, text = "the network of examples/fashion.cfg", FASHION_CFG.encode()
    if steps is not None:
        text = re.sub(rb"max_batches *= *\d+", b"max_batches=%d" % steps, text)
    return Network(name, text, parse(text, name), papers)


def pictures(data: Path | None, part: str, count: int) -> Pictures:
    """MNIST's pictures where they are there, else pictures of our own that a network can learn.

    Args:
        data: A folder with mnist/ (IDX files, gzip or not).
        part: ``train`` or ``t10k``.
        count: At most so many.

    Raises:
        ConfigError: A file is cut, or no IDX file.
    """
    from plinius.owner.idx import read_idx  # noqa: PLC0415 (only where there are files)

    files = [_file(data, f"{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")]
    if None in files:
        return made_up(count, seed=len(part))
    images, labels = (read_idx(str(file))[:count] for file in files)
    return Pictures("MNIST", images[:, None], labels.astype(np.int64), real=True)


def made_up(count: int, seed: int, shape: tuple[int, ...] = (1, _SIDE, _SIDE)) -> Pictures:
    """Noise with a bright bar, whose place is the class; some bars are so weak that they are easily missed."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, _CLASSES, count)
    images = random.integers(0, _NOISE, (count, *shape), np.uint8)
    strength = random.integers(0, _BAR, count, np.uint8)
    rows = 2 * labels + (shape[-2] - 2 * _CLASSES) // 2
    for offset in (0, 1):
        images[np.arange(count), :, rows + offset] += strength[:, None, None]
    return Pictures("pictures that the experiment made", images, labels.astype(np.int64), real=False)


def as_input(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """What a sealed data set makes of bytes when it is read: floats from 0 to 1."""
    made: npt.NDArray[Any] = images.astype(np.float32)
    made /= np.float32(255)
    return made


def _file(data: Path | None, name: str) -> Path | None:
    for candidate in (data / "mnist" / name, data / "mnist" / f"{name}.gz") if data else ():
        if candidate.is_file():
            return candidate
    return None
