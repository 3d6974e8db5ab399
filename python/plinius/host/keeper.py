"""The pool, as the host has it open for an enclave: it finds entries, takes space, and commits.

What the enclave stores there is ciphertext, and what is said of it here are names, lengths and public heads.
"""

from __future__ import annotations

from contextlib import suppress

from plinius import _pm
from plinius.errors import EnclaveError, PliniusError, PoolError
from plinius.limits import DEFAULT_HEAP_BYTES
from plinius.wire import (
    AbandonSpace,
    Channel,
    CommitEntry,
    Entry,
    FindEntry,
    FromPool,
    PoolDone,
    PoolFailed,
    PoolRequest,
    Space,
    TakeSpace,
    ToPool,
)


class Keeper:
    """Keeps a pool for one enclave. The file is opened, or made a pool, when the enclave asks for it.

    Args:
        descriptor: The pool's file, for reading and writing; it stays the caller's.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pool: _pm.Pool | None = None
        self._reserved: _pm.Reservation | None = None

    def serve(self, channel: Channel) -> bool:
        """Answers one request of the enclave, or nothing: it has closed, and is or will be gone."""
        request = channel.receive(ToPool)
        if not isinstance(request, ToPool):
            return False
        answer = self.answer(request)
        with suppress(EnclaveError):  # an enclave that is gone is seen on its other channel
            try:
                channel.send(answer)
            except EnclaveError as error:  # too long: whoever can change the pool can make an entry so
                reason = f"an entry of it cannot be read: {error}; restore the pool from a copy"
                channel.send(PoolFailed("PoolCorrupt", reason))
        return True

    def answer(self, request: ToPool) -> FromPool:
        """Does what the enclave asks for; an error is its answer."""
        try:
            return self._answer(request)
        except (PliniusError, OSError, OverflowError, RuntimeError) as error:
            kind = type(error).__name__ if isinstance(error, PliniusError) else "PoolError"
            return PoolFailed(kind, str(error))

    def close(self) -> None:
        """Takes back what was not committed, and closes the pool. The enclave must be gone: it could still store."""
        self._give_back()
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _answer(self, request: ToPool) -> FromPool:
        if isinstance(request, PoolRequest):
            self._pool = self._pool or _pm.Pool(fd=self._descriptor, heap_bytes=DEFAULT_HEAP_BYTES)
            return PoolDone()
        if self._pool is None:
            raise PoolError("nobody has asked for the pool yet")
        match request:
            case FindEntry(name=name):
                found = self._pool.entry(name)
                return Entry(*found[1:]) if found else Entry(None, [])
            case TakeSpace(lengths=lengths):
                if self._reserved is None:
                    self._reserved = self._pool.reserve()
                return Space(self._reserved.more(lengths))
            case CommitEntry(name=name, meta=meta, extents=extents):
                reserved, self._reserved = self._reserved or self._pool.reserve(), None
                reserved.commit(name, meta, extents)
                return PoolDone()
            case AbandonSpace():
                self._give_back()
                return PoolDone()

    def _give_back(self) -> None:
        reserved, self._reserved = self._reserved, None
        if reserved is not None:
            reserved.abandon()
