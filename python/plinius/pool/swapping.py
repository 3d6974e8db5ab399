"""The workload of `plinius bench sps`, on the public API of `crates/pm`."""

from __future__ import annotations

import os

from plinius import _pm
from plinius.limits import DEFAULT_HEAP_BYTES
from plinius.pool.paths import naming


def swaps(
    path: str | os.PathLike[str],
    *,
    array_bytes: int,
    swaps_per_transaction: int,
    seconds: float,
    flush: str,
    seed: int,
) -> tuple[int, float]:
    """Swaps random words of an array in a new pool, through the public API of `crates/pm`: for `plinius bench sps`.

    Args:
        path: The pool's file, to be created.
        array_bytes: Length of the array.
        swaps_per_transaction: How many swaps are made durable together.
        seconds: How long to swap, after a warm-up of a tenth of that.
        flush: The write-back: clwb, clflushopt, clflush or none.
        seed: Of the random places.

    Returns:
        The swaps, and the seconds that they took.

    Raises:
        PoolError: There is no room, or the system refused something.
    """
    name = os.fspath(path)
    with naming(name):
        core = _pm.Pool(path=name, heap_bytes=DEFAULT_HEAP_BYTES, flush=flush)
        try:
            return _pm.swaps(core, array_bytes, swaps_per_transaction, seconds, seed)
        finally:
            core.close()
