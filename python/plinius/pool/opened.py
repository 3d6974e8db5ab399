"""A pool that this process has open; `Pool` adds values of its users' own."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from plinius import _pm
from plinius.limits import DEFAULT_HEAP_BYTES
from plinius.pool.bulk import Extent, PoolFile
from plinius.pool.paths import naming

if TYPE_CHECKING:
    from plinius._core import Mapping

_Flush = Literal["auto", "clwb", "clflushopt", "clflush", "none"]


class OpenPool(PoolFile):
    """One file that is mapped and written with plain stores; this process is its only writer.

    Arguments and errors are those of `Pool`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int | None = None,
        heap_bytes: int = DEFAULT_HEAP_BYTES,
        flush: _Flush = "auto",
        require: Literal["power failure", "process crash"] | None = None,
    ) -> None:
        self.path = os.fspath(path)
        with naming(self.path):
            core = _pm.Pool(path=self.path, max_bytes=max_bytes, heap_bytes=heap_bytes, flush=flush, require=require)
        self._hold(core, flush)

    @classmethod
    def from_descriptor(cls, descriptor: int, name: str) -> Self:
        """Opens the pool behind a descriptor that is open for reading and writing; an empty file becomes a pool.

        Args:
            descriptor: Stays open and stays the caller's.
            name: What error messages call the pool.
        """
        pool = cls.__new__(cls)
        pool.path = name
        with naming(name):
            core = _pm.Pool(fd=descriptor, heap_bytes=DEFAULT_HEAP_BYTES)
        pool._hold(core, "auto")
        return pool

    def _hold(self, core: _pm.Pool, flush: _Flush) -> None:
        self.core, self._flush = core, flush
        self._mapping: Mapping | None = None
        self._mapping_lock = threading.RLock()  # a signal handler may save, or close, in the midst of it

    @property
    def mapping(self) -> Mapping:
        """The file, mapped a second time: by what knows keys, which who uses values alone does not load."""
        if self._mapping is None:
            from plinius._core import Mapping  # noqa: PLC0415

            with self._mapping_lock:
                self._mapping = self._mapping or Mapping.of(self.core.lend(), self._flush)
        return self._mapping

    def find(self, name: str) -> tuple[bytes, list[Extent]] | None:
        """An entry of the catalog: its public bytes and its extents."""
        entry = self.core.entry(name)
        return entry and entry[1:]

    def meta(self, name: str) -> bytes | None:
        """The public bytes of an entry alone."""
        return self.core.meta(name)

    def reserve(self) -> _pm.Reservation:
        """Begins to take free extents."""
        return self.core.reserve()

    def check_free(self) -> None:
        """Refuses a thread that runs a transaction, before it waits for another thread that needs one."""
        self.core.check_free()

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

    def __bool__(self) -> bool:
        return not self.core.closed

    def close(self) -> None:
        """Closes the pool; it may be opened again, moved or copied afterwards.

        A transaction that still runs keeps the file until it ends, and so does a save in the background.
        """
        with self._mapping_lock:
            try:
                if self._mapping is not None:
                    self._mapping.close()
            finally:
                self.core.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self.core.closed:
            return f"{type(self).__name__}({self.path!r}, closed)"
        return f"{type(self).__name__}({self.path!r}, {self.bytes} bytes, {self.medium}, survives {self.durability})"
