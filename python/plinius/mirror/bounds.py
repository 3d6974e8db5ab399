"""What `plinius bench mirror` holds a save and a restore against, measured by the core."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from plinius import _core
from plinius.pool import Extent, OpenPool
from plinius.seal import Key


@dataclass(frozen=True)
class Bounds:
    """The bounds for buffers of some lengths, none of them empty, with all threads that a mirror uses.

    Each is measured anew when it is called, in seconds.
    """

    pool: OpenPool
    key: Key
    lengths_bytes: Sequence[int]

    @property
    def threads(self) -> int:
        """How many threads are used."""
        return len(os.sched_getaffinity(0))

    def seal_s(self) -> float:
        """To seal the bytes in cache."""
        return _core.seal_in_cache(self.key.core, self.lengths_bytes, self.threads)

    def copy_in_s(self) -> float:
        """To copy them into free space of the pool with non-temporal stores, and to fence."""
        with self._space() as extents:
            return _core.copy_in(self.pool.mapping, extents, self.threads)

    def open_s(self) -> float:
        """To open them in cache."""
        return _core.open_in_cache(self.key.core, self.lengths_bytes, self.threads)

    def copy_out_s(self) -> float:
        """To copy them from the pool."""
        with self._space() as extents:
            return _core.copy_out(self.pool.mapping, extents, self.threads)

    @contextmanager
    def _space(self) -> Iterator[list[Extent]]:
        reserved = self.pool.reserve()
        try:
            yield reserved.more(self.lengths_bytes)
        finally:
            reserved.abandon()
