"""What the values of one transaction share: its hold on the pool, and what of theirs may still be touched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from plinius import _pm
from plinius.errors import PoolError
from plinius.pool.paths import naming


class Changes:
    """The changes of one transaction."""

    def __init__(self, begun: _pm.Transaction, path: str) -> None:
        self.path = path
        self._core = begun
        self._tokens: dict[int, object] = {}

    @contextmanager
    def core(self) -> Iterator[_pm.Transaction]:
        """The transaction of `_pm`, for reading and for `whole_change`.

        Raises:
            PoolError: The pool cannot do what was done with it; the message names the pool.
        """
        with naming(self.path):
            yield self._core

    @contextmanager
    def whole_change(self) -> Iterator[None]:
        """Holds a change of several stores together: when one of them fails, nothing of the transaction remains."""
        try:
            yield
        except BaseException:
            self._core.fail()
            raise

    def token(self, block: int) -> object:
        """What stands for a block until it is freed: its place may be somebody else's afterwards."""
        return self._tokens.setdefault(block, object())

    def check(self, block: int, token: object) -> None:
        """Refuses what was freed.

        Raises:
            PoolError: The token is not the block's any more.
        """
        if self._tokens.get(block) is not token:
            raise PoolError("this array was replaced or deleted in its transaction; look it up again")

    def free(self, core: _pm.Transaction, block: int) -> None:
        """Gives a block back."""
        self._tokens.pop(block, None)
        core.free(block)
