"""The pool as the enclave has it: its file is mapped here, and the host says where things lie in it.

The host is not believed: what it names is opened by its tag or refused, and what it owns it can lose and damage anyway.
In return nothing of the pool's structure is parsed here: no superblock, no catalog, no recovery.

This module imports the core itself, for the mapping, as `sandbox` does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeAlias, TypeVar

from plinius._core import Mapping, Medium
from plinius.errors import EnclaveError, PliniusError, PoolError, named
from plinius.pool import Extent, PoolFile, naming
from plinius.wire import (
    AbandonSpace,
    Channel,
    CommitEntry,
    Entry,
    FindEntry,
    FromPool,
    Message,
    PoolDone,
    PoolFailed,
    PoolRequest,
    Space,
    TakeSpace,
    ToPool,
)

_M = TypeVar("_M", bound=Message)
Host: TypeAlias = Callable[[ToPool], FromPool]
"""Whoever has the pool, and answers what is asked about it."""


def host_at(channel: Channel) -> Host:
    """The host at the other end of a channel, which is for the pool alone."""
    turn = threading.Lock()

    def ask(request: ToPool) -> FromPool:
        with turn:
            channel.send(request)
            answer = channel.receive(FromPool)
        if not isinstance(answer, FromPool):
            raise EnclaveError("the host is gone")
        return answer

    return ask


class HostedPool(PoolFile):
    """A pool that somebody else has open, and closes when this process is gone.

    Args:
        host: Who has it.
        descriptor: The pool's file.
        name: What error messages call the pool.
        medium: What the file lies on, as `look_at` saw it.

    Raises:
        PoolError: The host cannot open it, it cannot be mapped, or another process stores into it.
    """

    def __init__(self, host: Host, descriptor: int, name: str, medium: Medium) -> None:
        self.path, self._host = name, host
        with naming(name):
            self.ask(PoolRequest(), PoolDone)
            self._mapping = Mapping.on(medium, descriptor)

    @property
    def mapping(self) -> Mapping:
        """The file: bulk bytes are stored and read through this."""
        return self._mapping

    def close(self) -> None:
        """Unmaps it."""
        self._mapping.close()

    def find(self, name: str) -> tuple[bytes, list[Extent]] | None:
        """An entry of the catalog, as the host says: its public bytes and its extents."""
        found = self.ask(FindEntry(name), Entry)
        return None if found.meta is None else (found.meta, found.extents)

    def reserve(self) -> HostedSpace:
        """Begins to take free extents."""
        return HostedSpace(self)

    def ask(self, request: ToPool, expected: type[_M]) -> _M:
        """Asks the host.

        Raises:
            PoolError: The host could not do it.
            EnclaveError: It is gone, or answered another question.
        """
        answer = self._host(request)
        if isinstance(answer, PoolFailed):
            error = named(answer.error, answer.reason)
            raise error if isinstance(error, PoolError) else EnclaveError(answer.reason)
        if not isinstance(answer, expected):
            raise EnclaveError("the host answered another question")
        return answer


class HostedSpace:
    """Free extents that the host has taken."""

    def __init__(self, pool: HostedPool) -> None:
        self._pool = pool

    def more(self, lengths: Sequence[int], /) -> list[Extent]:
        """Takes further ones, one for each length; that they are inside the pool, the core makes sure."""
        extents = self._pool.ask(TakeSpace(list(lengths)), Space).extents if lengths else []
        if [length for _, length in extents] != list(lengths):
            raise EnclaveError("the host gave other space than it was asked for")
        return extents

    def commit(self, name: str, meta: bytes, extents: Sequence[Extent], /) -> None:
        """Has the host put an entry into the catalog."""
        self._pool.ask(CommitEntry(name, meta, list(extents)), PoolDone)

    def abandon(self) -> None:
        """Has the host take all of it back; one that cannot has an enclave that ends."""
        with suppress(PliniusError):
            self._pool.ask(AbandonSpace(), PoolDone)


def look_at(descriptor: int, name: str) -> Medium:
    """What lies under the file behind a descriptor, for a `HostedPool`, once this process can look no more.

    Args:
        descriptor: Stays open and stays the caller's.
        name: What error messages call the file.

    Raises:
        PoolError: The system refused to look.
    """
    with naming(name):
        return Medium.of(descriptor)
