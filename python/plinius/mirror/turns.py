"""One call of a mirror at a time: threads take turns, a signal handler is told that it came into the midst of one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from plinius.errors import PliniusError

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Turns:
    """Whose turn it is.

    Attributes:
        lock: Whoever has it. One that its own thread may take again: what interrupts a thread must not wait for it.
        taken_by: The thread whose call is running, by its number; None: no call is.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begins in this process: a forked child has nobody's turn, whoever had it when it was forked."""
        self.taken_by: int | None = None
        self.lock, self.process = threading.RLock(), os.getpid()

    def is_in_midst(self) -> bool:
        """Whether this very thread is in the midst of a call: only a signal handler can find that."""
        return self.taken_by == threading.get_ident()


class _TakesTurns(Protocol):
    @property
    def _turns(self) -> Turns: ...


_S = TypeVar("_S", bound=_TakesTurns)


def in_turn(method: Callable[Concatenate[_S, _P], _R]) -> Callable[Concatenate[_S, _P], _R]:
    """Makes a method one that waits for its turn.

    Raises:
        PliniusError: It was called in the midst of such a call, by the same thread.
    """

    @wraps(method)
    def waiting(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        turns, here = self._turns, threading.get_ident()
        if turns.process != os.getpid():
            turns.begin()
        with turns.lock:
            if turns.taken_by is not None:
                raise PliniusError(
                    f"{method.__name__}() was called in the midst of a save, a restore or a close of the same mirror; "
                    "in a signal handler set a flag, and save in the training loop"
                )
            # No call stands between these lines and the method: an interrupt cannot leave the turn taken.
            try:
                turns.taken_by = here
                return method(self, *args, **kwargs)
            finally:
                turns.taken_by = None

    return waiting
