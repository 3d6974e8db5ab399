"""Index expressions as runs of bytes, so that a part of an array is read or stored without touching the rest.

What an expression means is NumPy's business: it is first applied to an array of one byte that merely has the right
shape (all strides are 0), which gives NumPy's own errors and the shape of the result.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import EllipsisType
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

Positions: TypeAlias = npt.NDArray[np.intp]
Key: TypeAlias = "int | slice | EllipsisType | npt.NDArray[Any] | None"


@dataclass(frozen=True)
class Selection:
    """A part of an array.

    Attributes:
        shape: The shape of the part.
        is_element: NumPy gives an element of its own type rather than an array.
        offsets: Where each run of bytes begins, counted from the array's first byte, in the order of the part.
        run_bytes: Length of each run.
    """

    shape: tuple[int, ...]
    is_element: bool
    offsets: npt.NDArray[np.uint64]
    run_bytes: int


def select(index: object, shape: tuple[int, ...], itemsize: int) -> Selection:
    """What an index expression selects of a row-major array.

    Raises:
        IndexError: As NumPy says it.
    """
    keys = [_private(key) for key in (index if isinstance(index, tuple) else (index,))]
    selected = np.ndarray(shape, np.uint8, b"\0", strides=(0,) * len(shape))[tuple(keys)]
    is_element = not isinstance(selected, np.ndarray)
    if selected.size == 0:
        return Selection(selected.shape, is_element, np.zeros(0, np.uint64), 0)
    walk = _Walk(shape, itemsize)
    for key in _spelled_out(keys, len(shape)):
        walk.take(key)
    offsets, run_bytes = walk.runs()
    return Selection(selected.shape, is_element, offsets, run_bytes)


def select_field(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Selection, np.dtype[Any]]:
    """What the name of a field selects of an array of records, and the field's type.

    Raises:
        ValueError, IndexError: As NumPy says it.
    """
    column = np.empty(0, dtype)[name]
    inner, offset = cast("Mapping[str, Any]", dtype.fields)[name][:2]
    offsets = np.arange(math.prod(shape), dtype=np.uint64) * np.uint64(dtype.itemsize) + np.uint64(offset)
    return Selection(shape + column.shape[1:], False, offsets, inner.itemsize), column.dtype


def _private(key: Any) -> Key:
    """One part of an expression, in a form that nobody else can change meanwhile."""
    if key is None or key is Ellipsis or isinstance(key, slice):
        return key
    if not isinstance(key, (bool, np.bool_)):
        try:
            return operator.index(key)
        except TypeError:
            pass
    array = np.array(key)
    # As NumPy has it: an empty list is a list of positions, though its elements would be floats.
    return array.astype(np.intp) if array.size == 0 and not isinstance(key, np.ndarray) else array


def _spelled_out(keys: list[Key], dimensions: int) -> Iterator[Key]:
    """The same expression with slices behind its Ellipsis; where there are arrays, a number is one of them."""
    consumed = 0
    for key in keys:
        if isinstance(key, np.ndarray) and key.dtype == np.bool_:
            consumed += key.ndim
        elif key is not None and key is not Ellipsis:
            consumed += 1
    rest = [slice(None)] * (dimensions - consumed)
    has_arrays = any(isinstance(key, np.ndarray) for key in keys)
    for key in keys if any(key is Ellipsis for key in keys) else [*keys, ...]:
        if key is Ellipsis:
            yield key
            yield from rest
        elif isinstance(key, int) and has_arrays:
            yield np.array(key)
        else:
            yield key


@dataclass
class _Walk:
    """Goes over the dimensions of an array with an expression, part by part."""

    shape: tuple[int, ...]
    itemsize: int
    axis: int = 0
    start: int = 0
    # Count and stride of every dimension that is not selected by arrays.
    regular: list[tuple[int, int]] = field(default_factory=list)
    # What is selected by arrays: offsets that broadcast against each other; before which regular dimension the first
    # stands, and whether something other than an array stands between two of them.
    arrays: list[Positions] = field(default_factory=list)
    place: int = 0
    is_apart: bool = False
    is_behind: bool = False

    def __post_init__(self) -> None:
        self.strides = [self.itemsize] * len(self.shape)
        for axis in range(len(self.shape) - 1, 0, -1):
            self.strides[axis - 1] = self.strides[axis] * self.shape[axis]

    def take(self, key: Key) -> None:
        if isinstance(key, np.ndarray):
            self._take_array(key)
            return
        self.is_behind = bool(self.arrays)
        if key is None:
            self.regular.append((1, 0))
        elif key is not Ellipsis:
            positions = range(self.shape[self.axis])[key]
            if isinstance(positions, range):
                self.regular.append((len(positions), positions.step * self.strides[self.axis]))
                positions = positions.start
            self.start += positions * self.strides[self.axis]
            self.axis += 1

    def _take_array(self, key: npt.NDArray[Any]) -> None:
        self.place = self.place if self.arrays else len(self.regular)
        self.is_apart |= self.is_behind
        if key.dtype != np.bool_:
            parts = [key.astype(np.intp)]
        elif key.ndim > 0:
            parts = list(key.nonzero())
        else:  # a single truth value selects all or nothing, as a new dimension
            self.arrays.append(np.zeros(int(key), np.intp))
            return
        for part in parts:
            count, stride = self.shape[self.axis], self.strides[self.axis]
            self.arrays.append(np.where(part < 0, part + count, part) * stride)
            self.axis += 1

    def runs(self) -> tuple[npt.NDArray[np.uint64], int]:
        """The offsets of all runs, and the length of each."""
        # Arrays that stand side by side put their dimensions there; otherwise NumPy has them in front.
        split = 0 if self.is_apart else self.place
        before, behind = self.regular[:split], self.regular[split:]
        run_bytes = self.itemsize
        while behind and (behind[-1][0] == 1 or behind[-1][1] == run_bytes):
            run_bytes *= behind.pop()[0]
        offsets = np.array(self.start, np.intp)
        for count, stride in before:
            offsets = offsets[..., np.newaxis] + np.arange(count) * stride
        if self.arrays:
            together = np.asarray(sum(np.broadcast_arrays(*self.arrays)))
            offsets = offsets.reshape(offsets.shape + (1,) * together.ndim) + together
        for count, stride in behind:
            offsets = offsets[..., np.newaxis] + np.arange(count) * stride
        return offsets.reshape(-1).astype(np.uint64), run_bytes
