"""A host's side of a pool, for tests that are the enclave themselves."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from plinius.host.keeper import Keeper
from plinius.wire import MAX_POOL_FRAME_BYTES, Channel


@contextmanager
def kept(descriptor: int) -> Iterator[socket.socket]:
    """Keeps the pool behind a descriptor; what is yielded is the enclave's end of the channel.

    The pool is closed when the block has ended.
    """
    ours, theirs = socket.socketpair()
    keeper = Keeper(descriptor)

    def serve() -> None:
        channel = Channel(ours, MAX_POOL_FRAME_BYTES)
        while keeper.serve(channel):
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with theirs:
            yield theirs
    finally:
        ours.shutdown(socket.SHUT_RD)
        thread.join()
        keeper.close()
        ours.close()
