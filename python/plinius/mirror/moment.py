"""Waiting for the end of something in another thread, in such a way that a signal handler may wait too."""

from __future__ import annotations

import threading


class Moment:
    """Comes once, and is waited for; also by a signal handler in the midst of its own thread's waiting for it.

    A `threading.Event` does not let it: the interrupted thread may hold the lock that the handler's waiting needs.
    """

    def __init__(self) -> None:
        self.has_come = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def come(self) -> None:
        """It is now, or was before."""
        if not self.has_come:
            self.has_come = True
            self._lock.release()

    def wait(self) -> None:
        """Waits until it has come. Whoever holds the lock here has seen that, and nobody waits for it any more."""
        while not self.has_come:
            with self._lock:  # no interrupt comes between its two ends
                pass
