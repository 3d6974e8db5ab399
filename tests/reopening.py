"""A pool as it is, and as another process would find it."""

from __future__ import annotations

from collections.abc import Iterator

from plinius import Pool


def now_and_reopened(pool: Pool) -> Iterator[Pool]:
    """The pool as it is, and then once more as another process would find it."""
    yield pool
    pool.close()
    with Pool(pool.path) as again:
        yield again
