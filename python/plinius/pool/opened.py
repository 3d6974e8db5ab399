"""An open pool as mirrors and data sets need it; `Pool` adds values of its users' own.

The trusted process of `plinius train` opens this one: it loads nothing that only values need.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Final, Literal, Self

from plinius import _core
from plinius._core import Medium
from plinius.pool.paths import naming

DEFAULT_HEAP_BYTES: Final = 2 << 20


class PoolFile:
    """One file that is mapped and written with plain stores; this process is its only writer.

    Arguments and errors are those of `Pool`.
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
    def from_descriptor(cls, descriptor: int, name: str, medium: Medium | None = None) -> Self:
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

    def __bool__(self) -> bool:
        return not self.core.closed

    def close(self) -> None:
        """Closes the pool; it may be opened again, moved or copied afterwards.

        A transaction that still runs keeps the file until it ends.
        """
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
