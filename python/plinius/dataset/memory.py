"""The memory of arrays, as the core takes it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

BLOCK_BYTES: Final = 4 << 20
"""How much of a data set is packed or loaded at a time."""


def memory_of(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The bytes of an array in this machine's order, without a copy where they lie so already."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(-1).view(np.uint8)
