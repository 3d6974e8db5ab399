"""Which pool an error is about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from plinius.errors import IntegrityError, PoolError


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Puts the path of a pool or a data set before the message of an error that was found in it."""
    try:
        yield
    except (PoolError, IntegrityError) as error:
        error.args = (f"{path}: {error}",)
        raise
