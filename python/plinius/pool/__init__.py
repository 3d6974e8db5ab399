"""The pool: named arrays that survive a crash, and the ground that mirrors and data sets stand on.

Only this package, ``seal``, ``mirror``, ``dataset`` and ``enclave.sandbox`` import the core. ``docs/pool.md`` is the
guide. Names are loaded when they are first used: the trusted process needs an open pool (`PoolFile`), and loads none of
what reads and writes values in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plinius.lazily import loading

if TYPE_CHECKING:
    from plinius._core import Medium as Medium
    from plinius.pool.arrays import PersistentArray as PersistentArray
    from plinius.pool.lists import PersistentList as PersistentList
    from plinius.pool.opened import DEFAULT_HEAP_BYTES as DEFAULT_HEAP_BYTES
    from plinius.pool.opened import PoolFile as PoolFile
    from plinius.pool.outside import Entry as Entry
    from plinius.pool.outside import PoolStatus as PoolStatus
    from plinius.pool.outside import cpu_write_back as cpu_write_back
    from plinius.pool.outside import look_at as look_at
    from plinius.pool.outside import medium_at as medium_at
    from plinius.pool.outside import status as status
    from plinius.pool.paths import naming as naming
    from plinius.pool.pooling import Pool as Pool
    from plinius.pool.pooling import PoolStats as PoolStats
    from plinius.pool.swapping import swaps as swaps
    from plinius.pool.transaction import Transaction as Transaction

_HOME = {
    "DEFAULT_HEAP_BYTES": "opened",
    "Entry": "outside",
    "Medium": "opened",
    "PersistentArray": "arrays",
    "PersistentList": "lists",
    "Pool": "pooling",
    "PoolFile": "opened",
    "PoolStats": "pooling",
    "PoolStatus": "outside",
    "Transaction": "transaction",
    "cpu_write_back": "outside",
    "look_at": "outside",
    "medium_at": "outside",
    "naming": "paths",
    "status": "outside",
    "swaps": "swapping",
}

__all__ = sorted(_HOME)  # noqa: PLE0605 (sorted returns a list)
__getattr__ = loading(__name__, _HOME)
