"""Reading values: from one committed state, or with a transaction's own changes. Nothing of it is trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from plinius import _pm
from plinius.pool.indexing import Selection
from plinius.pool.values import ArrayType, corrupt, parse_meta

Source: TypeAlias = _pm.Snapshot | _pm.Transaction
Array: TypeAlias = npt.NDArray[Any]

WORD_BYTES: Final = 8
_LENGTH_BYTES: Final = 4
ITEM_ALIGN: Final = 16


@dataclass(frozen=True)
class StoredArray:
    """Where an array lies: its block, and how far into the block its first byte is."""

    type: ArrayType
    block: int
    start: int


@dataclass(frozen=True)
class StoredList:
    """Where a list lies: its directory's block, which begins with the count of the items."""

    block: int
    capacity: int


def find(source: Source, entry: str) -> StoredArray | StoredList | None:
    """The value that the catalog has under a name.

    Raises:
        PoolCorrupt: What the pool says of it was changed.
    """
    found = source.entry(entry)
    if found is None:
        return None
    meta, block = found
    array = parse_meta(meta)
    if array is None:
        return StoredList(block, source.block_bytes(block) // WORD_BYTES - 1)
    return _checked(source, StoredArray(array, block, 0))


def read_array(source: Source, array: StoredArray) -> Array:
    """A private copy of an array."""
    part = Selection(array.type.shape, False, np.zeros(1, np.uint64), array.type.nbytes)
    return read_part(source, array, part, array.type.dtype)


def read_part(source: Source, array: StoredArray, part: Selection, dtype: np.dtype[Any]) -> Array:
    """A private copy of a part of an array, or of a field of it that has its own type."""
    out = np.empty(part.shape, dtype)
    if out.nbytes > 0:
        source.load(array.block, part.offsets + np.uint64(array.start), part.run_bytes, memory_of(out))
    return out


def memory_of(array: Array) -> npt.NDArray[np.uint8]:
    """The bytes of a row-major array, without a copy."""
    return array.reshape(-1).view(np.uint8)


def read_words(source: Source, block: int, first: int, count: int) -> npt.NDArray[np.uint64]:
    """Words of a block, counted from its first."""
    words = np.empty(count, np.dtype("<u8"))
    if count > 0:
        source.load(block, np.array([first * WORD_BYTES], np.uint64), words.nbytes, memory_of(words))
    return words


def count_of(source: Source, stored: StoredList) -> int:
    """How many items a list has.

    Raises:
        PoolCorrupt: More than its directory holds.
    """
    if stored.capacity < 0:
        raise corrupt("the directory of a list has no room for its count")
    count = int(read_words(source, stored.block, 0, 1)[0])
    if count > stored.capacity:
        raise corrupt(f"a list of {count} items in a directory for {stored.capacity}")
    return count


def read_slots(source: Source, stored: StoredList, first: int, count: int) -> npt.NDArray[np.uint64]:
    """The blocks of some items of a list."""
    return read_words(source, stored.block, 1 + first, count)


def item(source: Source, block: int) -> StoredArray:
    """The item of a list that lies in a block.

    Raises:
        PoolCorrupt: The block holds none.
    """
    room = source.block_bytes(block)
    length = int.from_bytes(_bytes(source, block, 0, _LENGTH_BYTES, room), "little")
    array = parse_meta(_bytes(source, block, _LENGTH_BYTES, length, room))
    if array is None:
        raise corrupt("a list within a list")
    return _checked(source, StoredArray(array, block, item_start(length)))


def item_start(meta_bytes: int) -> int:
    """Where the data of an item begin, behind the length of its meta and the meta."""
    return -(-(_LENGTH_BYTES + meta_bytes) // ITEM_ALIGN) * ITEM_ALIGN


def read_value(source: Source, stored: StoredArray | StoredList) -> Array | list[Array]:
    """Private copies of an array, or of all items of a list.

    Raises:
        PoolCorrupt: The pool was changed.
    """
    if isinstance(stored, StoredArray):
        return read_array(source, stored)
    slots = read_slots(source, stored, 0, count_of(source, stored))
    # A changed list that names one block a million times would become a million copies.
    if len(np.unique(slots)) != len(slots):
        raise corrupt("a list names one item twice")
    return [read_array(source, item(source, int(slot))) for slot in slots]


def _checked(source: Source, array: StoredArray) -> StoredArray:
    """An array that fits its block: so no more is ever allocated for it than the pool is long."""
    room = source.block_bytes(array.block)
    if array.start + array.type.nbytes > room:
        raise corrupt(f"an array of {array.type.nbytes} bytes in a block of {room}")
    return array


def _bytes(source: Source, block: int, at: int, length: int, room: int) -> bytes:
    if at + length > room:
        raise corrupt(f"{length} bytes at {at} of a block of {room}")
    memory = np.empty(length, np.uint8)
    if length > 0:
        source.load(block, np.array([at], np.uint64), length, memory)
    return memory.tobytes()
