"""The pool: named arrays that survive a crash, and the ground that mirrors and data sets stand on.

A pool is `plinius._pm`'s, which knows no keys; the core is loaded when a mirror or a data set maps the file.
``docs/pool.md`` is the guide. Names are loaded when they are first used: the trusted process needs a pool that somebody
else has open (`PoolFile`), and loads nothing of what opens one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plinius.lazily import loading

if TYPE_CHECKING:
    from plinius.pool.arrays import PersistentArray as PersistentArray
    from plinius.pool.bulk import Extent as Extent
    from plinius.pool.bulk import PoolFile as PoolFile
    from plinius.pool.bulk import Reservation as Reservation
    from plinius.pool.lists import PersistentList as PersistentList
    from plinius.pool.opened import OpenPool as OpenPool
    from plinius.pool.outside import Entry as Entry
    from plinius.pool.outside import PoolStatus as PoolStatus
    from plinius.pool.outside import cpu_write_back as cpu_write_back
    from plinius.pool.outside import medium_at as medium_at
    from plinius.pool.outside import status as status
    from plinius.pool.paths import naming as naming
    from plinius.pool.pooling import Pool as Pool
    from plinius.pool.pooling import PoolStats as PoolStats
    from plinius.pool.swapping import swaps as swaps
    from plinius.pool.transaction import Transaction as Transaction

_HOME = {
    "Entry": "outside",
    "Extent": "bulk",
    "OpenPool": "opened",
    "PersistentArray": "arrays",
    "PersistentList": "lists",
    "Pool": "pooling",
    "PoolFile": "bulk",
    "PoolStats": "pooling",
    "PoolStatus": "outside",
    "Reservation": "bulk",
    "Transaction": "transaction",
    "cpu_write_back": "outside",
    "medium_at": "outside",
    "naming": "paths",
    "status": "outside",
    "swaps": "swapping",
}

__all__ = sorted(_HOME)  # noqa: PLE0605 (sorted returns a list)
__getattr__ = loading(__name__, _HOME)
