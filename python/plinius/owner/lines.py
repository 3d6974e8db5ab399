"""The broker's open connections: there is room for so many, and whoever has been silent for longest makes room."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Lines:
    """Counts connections, and cuts off a silent one where another needs its place.

    So nobody shuts others out by holding connections open; a host whose line was cut connects again when it has
    something to say. One whose request is being answered is never cut.

    Args:
        most: How many there may be.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._silent: dict[socket.socket, None] = {}  # in the order in which they fell silent
        self._answered = 0

    def admit(self, connection: socket.socket) -> socket.socket | None:
        """Counts a new connection.

        Returns:
            The line, which the caller gives back with `leave`; None: all others are being answered.
        """
        with self._lock:
            if len(self._silent) + self._answered >= self._most:
                if not self._silent:
                    return None
                self._cut(next(iter(self._silent)))
            line = connection.dup()  # TLS takes the connection itself into an object of its own
            self._silent[line] = None
            return line

    @contextmanager
    def answering(self, line: socket.socket) -> Iterator[None]:
        """Keeps a line while its request is being answered; then it is the last one that is cut."""
        with self._lock:
            self._silent.pop(line, None)
            self._answered += 1
        try:
            yield
        finally:
            with self._lock:
                self._answered -= 1
                self._silent[line] = None

    def leave(self, line: socket.socket) -> None:
        """Forgets a line."""
        with self._lock:
            self._silent.pop(line, None)
            line.close()

    def _cut(self, line: socket.socket) -> None:
        del self._silent[line]
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for it
