"""Secure inference: the model comes from the pool, the images from a sealed data set."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import numpy as np
import torch

from plinius.attest.release import Grant
from plinius.darknet.cfg import Config
from plinius.darknet.model import restore_model
from plinius.darknet.training import check_images
from plinius.dataset import SealedDataset
from plinius.errors import PolicyError
from plinius.pool import PoolFile
from plinius.wire import Inferred, Loading, Message

_BATCH: Final = 250


def infer(
    config: Config, cfg: bytes, pool: PoolFile, grant: Grant, source: tuple[int, str], report: Callable[[Message], None]
) -> Inferred:
    """Classifies a whole data set, given as a descriptor and its name, and counts what is right.

    Raises:
        PolicyError: The owner does not let the host know the accuracy.
    """
    if "accuracy" not in grant.reveal:
        raise PolicyError("the owner does not reveal the accuracy to this host", field="reveal")
    key = grant.key
    training, step = restore_model(config, cfg, pool, key)
    data_fd, name = source
    data = SealedDataset(
        pool,
        key,
        data_fd,
        name=name,
        progress=lambda done, total: report(Loading(done, total)),
        accept=lambda header: check_images(config, header.image_shape),
    )
    began_s = time.perf_counter()
    correct = 0
    training.network.eval()
    with torch.inference_mode():
        for first in range(0, len(data), _BATCH):
            images, labels = data.batch(range(first, min(first + _BATCH, len(data))))
            predictions = training.network(torch.from_numpy(images)).numpy()
            correct += int(np.count_nonzero(predictions.argmax(axis=1) == labels))
            report(Loading(first + len(labels), len(data)))
    return Inferred(step, len(data), correct, time.perf_counter() - began_s)
