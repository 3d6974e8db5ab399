"""`plinius seal`: IDX files to a sealed data set."""

from __future__ import annotations

from plinius.dataset import Header, Progress, seal_dataset
from plinius.errors import ConfigError
from plinius.owner.idx import read_idx
from plinius.seal import Key

_IMAGE_NDIM = 3


def seal_idx(images_path: str, labels_path: str, key: Key, output: str, progress: Progress | None) -> Header:
    """Seals a pair of IDX files.

    Args:
        images_path: ``[count, height, width]``; sealed with one channel.
        labels_path: ``[count]``.
        key: The job's key.
        output: The file to make.
        progress: Called after each block.

    Raises:
        ConfigError: A file cannot be used, or the two do not fit each other.
    """
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != _IMAGE_NDIM:
        raise ConfigError(f"images have three dimensions, these {images.ndim}; are these the labels?", path=images_path)
    if labels.ndim != 1:
        raise ConfigError(f"labels have one dimension, these {labels.ndim}; are these images?", path=labels_path)
    if len(images) != len(labels):
        raise ConfigError(f"there are {len(images)} images and {len(labels)} labels", path=labels_path)
    return seal_dataset(images[:, None], labels, key, output, progress=progress)
