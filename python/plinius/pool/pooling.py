"""The pool: one file that is mapped and written with plain stores, on persistent memory or what stands in for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from plinius import _pm
from plinius.pool import checking
from plinius.pool.opened import OpenPool
from plinius.pool.paths import naming
from plinius.pool.reading import find, read_value
from plinius.pool.transaction import Transaction
from plinius.pool.values import LIST_META, entry_name, user_names


@dataclass(frozen=True)
class PoolStats:
    """How large a pool is and what it holds.

    Attributes:
        bytes: Length of the file.
        free_bytes: Bytes of it that neither the heap nor a mirror or data set uses.
        heap_bytes: Length of the heap, which holds arrays, lists and the catalog; the file has it twice.
        heap_used_bytes: How much of the heap is in use.
        heap_free_bytes: How much of it is free; the heap grows when that does not do.
        commits: Transactions committed since the pool was created.
        entries: Names in the catalog, those of mirrors and data sets too.
        arrays: Named arrays.
        lists: Named lists of arrays.
    """

    bytes: int
    free_bytes: int
    heap_bytes: int
    heap_used_bytes: int
    heap_free_bytes: int
    commits: int
    entries: int
    arrays: int
    lists: int


class Pool(OpenPool, Mapping[str, Any]):
    """An open pool; this process is its only writer.

    It maps names to values: ``pool["w"]`` is a private copy of the last committed state, an array or a list of arrays,
    and read-only, so that nobody mistakes a change to the copy for a change to the pool. What changes together is
    changed in a `transaction`.

    Args:
        path: The pool's file. It is created when there is none, with space allocated, readable by its owner only.
        max_bytes: The pool never grows beyond this; without it, as far as its medium goes.
        heap_bytes: First length of each of the twin heaps, for a pool that is created now.
        flush: How cache lines are written back: ``auto`` is the best that the medium and this CPU have.
        require: Refuse a medium on which a commit survives less than this.

    Raises:
        PoolBusy: Another process has the pool open, and kept it for the few seconds that this waited.
        PoolCorrupt: The file is no pool, or was damaged or truncated.
        PoolVersion: The pool has a format that this release does not read.
        PoolFull: The medium has no room for a new pool.
        DurabilityUnavailable: The medium gives less than is required.
        PoolError: The system refused something.
    """

    def transaction(self) -> Transaction:
        """Changes to the pool that become durable together: ``with pool.transaction() as tx:``.

        The block begins when no other transaction runs. It commits at its end, and rolls back when it is left by an
        exception.
        """
        return Transaction(self.core, self.path)

    def read(self, *names: str) -> dict[str, Any]:
        """Private copies of several values, all of one and the same commit.

        Args:
            names: Which values; all of them without any.

        Raises:
            KeyError: There is no value of one of the names.
        """
        with naming(self.path), self.core.snapshot() as snapshot:
            return {name: _read(snapshot, name) for name in names or user_names(snapshot.names())}

    def __getitem__(self, name: str) -> Any:
        with naming(self.path), self.core.snapshot() as snapshot:
            return _read(snapshot, name)

    def __setitem__(self, name: str, value: object) -> None:
        with self.transaction() as tx:
            tx[name] = value

    def __delitem__(self, name: str) -> None:
        with self.transaction() as tx:
            del tx[name]

    def __contains__(self, name: object) -> bool:
        with naming(self.path), self.core.snapshot() as snapshot:
            return isinstance(name, str) and snapshot.entry(entry_name(name)) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def _names(self) -> list[str]:
        with naming(self.path), self.core.snapshot() as snapshot:
            return user_names(snapshot.names())

    __eq__ = object.__eq__  # a pool is itself, whatever another one holds
    __hash__ = object.__hash__

    def verify(self) -> list[str]:
        """Looks the whole pool over, and says what is wrong with it; nothing is, when the list is empty.

        Main heap against back heap, the structure of both, every value, and that each block in use belongs to exactly
        one of them. It waits for a running transaction and holds up the next one.

        Raises:
            PoolError: This thread runs a transaction.
        """
        with naming(self.path):
            found, _ = self.core.verify()
            # A transaction that changes nothing writes nothing; while it lasts, nobody else changes anything.
            with self.core.transaction() as still:
                return found + checking.problems(still, self.core.stats()["blocks"])

    def stats(self) -> PoolStats:
        """How large the pool is and what it holds."""
        with naming(self.path), self.core.snapshot() as snapshot:
            facts = self.core.stats()
            entries = [snapshot.entry(entry_name(name)) for name in user_names(snapshot.names())]
        lists = sum(entry is not None and entry[0] == LIST_META for entry in entries)
        return PoolStats(
            bytes=facts["pool_bytes"],
            free_bytes=facts["free_bytes"],
            heap_bytes=facts["heap_bytes"],
            heap_used_bytes=facts["heap_bytes"] - facts["heap_free_bytes"],
            heap_free_bytes=facts["heap_free_bytes"],
            commits=facts["commits"],
            entries=facts["entries"],
            arrays=len(entries) - lists,
            lists=lists,
        )


def _read(snapshot: _pm.Snapshot, name: str) -> Any:
    stored = find(snapshot, entry_name(name))
    if stored is None:
        raise KeyError(name)
    value = read_value(snapshot, stored)
    for array in [value] if isinstance(value, np.ndarray) else value:
        array.flags.writeable = False
    return value
