"""Draining beside a running job: a thread of its own, and what it needs from whoever saves."""

from __future__ import annotations

import os
import threading

from plinius.errors import PliniusError
from plinius.mirror.ciphertext import Ciphertext, newest_generation, still_there
from plinius.mirror.drained import Drained
from plinius.mirror.draining import drain_generation
from plinius.mirror.farend import far_end
from plinius.mirror.moment import Moment
from plinius.pool import OpenPool


class Drainer:
    """Drains the newest generation of a mirror whenever one is offered, one at a time, while training goes on.

    Whoever saves into the mirror commits inside of `still`, and lets the new entry own all extents of the generation
    that is being drained::

        with drainer.still:
            pinned = drainer.pinned
            extents = [*its_own, *(pinned.extents if pinned else ())]  # each once
            reserved.commit(name, meta, extents)
        drainer.offer()

    A process that ends without `close` still finishes what was offered.

    Args:
        pool: Stays open until `close` has returned.
        name: The mirror's name.
        url: A folder, which is made when it is needed, or a URL that fsspec knows.

    Attributes:
        still: Begins no drain as long as somebody has it, so that what is pinned at first is all that is pinned at the
            end. A bare lock: an interrupt could leave what a ``with`` of Python's own had taken.

    Raises:
        ConfigError: The URL cannot be used.
    """

    def __init__(self, pool: OpenPool, name: str, url: str | os.PathLike[str]) -> None:
        self._pool, self._name, self._far = pool, name, far_end(url)
        self._process = os.getpid()
        self.still = threading.RLock()  # a signal handler may save in the midst of a save
        # No Condition: its `with` is Python's, and an interrupt in there would leave it locked.
        self._changing = threading.RLock()
        self._offered = self._closed = False
        self._end: Moment | None = None  # of the thread that drains; None: there is none
        self._pinned: Ciphertext | None = None
        self._drained: Drained | None = None
        self._failure: BaseException | None = None

    @property
    def pinned(self) -> Ciphertext | None:
        """The generation that is being drained: its extents must stay as they are."""
        return self._pinned

    @property
    def drained(self) -> Drained | None:
        """What is whole at the far end since this drainer began; None as long as nothing is."""
        return self._drained

    def offer(self) -> None:
        """Says that there is a generation to drain, and returns at once.

        While an older one is being drained, the offer waits; then the generation is drained that is the newest by then.

        Raises:
            PliniusError: An earlier drain failed. The offer stands all the same.
        """
        with self._changing:
            if self._closed:
                raise PliniusError(f"{self._far.name}: this drainer is closed")
            self._offered = True
            if self._end is None:
                end = Moment()
                # Not a daemon: an interpreter that ends waits for it, and the last generation gets there.
                threading.Thread(target=self._run, args=(end,), name="plinius-drainer").start()
                self._end = end  # not before: whoever waits in a signal handler would wait for no thread
        self._raise_failure()

    def wait(self) -> None:
        """Waits until everything that was offered is whole at the far end; holds nothing meanwhile.

        Raises:
            PliniusError: A drain failed.
        """
        if self._process != os.getpid():
            return  # a forked child has a copy of all memory, and not the thread
        while (end := self._end) is not None:
            end.wait()
        self._raise_failure()

    def close(self) -> None:
        """Waits as `wait` does, with its errors, and takes no more offers."""
        self._closed = True
        self.wait()

    def _run(self, end: Moment) -> None:
        while self._next(end):
            try:
                self._drain()
            except BaseException as error:  # it is raised again, where somebody sees it
                self._failure = error
        end.come()

    def _next(self, end: Moment) -> bool:
        with self._changing:
            going_on, self._offered = self._offered, False
            self._end = end if going_on else None
            return going_on

    def _drain(self) -> None:
        with self.still:
            self._pinned = found = newest_generation(self._pool, self._name)
        try:
            self._drained = drain_generation(
                self._pool, self._name, found, self._far, lambda: still_there(self._pool, self._name, found)
            )
        finally:
            self._pinned = None

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
