"""Draining beside a running job: a thread of its own, and what it needs from whoever saves."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from plinius.errors import PliniusError
from plinius.mirror.ciphertext import Ciphertext, newest_generation, still_there
from plinius.mirror.drained import Drained
from plinius.mirror.draining import drain_generation
from plinius.mirror.farend import far_end
from plinius.pool import OpenPool

# A signal handler that waits in the midst of its own thread's waiting may see the end of a drain in its place.
_LOOK_AGAIN_S: Final = 0.1


class Drainer:
    """Drains the newest generation of a mirror whenever one is offered, one at a time, while training goes on.

    Whoever saves into the mirror commits inside of `still`, and lets the new entry own all extents of the generation
    that is being drained::

        with drainer.still() as pinned:
            extents = [*its_own, *(pinned.extents if pinned else ())]  # each once
            reserved.commit(name, meta, extents)
        drainer.offer()

    A process that ends without `close` still finishes what was offered.

    Args:
        pool: Stays open until `close` has returned.
        name: The mirror's name.
        url: A folder, which is made when it is needed, or a URL that fsspec knows.

    Raises:
        ConfigError: The URL cannot be used.
    """

    def __init__(self, pool: OpenPool, name: str, url: str | os.PathLike[str]) -> None:
        self._pool, self._name, self._far = pool, name, far_end(url)
        self._process = os.getpid()
        self._beginning = threading.RLock()  # a signal handler may save in the midst of a save
        self._changed = threading.Condition()
        self._offered = self._running = self._closed = False
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

    @contextmanager
    def still(self) -> Iterator[Ciphertext | None]:
        """Begins no drain inside the block, so that what is pinned at its start is all that is pinned at its end."""
        with self._beginning:
            yield self._pinned

    def offer(self) -> None:
        """Says that there is a generation to drain, and returns at once.

        While an older one is being drained, the offer waits; then the generation is drained that is the newest by then.

        Raises:
            PliniusError: An earlier drain failed. The offer stands all the same.
        """
        with self._changed:
            if self._closed:
                raise PliniusError(f"{self._far.name}: this drainer is closed")
            self._offered = True
            if not self._running:
                # Not a daemon: an interpreter that ends waits for it, and the last generation gets there.
                threading.Thread(target=self._run, name="plinius-drainer").start()
                self._running = True  # not before: whoever waits in a signal handler would wait for no thread
            self._raise_failure()

    def wait(self) -> None:
        """Waits until everything that was offered is whole at the far end.

        Raises:
            PliniusError: A drain failed.
        """
        if self._process != os.getpid():
            return  # a forked child has a copy of all memory, and not the thread
        with self._changed:
            while self._running:
                self._changed.wait(_LOOK_AGAIN_S)
            self._raise_failure()

    def close(self) -> None:
        """Waits as `wait` does, with its errors, and takes no more offers."""
        with self._changed:
            self._closed = True
        self.wait()

    def _run(self) -> None:
        while self._next():
            try:
                self._drain()
            except BaseException as error:  # it is raised again, where somebody sees it
                with self._changed:
                    self._failure = error

    def _next(self) -> bool:
        with self._changed:
            self._running, self._offered = self._offered, False
            self._changed.notify_all()
            return self._running

    def _drain(self) -> None:
        with self._beginning:
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
