"""A host that says something else of the pool's catalog than what is there, or commits nothing."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from inside import Command
from jobs import Job, line_of
from lying import DISTORTIONS, Enclave, Host, about_entries, distorted, entry, honest, restored
from plinius import Key, Pool
from plinius.errors import EnclaveError, IntegrityError, PliniusError, PoolCorrupt, PoolError
from plinius.wire import (
    MAX_POOL_FRAME_BYTES,
    Entry,
    FindEntry,
    FromPool,
    PoolDone,
    PoolFailed,
    Space,
    ToPool,
)
from small_training import rewrite_entry

pytestmark = pytest.mark.filterwarnings("ignore:rollback is not detected")


@settings(max_examples=60, deadline=None)
@given(DISTORTIONS)
def test_whatever_is_said_of_an_entry_nothing_wrong_is_ever_restored(how: list[tuple[str, int, int]]) -> None:
    descriptor = os.memfd_create("pool")
    try:
        host, key = Host(descriptor), Key.generate()
        Enclave(host, descriptor, key).save(1)
        host.lie = about_entries(lambda entry: Entry(entry.meta, distorted(entry.extents, how)))
        late = Enclave(host, descriptor, key)
        try:
            assert late.restore() == 1
        except PliniusError:
            assert late.zeroed()
        host.keeper.close()
    finally:
        os.close(descriptor)


# Entries that are not what the catalog has.

OTHERS: dict[str, Callable[[Entry], FromPool]] = {
    "no extents": lambda entry: Entry(entry.meta, []),
    "one extent less": lambda entry: Entry(entry.meta, entry.extents[:-1]),
    "extents without bytes": lambda entry: Entry(entry.meta, [(at, 0) for at, _ in entry.extents]),
    "nothing at nowhere": lambda entry: Entry(entry.meta, [(0, 0) for _ in entry.extents]),
    "longer extents": lambda entry: Entry(entry.meta, [(at, length + 1) for at, length in entry.extents]),
    "other extents": lambda entry: Entry(entry.meta, entry.extents[::-1]),
    "extents behind the file": lambda entry: Entry(entry.meta, [(at + (1 << 40), each) for at, each in entry.extents]),
    "extents behind all files": lambda entry: Entry(entry.meta, [((1 << 63) - 1, each) for _, each in entry.extents]),
    "endless extents": lambda entry: Entry(entry.meta, [(at, (1 << 63) - 1) for at, _ in entry.extents]),
    "no head": lambda entry: Entry(b"", entry.extents),
    "garbage": lambda entry: Entry(b"\xdd\xff\xff\xff\xff", entry.extents),
    "half a head": lambda entry: Entry((entry.meta or b"")[:100], entry.extents),
    "a head and more": lambda entry: Entry((entry.meta or b"") + b"\0", entry.extents),
    "a long head": lambda entry: Entry(bytes(MAX_POOL_FRAME_BYTES - 1000), entry.extents),
    "another answer": lambda _: PoolDone(),
    "space": lambda entry: Space(entry.extents),
    "an error": lambda _: PoolFailed("PoolCorrupt", "damaged"),
    "an error of no class": lambda _: PoolFailed("KeyboardInterrupt", "now"),
}


@pytest.mark.parametrize("distort", OTHERS.values(), ids=OTHERS.keys())
def test_another_entry_than_there_is_is_not_restored(
    host: Host, enclave: Enclave, descriptor: int, key: Key, distort: Callable[[Entry], FromPool]
) -> None:
    host.lie = about_entries(distort)
    late = Enclave(host, descriptor, key)
    with pytest.raises((IntegrityError, PoolCorrupt, EnclaveError)):
        late.restore()
    assert late.zeroed()
    with pytest.raises(PliniusError):
        late.mirror.save(1000)
    host.lie = honest
    assert restored(host, descriptor, key) == 1


def test_the_entry_of_another_mirror_is_not_restored(host: Host, enclave: Enclave, descriptor: int, key: Key) -> None:
    other = Enclave(host, descriptor, key, "other")
    other.save(7)
    found = host.keeper.answer(FindEntry("mirror/other"))
    host.lie = about_entries(lambda _: found)
    with pytest.raises(IntegrityError, match=r"^the pool: "):
        restored(host, descriptor, key)


def test_an_older_entry_is_what_there_was_or_does_not_open(
    host: Host, enclave: Enclave, descriptor: int, key: Key
) -> None:
    older = entry(host)
    enclave.save(2)
    host.lie = about_entries(lambda _: older)
    with pytest.raises(PoolError, match="was not restored here"):  # a running training notices
        enclave.save(3)
    assert restored(host, descriptor, key) == 1  # a new one is told by its anchor alone
    host.lie = honest
    enclave.save(4)  # into what the first generation had
    host.lie = about_entries(lambda _: older)
    with pytest.raises(IntegrityError, match=r"^the pool: "):
        restored(host, descriptor, key)


def test_an_entry_that_is_denied_once_is_not_given_up(host: Host, enclave: Enclave, descriptor: int, key: Key) -> None:
    host.lie = about_entries(lambda _: Entry(None, []))
    late = Enclave(host, descriptor, key)
    assert late.restore() is None
    host.lie = honest
    with pytest.raises(PoolError, match="was not restored here"):
        late.save(1)
    assert restored(host, descriptor, key) == 1


def test_an_entry_that_is_always_denied_begins_the_training_anew(
    host: Host, enclave: Enclave, descriptor: int, key: Key
) -> None:
    """As an empty pool in its place would: no more than that is told here without an anchor."""
    enclave.save(5)
    host.lie = about_entries(lambda _: Entry(None, []))
    late = Enclave(host, descriptor, key)
    assert late.restore() is None
    late.save(1)
    host.lie = honest
    assert restored(host, descriptor, key) == 1
    with pytest.raises(PoolError, match="was not restored here"):
        enclave.save(6)


def test_a_running_training_whose_entry_is_denied_does_not_go_on(host: Host, enclave: Enclave) -> None:
    host.lie = about_entries(lambda _: Entry(None, []))
    with pytest.raises(PoolError, match="was not restored here"):
        enclave.save(2)


def test_a_commit_that_was_not_made_is_a_rollback_and_no_more(
    host: Host, enclave: Enclave, descriptor: int, key: Key
) -> None:
    known = entry(host)

    def lie(request: ToPool, answer: FromPool) -> FromPool:
        return known if isinstance(request, FindEntry) else answer

    host.lie = lie
    enclave.save(2)  # committed in truth, and denied from now on
    with pytest.raises(PoolError, match="was not restored here"):
        enclave.save(3)
    assert restored(host, descriptor, key) == 1


@pytest.mark.timeout(60)
def test_an_entry_that_is_longer_than_a_message_does_not_leave_the_enclave_waiting(inside: Command, job: Job) -> None:
    """The host is honest here: somebody else has put that into the pool."""
    assert inside(*job.train("--steps", 1)).err == ""
    with Pool(job.pool) as pool:
        (name,) = (name for name, *_ in pool.core.entries() if name.startswith("mirror/"))
    rewrite_entry(job.pool, lambda _, extents: (bytes(MAX_POOL_FRAME_BYTES + 1), extents), name)
    line = line_of(7, inside(*job.train("--steps", 2)))
    assert line.startswith(f"{job.pool}: an entry of it cannot be read: ")
