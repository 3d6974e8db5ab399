"""A small job for what is killed and started again: a network of 5 convolutional layers, on MNIST where it is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from plinius.bench.runs import Job
from plinius.dataset import seal_dataset
from plinius.owner.idx import read_idx
from plinius.seal import Key

LAYERS: Final = 5
_SIDE: Final = 28
_CLASSES: Final = 10
_RECORDS: Final = 10_000
_MADE_RECORDS: Final = 2_000
_NET: Final = f"""[net]
batch=128
height={_SIDE}
width={_SIDE}
channels=1
learning_rate=0.05
policy=constant
max_batches=500
momentum=0.9
decay=0.0005
"""
# (filters, size, stride, batch normalization); all with leaky ReLU, as in the paper's networks.
_CONVOLUTIONS: Final = ((16, 3, 2, 1), (16, 3, 2, 1), (32, 3, 1, 1), (32, 3, 1, 1), (_CLASSES, 1, 1, 0))


@dataclass(frozen=True)
class SmallJob:
    """The files that all runs of it share.

    Attributes:
        folder: Where they are.
        pictures: What it is trained on, in words.
    """

    folder: Path
    pictures: str

    @classmethod
    def make(cls, folder: Path, data: Path | None) -> SmallJob:
        """Makes key, network and sealed data.

        Args:
            folder: An empty one.
            data: Has the IDX files of MNIST in mnist/, or has not: then pictures are made.
        """
        key = Key.generate()
        key.save(str(folder / "key"))
        (folder / "net.cfg").write_text(cfg())
        images, labels, words = _pictures(data)
        seal_dataset(images[:, None], labels, key, str(folder / "data"))
        return cls(folder, words)

    def run(self, pool: Path, *, every: int = 1) -> Job:
        """One training of it, with one thread; the bits of a result depend on the number of threads."""
        options = ("--every", str(every), "--threads", "1")
        return Job(self.folder / "net.cfg", self.folder / "data", self.folder / "key", pool, options)


def cfg() -> str:
    """The network, in Darknet's form."""
    layers = [
        f"[convolutional]\nbatch_normalize={normal}\nfilters={filters}\nsize={size}\nstride={stride}\npad=1\n"
        "activation=leaky\n"
        for filters, size, stride, normal in _CONVOLUTIONS
    ]
    return "\n".join([_NET, *layers, "[avgpool]\n", "[softmax]\ngroups=1\n"])


def _pictures(data: Path | None) -> tuple[npt.NDArray[Any], npt.NDArray[Any], str]:
    if data is not None:
        for ending in ("", ".gz"):
            pair = [data / "mnist" / f"train-{kind}-ubyte{ending}" for kind in ("images-idx3", "labels-idx1")]
            if all(path.exists() for path in pair):
                images, labels = (read_idx(str(path))[:_RECORDS] for path in pair)
                return images, labels.astype(np.int64), f"MNIST, the first {len(images)} training images"
    return _made_pictures()


def _made_pictures() -> tuple[npt.NDArray[Any], npt.NDArray[Any], str]:
    """Ten patterns of coarse blocks, under noise: as easy to learn as digits."""
    generator = np.random.default_rng(1)
    patterns = np.kron(generator.integers(0, 160, (_CLASSES, 7, 7)), np.ones((4, 4), np.int64))
    labels = generator.integers(0, _CLASSES, _MADE_RECORDS)
    images = patterns[labels] + generator.integers(0, 96, (_MADE_RECORDS, _SIDE, _SIDE))
    return images.astype(np.uint8), labels, f"{_MADE_RECORDS} pictures made by the experiment (MNIST is not here)"
