"""A list of arrays in the pool, as a transaction sees and changes it.

Its directory is a block: the count of the items, then a word for each, the item's block. An item's block is the
length of its meta (u32), the meta, zeros up to a multiple of 16, and the array's bytes.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from plinius import _pm
from plinius.errors import PoolError
from plinius.pool.arrays import FreshArray, PersistentArray, fresh, overwrite
from plinius.pool.changes import Changes
from plinius.pool.reading import (
    WORD_BYTES,
    Array,
    StoredList,
    count_of,
    find,
    item,
    item_start,
    memory_of,
    read_array,
    read_slots,
)
from plinius.pool.values import LIST_META

_LEAST_DIRECTORY_BYTES: Final = 64
Slots = npt.NDArray[np.uint64]


class PersistentList:
    """A list of arrays in the pool, for as long as its transaction lasts.

    Items are `PersistentArray`; what is put in is copied, what is popped is a private copy.
    """

    def __init__(self, changes: Changes, entry: str) -> None:
        self._changes, self._entry = changes, entry

    def __len__(self) -> int:
        with self._changes.core() as core:
            return count_of(core, self._stored(core))

    def __getitem__(self, index: int | slice) -> Any:
        with self._changes.core() as core:
            stored = self._stored(core)
            positions = range(count_of(core, stored))[index]
            if isinstance(positions, int):
                return self._item(core, stored, positions)
            return [self._item(core, stored, position) for position in positions]

    def __setitem__(self, index: int, value: object) -> None:
        new = fresh(value)
        with self._changes.core() as core:
            stored = self._stored(core)
            position = range(count_of(core, stored))[operator.index(index)]
            (slot,) = read_slots(core, stored, position, 1)
            with self._changes.whole_change():
                if not overwrite(core, item(core, int(slot)), new):
                    self._changes.free(core, int(slot))
                    _store_words(core, stored.block, 1 + position, _slots([_create_item(core, new)]))

    def __delitem__(self, index: int | slice) -> None:
        with self._changes.core() as core:
            stored = self._stored(core)
            positions = range(count_of(core, stored))[index]
            self._remove(core, stored, [positions] if isinstance(positions, int) else list(positions))

    def __iter__(self) -> Iterator[PersistentArray]:
        position = 0
        while position < len(self):
            yield self[position]
            position += 1

    def append(self, value: object) -> None:
        """Puts an array behind the last one."""
        self.extend([value])

    def extend(self, values: Iterable[object]) -> None:
        """Puts arrays behind the last one."""
        self._insert(None, [fresh(value) for value in values])

    def insert(self, index: int, value: object) -> None:
        """Puts an array before the one at an index; an index beyond the ends means the end, as in a Python list."""
        self._insert(operator.index(index), [fresh(value)])

    def pop(self, index: int = -1) -> Array:
        """Removes an array and returns a private copy of it.

        Raises:
            IndexError: There is none at this index.
        """
        with self._changes.core() as core:
            stored = self._stored(core)
            position = range(count_of(core, stored))[operator.index(index)]
            (slot,) = read_slots(core, stored, position, 1)
            copy = read_array(core, item(core, int(slot)))
            self._remove(core, stored, [position])
            return copy

    def clear(self) -> None:
        """Removes all arrays."""
        del self[:]

    def __repr__(self) -> str:
        return f"PersistentList({len(self)} arrays)"

    def _stored(self, core: _pm.Transaction) -> StoredList:
        stored = find(core, self._entry)
        if not isinstance(stored, StoredList):
            raise PoolError("this list was replaced or deleted in its transaction; look it up again")
        return stored

    def _item(self, core: _pm.Transaction, stored: StoredList, position: int) -> PersistentArray:
        (slot,) = read_slots(core, stored, position, 1)
        return PersistentArray(self._changes, item(core, int(slot)))

    def _insert(self, index: int | None, values: list[FreshArray]) -> None:
        with self._changes.core() as core:
            stored = self._stored(core)
            count = count_of(core, stored)
            first, _, _ = slice(index, None).indices(count) if index is not None else (count, 0, 0)
            with self._changes.whole_change():
                created = _slots([_create_item(core, value) for value in values])
                tail = np.concatenate([created, read_slots(core, stored, first, count - first)])
                self._splice(core, stored, first, tail)

    def _remove(self, core: _pm.Transaction, stored: StoredList, positions: list[int]) -> None:
        if not positions:
            return
        first = min(positions)
        tail = read_slots(core, stored, first, count_of(core, stored) - first)
        doomed = np.array(positions) - first
        with self._changes.whole_change():
            for slot in tail[doomed]:
                self._changes.free(core, int(slot))
            self._splice(core, stored, first, np.delete(tail, doomed))

    def _splice(self, core: _pm.Transaction, stored: StoredList, first: int, tail: Slots) -> None:
        """From `first` on, the items are now those of `tail`."""
        count = first + len(tail)
        if _directory_bytes(count, stored.capacity) == (stored.capacity + 1) * WORD_BYTES:
            _store_words(core, stored.block, 0, _slots([count]))
            _store_words(core, stored.block, 1 + first, tail)
            return
        slots = np.concatenate([read_slots(core, stored, 0, first), tail])
        self._changes.free(core, stored.block)
        core.set(self._entry, LIST_META, _create_directory(core, slots))


def create_list(core: _pm.Transaction, values: list[FreshArray]) -> int:
    """Takes blocks for a list and its items, and returns the one of its directory."""
    return _create_directory(core, _slots([_create_item(core, value) for value in values]))


def free_list(changes: Changes, core: _pm.Transaction, stored: StoredList) -> None:
    """Gives the blocks of a list and its items back."""
    for slot in read_slots(core, stored, 0, count_of(core, stored)):
        changes.free(core, int(slot))
    changes.free(core, stored.block)


def _create_directory(core: _pm.Transaction, slots: Slots) -> int:
    words = _slots([0] * (_directory_bytes(len(slots)) // WORD_BYTES))
    words[0] = len(slots)
    words[1 : 1 + len(slots)] = slots
    return core.create(memory_of(words))


def _directory_bytes(count: int, capacity: int = -1) -> int:
    """How long the directory of so many items is: doubled when it is full, halved when three quarters are free."""
    now, needed = (capacity + 1) * WORD_BYTES, (count + 1) * WORD_BYTES
    if needed <= now and (4 * needed > now or now <= _LEAST_DIRECTORY_BYTES):
        return now
    wanted = needed if needed > now else 2 * needed
    return max(_LEAST_DIRECTORY_BYTES, 1 << (wanted - 1).bit_length())


def _create_item(core: _pm.Transaction, value: FreshArray) -> int:
    start = item_start(len(value.meta))
    memory = np.zeros(start + value.type.nbytes, np.uint8)
    head = len(value.meta).to_bytes(4, "little") + value.meta
    memory[: len(head)] = np.frombuffer(head, np.uint8)
    memory[start:] = value.memory
    return core.create(memory)


def _store_words(core: _pm.Transaction, block: int, first: int, words: Slots) -> None:
    if len(words) > 0:
        core.store(block, np.array([first * WORD_BYTES], np.uint64), words.nbytes, memory_of(words))


def _slots(words: list[int]) -> Slots:
    return np.array(words, np.dtype("<u8"))
