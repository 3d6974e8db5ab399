"""Arrays as memory: what a library must offer, and NumPy's part of it."""

from __future__ import annotations

import math
from collections.abc import Hashable
from functools import cache, lru_cache
from typing import Any, Protocol

import numpy as np

from plinius.errors import IntegrityError
from plinius.frameworks import import_torch, torch_if_loaded
from plinius.state.snapshot import Layout, View
from plinius.state.tree import NUMPY_KINDS, Node, named, numpy_dtype, refuse


class ArrayLibrary(Protocol):
    """The arrays of one library."""

    @property
    def tag(self) -> str:
        """The tag of its arrays in the tree."""

    def identity(self, array: Any, path: str) -> Hashable:
        """Returns what two arrays share only if they are tied; ``None`` where there is nothing to tie.

        Raises:
            ConfigError: The array cannot be mirrored; the message names ``path``.
        """

    def view(self, array: Any) -> View:
        """Returns the bytes of an array that has an identity, its own bytes where they are dense."""

    def evidence(self, arrays: list[Any]) -> object:
        """Returns what is equal for the same arrays later only if each has its `identity` and its `traits` still.

        It costs less than to ask for those. ``None`` where it cannot be had.

        Args:
            arrays: Each of a type of which `identity` has taken an array.
        """

    def traits(self, array: Any, /) -> list[Node]:
        """Returns what an array has besides its bytes, dtype, shape and layout; mostly nothing."""

    def empty(self, dtype: str, shape: tuple[int, ...], layout: Layout) -> Any:
        """Returns a new array in host memory whose bytes are dense in the given layout."""

    def with_traits(self, array: Any, traits: list[Node]) -> Any:
        """Returns an array from `empty`, once it is filled, with the traits of the saved one."""

    def assign(self, target: Any, source: Any) -> None:
        """Copies one array's elements into another of the same dtype and shape."""


@lru_cache(maxsize=4096)
def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the strides, in elements, of a row-major array."""
    return tuple(math.prod(max(extent, 1) for extent in shape[i + 1 :]) for i in range(len(shape)))


@lru_cache(maxsize=4096)
def is_dense(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Tells whether elements at these strides fill their memory, each at a place of its own."""
    expected = 1
    for stride, extent in sorted(zip(strides, shape, strict=True)):
        if extent != 1:
            if stride != expected:
                return False
            expected *= extent
    return True


class NumpyArrays:
    """NumPy's arrays: plain `numpy.ndarray` of numbers, bools, dates and fixed-width strings."""

    tag = "ndarray"

    def identity(self, array: np.ndarray[Any, Any], path: str) -> Hashable:
        """Returns the address, dtype, shape and strides; ``None`` for an empty array.

        Raises:
            ConfigError: The array is of a subclass, or its elements are objects or records.
        """
        if type(array) is not np.ndarray:
            refuse(path, named(array))
        if array.dtype.char not in NUMPY_KINDS or array.itemsize == 0:
            refuse(path, f"an array of dtype {array.dtype}")
        if array.size == 0:
            return None
        return _identity(array)

    def evidence(self, arrays: list[Any]) -> object:
        """Returns the identity of each array, whether it has one or not."""
        return list(map(_identity, arrays))

    def view(self, array: np.ndarray[Any, Any]) -> View:
        """Returns the array's bytes, a copy only where it is a slice or an expansion."""
        strides = tuple(stride // array.itemsize for stride in array.strides)
        rows: np.ndarray[Any, Any] = array
        layout: Layout = None
        if not array.flags.c_contiguous:
            dense = is_dense(array.shape, strides)
            layout = strides if dense else "copied"
            outermost_first = sorted(range(array.ndim), key=lambda dim: -strides[dim])
            rows = array.transpose(outermost_first) if dense else np.ascontiguousarray(array)
        memory = rows.reshape(-1).view(np.uint8)
        if not array.flags.writeable:  # a copy's flag too: it tells whether the array takes bytes back
            memory.flags.writeable = False
        return View(memory, _name(array.dtype), array.shape, layout, layout != "copied")

    def traits(self, _: object) -> list[Node]:
        """Returns nothing: bytes, dtype, shape and layout are all of an array."""
        return []

    def empty(self, dtype: str, shape: tuple[int, ...], layout: Layout) -> np.ndarray[Any, Any]:
        """Returns a new array, dense in the given layout.

        Raises:
            IntegrityError: ``dtype`` is none that `view` writes.
        """
        try:
            element = numpy_dtype(dtype)
        except TypeError as error:
            raise IntegrityError(f"the mirrored structure is malformed: {error}") from None
        if not isinstance(layout, tuple):
            return np.empty(shape, element)
        memory = np.empty(math.prod(shape) * element.itemsize, np.uint8)
        strides = [stride * element.itemsize for stride in layout]
        return np.ndarray(shape, element, memory, strides=strides)

    def with_traits(self, array: np.ndarray[Any, Any], traits: list[Node]) -> np.ndarray[Any, Any]:
        """Returns the array.

        Raises:
            IntegrityError: There are traits.
        """
        if traits:
            raise IntegrityError(f"the mirrored structure is malformed: an array with {traits}")
        return array

    def assign(self, target: np.ndarray[Any, Any], source: np.ndarray[Any, Any]) -> None:
        """Copies the elements, bit for bit, into a slice of the same dtype and shape."""
        np.copyto(target, source, casting="no")


NUMPY = NumpyArrays()


def _identity(array: np.ndarray[Any, Any]) -> Hashable:
    return array.__array_interface__["data"][0], array.dtype.str, array.shape, array.strides


def _name(dtype: np.dtype[Any]) -> str:
    return dtype.name if dtype.isnative and dtype.kind in "biufc" else dtype.str


def library_of(value: object) -> ArrayLibrary | None:
    """Returns the library whose array a value is, if it is one."""
    if isinstance(value, np.ndarray):
        return NUMPY
    torch = torch_if_loaded()
    return torch.TENSORS if torch is not None and torch.is_tensor(value) else None


@cache
def library_named(tag: str) -> ArrayLibrary:
    """Returns the library that wrote a tag.

    Raises:
        IntegrityError: None did.
    """
    if tag == NUMPY.tag:
        return NUMPY
    if tag == "tensor":
        return import_torch().TENSORS  # type: ignore[no-any-return]
    raise IntegrityError(f"the mirrored structure is malformed: an array of kind {tag!r}")
