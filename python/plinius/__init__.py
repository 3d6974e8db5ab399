"""Plinius: secure and persistent machine-learning training.

The paved path is `Pool`, `Key`, `Mirror` and `SealedDataset`. Names are loaded when they are first used, so that
importing one part of the package (the untrusted host, for one) never loads another.
"""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING

from plinius.lazily import loading

if TYPE_CHECKING:
    from plinius.dataset import SealedDataset as SealedDataset
    from plinius.dataset import batch_indices as batch_indices
    from plinius.dataset import seal_dataset as seal_dataset
    from plinius.errors import PliniusError as PliniusError
    from plinius.mirror import Mirror as Mirror
    from plinius.pool import Pool as Pool
    from plinius.pool import status as status
    from plinius.seal import Key as Key

if sys.platform != "linux" or platform.machine() != "x86_64":
    raise ImportError(f"plinius runs on Linux x86-64 only, this is {sys.platform} {platform.machine()}")

_HOME = {
    "Key": "seal",
    "Mirror": "mirror",
    "PliniusError": "errors",
    "Pool": "pool",
    "SealedDataset": "dataset",
    "batch_indices": "dataset",
    "seal_dataset": "dataset",
    "status": "pool",
}

__all__ = sorted(_HOME)  # noqa: PLE0605 (sorted returns a list)
__getattr__ = loading(__name__, _HOME)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
