"""An array in the pool, as a transaction sees and changes it."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.mixins import NDArrayOperatorsMixin

from plinius import _pm
from plinius.errors import PoolError
from plinius.pool.changes import Changes
from plinius.pool.indexing import Selection, select, select_field
from plinius.pool.reading import Array, StoredArray, memory_of, read_array, read_part
from plinius.pool.values import ArrayType


class PersistentArray(NDArrayOperatorsMixin):
    """An array in the pool, for as long as its transaction lasts.

    ``a[index]`` is a private copy of just that part; ``a[index] = value`` stores just that part, and is undone when the
    transaction is. Indexes mean what they mean in NumPy, also integer arrays and masks; the name of a record's field
    stands alone, as in ``a["x"]``. ``numpy.asarray(a)`` is a private copy of all. Arithmetic and comparisons are
    NumPy's, on a private copy; in place (``a += 1``) they store.
    """

    def __init__(self, changes: Changes, stored: StoredArray) -> None:
        self._changes, self._stored = changes, stored
        self._token = changes.token(stored.block)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its elements."""
        return self._stored.type.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Its size in each dimension."""
        return self._stored.type.shape

    @property
    def ndim(self) -> int:
        """How many dimensions it has."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many elements it has."""
        return self._stored.type.size

    @property
    def nbytes(self) -> int:
        """How many bytes they have."""
        return self._stored.type.nbytes

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __bool__(self) -> bool:
        return bool(np.asarray(self))

    def __int__(self) -> int:
        return int(np.asarray(self))

    def __float__(self) -> float:
        return float(np.asarray(self))

    def __index__(self) -> int:
        return operator.index(np.asarray(self))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        out = options.pop("out", ())
        copies = [np.asarray(one) if isinstance(one, PersistentArray) else one for one in (*inputs, *out)]
        if out:
            options["out"] = tuple(copies[len(inputs) :])
        result = getattr(ufunc, method)(*copies[: len(inputs)], **options)
        for handle, computed in zip(out, options.get("out", ()), strict=True):
            if isinstance(handle, PersistentArray):
                handle[...] = computed
        return out[0] if len(out) == 1 else out or result

    def __iter__(self) -> Iterator[Any]:
        return iter(np.asarray(self))

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("an array in a pool is always copied: memory of the pool is never handed out")
        with self._changes.core() as core:
            self._changes.check(self._stored.block, self._token)
            array = read_array(core, self._stored)
        return array if dtype is None else array.astype(dtype, copy=False)

    def __getitem__(self, index: object) -> Any:
        part, dtype = self._select(index)
        with self._changes.core() as core:
            self._changes.check(self._stored.block, self._token)
            copy = read_part(core, self._stored, part, dtype)
        return copy[()] if part.is_element else copy

    def __setitem__(self, index: object, value: object) -> None:
        part, dtype = self._select(index)
        # Zeros, not whatever lay there: what pads a record goes into the pool too (see _copy_of_fields).
        private = np.zeros(part.shape, dtype)
        private[() if part.is_element else ...] = value
        with self._changes.core() as core:
            self._changes.check(self._stored.block, self._token)
            if private.nbytes > 0:
                with self._changes.whole_change():
                    offsets = part.offsets + np.uint64(self._stored.start)
                    core.store(self._stored.block, offsets, part.run_bytes, memory_of(private))

    def __repr__(self) -> str:
        return f"PersistentArray(shape={self.shape}, dtype={self.dtype})"

    def _select(self, index: object) -> tuple[Selection, np.dtype[Any]]:
        if isinstance(index, str):
            return select_field(index, self.shape, self.dtype)
        return select(index, self.shape, self.dtype.itemsize), self.dtype


@dataclass(frozen=True)
class FreshArray:
    """An array that is to be stored: its type, what the pool keeps of it, and row-major memory."""

    type: ArrayType
    meta: bytes
    array: Array

    @property
    def memory(self) -> npt.NDArray[np.uint8]:
        """Its bytes."""
        return memory_of(self.array)


def fresh(value: object) -> FreshArray:
    """Reads a value completely, so that nothing is stored unless all of it can be.

    Raises:
        PoolError: It is no array of plain bytes.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise PoolError("a masked array is not stored: its mask would be lost; store its data and its mask")
    array = np.asarray(value, order="C")
    if array.dtype.names:
        array = _copy_of_fields(array)
    kind = ArrayType(array.dtype, array.shape)
    return FreshArray(kind, kind.encode(), array)


def overwrite(core: _pm.Transaction, stored: StoredArray, value: FreshArray) -> bool:
    """Stores a value in the place of one of the same type; returns whether it was."""
    if value.type != stored.type:
        return False
    if value.type.nbytes > 0:
        core.store(stored.block, np.array([stored.start], np.uint64), value.type.nbytes, value.memory)
    return True


def _copy_of_fields(records: Array) -> Array:
    """The same records between zeros: what pads them may be old memory of this process, which is not for the pool."""
    copy = np.zeros(records.shape, records.dtype)
    copy[...] = records
    return copy
