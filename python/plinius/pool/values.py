"""What a named value is: an array of a type, or a list of arrays; and how that is written into the pool.

Whatever is read from the pool is not trusted: it counts only if it is, byte for byte, what this module writes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from plinius.errors import PoolCorrupt, PoolError, PoolVersion
from plinius.pool.dtypes import describe, rebuild

FORMAT_VERSION: Final = 1
# One prefix for arrays and lists, so that a name cannot be both; and none that a mirror or a data set has.
_PREFIX: Final = "value/"
_MAX_NAME_BYTES: Final = 200
_MAX_META_BYTES: Final = 1 << 16
_MAX_DIMENSIONS: Final = 64
_MAX_BYTES: Final = (1 << 63) - 1
_ARRAY: Final = "array"
LIST_META: Final = msgspec.msgpack.encode([FORMAT_VERSION, "list"])


@dataclass(frozen=True)
class ArrayType:
    """Element type and shape of an array; its bytes lie in row-major order."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes they have."""
        return self.size * self.dtype.itemsize

    def encode(self) -> bytes:
        """What the pool keeps of it.

        Raises:
            PoolError: Elements of this type could not be put back exactly.
        """
        meta = msgspec.msgpack.encode([FORMAT_VERSION, _ARRAY, describe(self.dtype), self.shape])
        if len(meta) > _MAX_META_BYTES:
            raise PoolError(f"the dtype has too many fields: {len(meta)} bytes describe it, {_MAX_META_BYTES} may")
        return meta


def entry_name(name: str) -> str:
    """How the catalog calls a user's name.

    Raises:
        PoolError: It is none: not a text, empty or too long.
    """
    if not isinstance(name, str):
        raise PoolError(f"a name in a pool is a text, not {name!r}")
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        length = 0
    if not 0 < length <= _MAX_NAME_BYTES:
        raise PoolError(f"a name in a pool is text of 1 to {_MAX_NAME_BYTES} bytes of UTF-8, not {name!r}")
    return _PREFIX + name


def user_names(entries: Iterable[str]) -> list[str]:
    """The users' names among the catalog's, sorted."""
    return sorted(entry.removeprefix(_PREFIX) for entry in entries if is_value(entry))


def is_value(entry: str) -> bool:
    """Whether a name of the catalog is a user's value's."""
    return entry.startswith(_PREFIX)


def parse_meta(meta: bytes) -> ArrayType | None:
    """Parses what the pool keeps of a value, which anybody may have changed.

    Returns:
        The array's type; None for a list.

    Raises:
        PoolCorrupt: It is nothing that this module writes.
        PoolVersion: It has a format that this release does not read.
    """
    if meta == LIST_META:
        return None
    if len(meta) > _MAX_META_BYTES:
        raise corrupt(f"{len(meta)} bytes describe it")
    try:
        version, *rest = msgspec.msgpack.decode(meta, type=list[Any])
        _check_version(version)
        kind, description, shape = rest
        dtype = rebuild(description)
        found = ArrayType(dtype, _checked_shape(shape, dtype.itemsize))
        is_exact = kind == _ARRAY and found.encode() == meta
    except PoolVersion:
        raise
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError, PoolError) as error:
        raise corrupt(str(error)) from None
    if not is_exact:
        raise corrupt("it is not described in the one form in which this release writes it")
    return found


def corrupt(what: str) -> PoolCorrupt:
    """The error of a value whose bytes were changed."""
    return PoolCorrupt(f"a value in the pool is damaged: {what}; restore the pool from a copy")


def _check_version(version: object) -> None:
    if version != FORMAT_VERSION:
        raise PoolVersion(f"a value has format {version}, this release reads {FORMAT_VERSION}; use a matching release")


def _checked_shape(shape: object, itemsize: int) -> tuple[int, ...]:
    if not isinstance(shape, list) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError("its shape is malformed")
    bytes_ = itemsize
    for size in shape:
        if type(size) is not int or size < 0:
            raise ValueError(f"its shape is {shape}")
        # A size of 0 counts as 1: also of such a shape NumPy makes no array whose other sizes are beyond all memory.
        bytes_ *= max(size, 1)
        if bytes_ > _MAX_BYTES:
            raise ValueError("no memory holds it")
    return tuple(shape)
