"""A transaction: named values that change together or not at all."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any, Final

from plinius import _pm
from plinius.errors import PoolError
from plinius.pool.arrays import FreshArray, PersistentArray, fresh, overwrite
from plinius.pool.changes import Changes
from plinius.pool.lists import PersistentList, create_list, free_list
from plinius.pool.reading import StoredArray, StoredList, find, read_value
from plinius.pool.values import LIST_META, entry_name, user_names

_NOTHING: Final = object()


class Transaction(_pm.Scope, MutableMapping[str, Any]):
    """Changes to a pool that become durable together when the ``with`` block ends; an exception undoes them all.

    It maps names to `PersistentArray` and `PersistentList`. One runs at a time, others wait; it belongs to the thread
    that began it, and is not nested.
    """

    def __init__(self, pool: _pm.Pool, path: str) -> None:
        del pool  # the scope's, as is the path
        self._path = path
        self._shared: Changes | None = None

    def abort(self) -> None:
        """Ends it and undoes all of it; the rest of its ``with`` block must do without it."""
        with self._changes.core() as core:
            core.abort()

    def __getitem__(self, name: str) -> Any:
        with self._changes.core() as core:
            stored = find(core, entry_name(name))
        if stored is None:
            raise KeyError(name)
        if isinstance(stored, StoredArray):
            return PersistentArray(self._changes, stored)
        return PersistentList(self._changes, entry_name(name))

    def __setitem__(self, name: str, value: object) -> None:
        entry = entry_name(name)
        is_list = isinstance(value, (list, PersistentList))
        items = [fresh(item) for item in value] if is_list else []  # type: ignore[attr-defined]
        array = None if is_list else fresh(value)
        with self._changes.core() as core:
            stored = find(core, entry)
            with self._changes.whole_change():
                if array is None:
                    self._put(core, entry, stored, items)
                elif not (isinstance(stored, StoredArray) and overwrite(core, stored, array)):
                    self._put(core, entry, stored, array)

    def __delitem__(self, name: str) -> None:
        with self._changes.core() as core:
            entry = entry_name(name)
            stored = find(core, entry)
            if stored is None:
                raise KeyError(name)
            with self._changes.whole_change():
                self._free(core, stored)
                core.remove(entry)

    def __contains__(self, name: object) -> bool:
        with self._changes.core() as core:
            return isinstance(name, str) and core.entry(entry_name(name)) is not None

    def __iter__(self) -> Iterator[str]:
        with self._changes.core() as core:
            return iter(user_names(core.names()))

    def __len__(self) -> int:
        with self._changes.core() as core:
            return len(user_names(core.names()))

    def pop(self, name: str, default: Any = _NOTHING) -> Any:
        """Removes a value and returns a private copy of it: an array, or a list of arrays."""
        if name not in self and default is not _NOTHING:
            return default
        with self._changes.core() as core:
            stored = find(core, entry_name(name))
            copy = None if stored is None else read_value(core, stored)
        del self[name]
        return copy

    def popitem(self) -> tuple[str, Any]:
        """Removes a name and its value, and returns the name and a private copy of the value."""
        for name in self:
            return name, self.pop(name)
        raise KeyError("the pool has no values")

    def __repr__(self) -> str:
        return f"Transaction({self._path!r})"

    @property
    def _changes(self) -> Changes:
        if self._shared is None:
            if self._begun is None:
                raise PoolError(f"{self._path}: this transaction has not begun; write `with pool.transaction() as tx:`")
            self._shared = Changes(self._begun, self._path)
        return self._shared

    def _put(
        self,
        core: _pm.Transaction,
        entry: str,
        stored: StoredArray | StoredList | None,
        value: FreshArray | list[FreshArray],
    ) -> None:
        if stored is not None:
            self._free(core, stored)
        if isinstance(value, list):
            core.set(entry, LIST_META, create_list(core, value))
        else:
            core.set(entry, value.meta, core.create(value.memory))

    def _free(self, core: _pm.Transaction, stored: StoredArray | StoredList) -> None:
        if isinstance(stored, StoredList):
            free_list(self._changes, core, stored)
        else:
            self._changes.free(core, stored.block)
