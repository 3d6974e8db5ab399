"""Draining: the newest generation of a mirror to a place outside the pool, and back, as ciphertext.

A place holds the last two generations of a mirror, each in a file that appears whole. Nothing here needs a key.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Final

from plinius.errors import IntegrityError, PoolError, PoolVersion
from plinius.mirror.ciphertext import CHUNK_BYTES, Ciphertext, Filling, newest_generation, read_chunks
from plinius.mirror.drained import Drained, DrainedReader, files_of, preamble
from plinius.mirror.farend import FarEnd, far_end
from plinius.mirror.moving import refuse_existing
from plinius.pool import OpenPool

KEPT: Final = 2


def drain(pool: OpenPool, name: str, url: str | os.PathLike[str]) -> Drained:
    """Copies the newest generation of a mirror to a place; it is whole there when this returns.

    Args:
        pool: Nobody may save into the mirror meanwhile; a `Drainer` works beside a running job.
        name: The mirror's name.
        url: A folder, which is made when there is none, or a URL that fsspec knows.

    Returns:
        What was drained, or was there already.

    Raises:
        PoolError: The pool has no such mirror, or it was saved meanwhile; the place holds another job's generations,
            or newer ones; or the place cannot be written.
        ConfigError: The URL cannot be used.
    """
    found = newest_generation(pool, name)
    return drain_generation(pool, name, found, far_end(url), lambda: newest_generation(pool, name) == found)


def newest_drained(url: str | os.PathLike[str], name: str) -> Drained | None:
    """The newest generation of a mirror that a place holds, as its name tells it; None when it holds none.

    Raises:
        PoolError: The place cannot be read, or holds generations of several jobs.
        ConfigError: The URL cannot be used.
    """
    drained, _ = _there(far_end(url), name)
    return drained[-1] if drained else None


def fetch(url: str | os.PathLike[str], pool: OpenPool, name: str) -> Drained:
    """Fills a pool with the newest generation that a place holds of a mirror; it is durable when this returns.

    Whether its bytes are genuine is for the restore to say: it finds every changed one. How long the file is says its
    keeper: open the pool with ``max_bytes`` where that must have a bound.

    Raises:
        IntegrityError: The newest file was changed or cut. No other one is taken in its place.
        PoolError: The place holds none, or cannot be read; or the pool has such a mirror already.
        PoolVersion: The file has a format that this release does not read.
        PoolFull: The pool has no room.
        ConfigError: The URL cannot be used.
    """
    refuse_existing(pool, name)
    far = far_end(url)
    drained, _ = _there(far, name)
    if not drained:
        raise PoolError(f"{far.name}: there is no drained generation of a mirror {name!r}")
    newest = drained[-1]
    with far.open(newest.file) as (file, size):
        reader = DrainedReader(file, size, newest)
        with Filling(pool, reader.lengths) as filling:
            for index, length in enumerate(reader.lengths):
                for place in range(0, length, CHUNK_BYTES):
                    filling.write(index, place, reader.take(min(CHUNK_BYTES, length - place)))
            reader.finish()
            refuse_existing(pool, name)
            filling.commit(name, reader.head)
    return newest


def drain_generation(
    pool: OpenPool, name: str, found: Ciphertext, far: FarEnd, is_unchanged: Callable[[], bool]
) -> Drained:
    """Drains one generation; `drain` has the errors.

    Args:
        pool: The pool.
        name: The mirror's name.
        found: The generation.
        far: Where it goes to.
        is_unchanged: Says after the last byte was read whether all that was read was the generation's.
    """
    drained = Drained.of(name, found.head)
    there, partial = _there(far, name)
    _refuse_older(far, there, drained)
    if drained not in there or not _holds(far, drained, found):
        with far.create(drained.file) as file:
            start = preamble(found)
            hashed = hashlib.sha256(start)
            file.write(start)
            for extent in found.extents:
                for chunk in read_chunks(pool, extent):
                    hashed.update(chunk)
                    file.write(chunk)
            file.write(hashed.digest())
            if not is_unchanged():
                raise PoolError(f"{pool.path}: the mirror {name!r} was saved while it was drained; try again")
    older = [one.file for one in there if one != drained]
    for leftover in [*older[: 1 - KEPT], *partial]:
        far.remove(leftover)
    return drained


def _there(far: FarEnd, name: str) -> tuple[list[Drained], list[str]]:
    drained, partial = files_of(name, far.files())
    if len({one.job_id for one in drained}) > 1:
        raise PoolError(
            f"{far.name}: there are generations of several jobs of the mirror {name!r}; move those of all but one away"
        )
    return drained, partial


def _refuse_older(far: FarEnd, there: list[Drained], drained: Drained) -> None:
    if not there:
        return
    if there[-1].job_id != drained.job_id:
        raise PoolError(
            f"{far.name}: there are generations of another job of the mirror {drained.name!r}; drain to another place, "
            "or move them away"
        )
    if there[-1] > drained:
        raise PoolError(
            f"{far.name}: there is a newer generation (version {there[-1].version}, step {there[-1].step}) than the "
            f"pool's (version {drained.version}, step {drained.step}); drain to another place, or move it away"
        )


def _holds(far: FarEnd, drained: Drained, found: Ciphertext) -> bool:
    """Whether a file is this very generation; a damaged one is written again.

    Raises:
        PoolError: It is another generation of the same version and step.
    """
    try:
        with far.open(drained.file) as (file, size):
            head = DrainedReader(file, size, drained).head
    except (IntegrityError, PoolVersion):
        return False
    if head == found.head:
        return True
    raise PoolError(
        f"{far.name}: version {drained.version} there is not the pool's: the job went on from an older pool; drain to "
        "another place, or move it away"
    )
