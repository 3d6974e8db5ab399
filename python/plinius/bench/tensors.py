"""The state that `plinius bench mirror` saves: the parameters of a transformer, of any size."""

from __future__ import annotations

import math
from typing import Final

import torch

Tensors = dict[str, torch.Tensor]

DESCRIPTION: Final = (
    "float32 parameters of a GPT-2-like transformer: 12 blocks, as wide as makes them three quarters of the size, and "
    "an embedding that fills it up"
)
_BLOCKS: Final = 12
_BLOCKS_SHARE: Final = 0.75
_ITEM_BYTES: Final = 4
# Of one block, in squares of the width: 3 for query, key and value, 1 for the projection, 4 and 4 for the MLP.
_SQUARES: Final = 12


def transformer(size_bytes: int) -> Tensors:
    """Makes the parameters of a transformer that has about this size; all are written, with random numbers."""
    width = max(1, math.isqrt(int(size_bytes * _BLOCKS_SHARE) // (_BLOCKS * _SQUARES * _ITEM_BYTES)))
    shapes = {f"block.{number}.{name}": shape for number in range(_BLOCKS) for name, shape in _block(width).items()}
    left = size_bytes // _ITEM_BYTES - sum(math.prod(shape) for shape in shapes.values())
    shapes["embedding.weight"] = (max(1, left // width), width)
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def empty_like(tensors: Tensors) -> Tensors:
    """Tensors of the same shapes to restore into, with their memory touched."""
    return {name: torch.full_like(tensor, math.nan) for name, tensor in tensors.items()}


def change(tensors: Tensors) -> None:
    """Writes every element, as an optimizer does."""
    with torch.no_grad():
        for tensor in tensors.values():
            tensor.add_(1)


def bytes_of(tensors: Tensors) -> list[int]:
    """The length of each tensor."""
    return [tensor.nbytes for tensor in tensors.values()]


def equal(ones: Tensors, others: Tensors) -> bool:
    """Whether both have the same names and the same numbers."""
    return ones.keys() == others.keys() and all(torch.equal(one, others[name]) for name, one in ones.items())


def _block(width: int) -> dict[str, tuple[int, ...]]:
    return {
        "norm1.weight": (width,),
        "norm1.bias": (width,),
        "attention.weight": (3 * width, width),
        "attention.bias": (3 * width,),
        "projection.weight": (width, width),
        "projection.bias": (width,),
        "norm2.weight": (width,),
        "norm2.bias": (width,),
        "up.weight": (4 * width, width),
        "up.bias": (4 * width,),
        "down.weight": (width, 4 * width),
        "down.bias": (width,),
    }
