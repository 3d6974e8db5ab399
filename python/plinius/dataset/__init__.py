"""Sealed data sets: packed once by their owner, byte-addressable in a pool, opened batch by batch.

The file is a header of 256 bytes and one sealed record after the other; ``docs/design.md`` lists the fields. Every
record is bound to the whole header and to its own index, so that nothing can be swapped, cut or mixed.
"""

from plinius.dataset.header import HEADER_BYTES, Header, public_headers
from plinius.dataset.order import batch_indices
from plinius.dataset.packing import Progress, seal_dataset
from plinius.dataset.reading import SealedDataset

__all__ = [
    "HEADER_BYTES",
    "Header",
    "Progress",
    "SealedDataset",
    "batch_indices",
    "public_headers",
    "seal_dataset",
]
