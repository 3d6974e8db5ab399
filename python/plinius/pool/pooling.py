"""The pool: one file that is mapped and written with plain stores, on persistent memory or what stands in for it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal

import numpy as np

from plinius import _core
from plinius._core import Medium
from plinius.pool import checking
from plinius.pool.paths import naming
from plinius.pool.reading import find, read_value
from plinius.pool.transaction import Transaction
from plinius.pool.values import LIST_META, entry_name, user_names

DEFAULT_HEAP_BYTES: Final = 2 << 20


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


class Pool(Mapping[str, Any]):
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

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int | None = None,
        heap_bytes: int = DEFAULT_HEAP_BYTES,
        flush: Literal["auto", "clwb", "clflushopt", "clflush", "none"] = "auto",
        require: Literal["power failure", "process crash"] | None = None,
    ) -> None:
        self.path = os.fspath(path)
        with naming(self.path):
            self.core = _core.Pool(
                path=self.path, max_bytes=max_bytes, heap_bytes=heap_bytes, flush=flush, require=require
            )

    @classmethod
    def from_descriptor(cls, descriptor: int, name: str, medium: Medium | None = None) -> Pool:
        """Opens the pool behind a descriptor that is open for reading and writing; an empty file becomes a pool.

        Args:
            descriptor: Stays open and stays the caller's.
            name: What error messages call the pool.
            medium: Of this descriptor, where it was looked at earlier (`look_at`). Without it the kernel is asked now,
                which a process in a sandbox may not do.
        """
        pool = cls.__new__(cls)
        pool.path = name
        with naming(name):
            if medium is None:
                pool.core = _core.Pool(fd=descriptor, heap_bytes=DEFAULT_HEAP_BYTES)
            else:
                pool.core = _core.Pool.on(medium, descriptor, DEFAULT_HEAP_BYTES)
        return pool

    @property
    def durability(self) -> str:
        """What a commit survives: ``process crash`` or ``power failure``."""
        return self.core.durability

    @property
    def medium(self) -> str:
        """What lies under the pool, in words."""
        return self.core.medium

    @property
    def write_back(self) -> str:
        """How cache lines are written back: an instruction, or how the medium does without one."""
        return self.core.flush

    @property
    def bytes(self) -> int:
        """Length of the pool's file."""
        return self.core.bytes[0]

    @property
    def free_bytes(self) -> int:
        """Bytes of it that no extent uses."""
        return self.core.bytes[1]

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

    def __bool__(self) -> bool:
        return not self.core.closed

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

    def close(self) -> None:
        """Closes the pool; it may be opened again, moved or copied afterwards.

        A transaction that still runs keeps the file until it ends.
        """
        self.core.close()

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self.core.closed:
            return f"Pool({self.path!r}, closed)"
        return f"Pool({self.path!r}, {self.bytes} bytes, {self.medium}, survives {self.durability})"


def _read(snapshot: _core.Snapshot, name: str) -> Any:
    stored = find(snapshot, entry_name(name))
    if stored is None:
        raise KeyError(name)
    value = read_value(snapshot, stored)
    for array in [value] if isinstance(value, np.ndarray) else value:
        array.flags.writeable = False
    return value
