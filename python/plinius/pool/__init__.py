"""The pool: named arrays that survive a crash, and the ground that mirrors and data sets stand on.

Only this package, ``seal``, ``mirror``, ``dataset`` and ``enclave.sandbox`` import the core. ``docs/pool.md`` is the
guide.
"""

from plinius._core import Medium
from plinius.pool.arrays import PersistentArray
from plinius.pool.lists import PersistentList
from plinius.pool.outside import Entry, PoolStatus, cpu_write_back, look_at, medium_at, status
from plinius.pool.paths import naming
from plinius.pool.pooling import DEFAULT_HEAP_BYTES, Pool, PoolStats
from plinius.pool.swaps import swaps
from plinius.pool.transaction import Transaction

__all__ = [
    "DEFAULT_HEAP_BYTES",
    "Entry",
    "Medium",
    "PersistentArray",
    "PersistentList",
    "Pool",
    "PoolStats",
    "PoolStatus",
    "Transaction",
    "cpu_write_back",
    "look_at",
    "medium_at",
    "naming",
    "status",
    "swaps",
]
