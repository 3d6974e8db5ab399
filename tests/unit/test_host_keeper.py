"""A pool that the host has open and the enclave maps: what one of them does, the other and the next opener find."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hosting import kept
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plinius import Key, Mirror, Pool
from plinius.enclave.hosted import HostedPool, host_at, look_at
from plinius.errors import EnclaveError, PliniusError, PoolBusy, PoolCorrupt, PoolError, PoolFull
from plinius.host.keeper import Keeper
from plinius.mirror.manifest import MAX_HEAD_BYTES
from plinius.wire import (
    MAX_POOL_FRAME_BYTES,
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
    parse,
)
from small_training import read_at

PAGE = 4096


@pytest.fixture
def keeper(descriptor: int) -> Iterator[Keeper]:
    made = Keeper(descriptor)
    yield made
    made.close()


def mapped(host: Callable[[ToPool], FromPool], descriptor: int) -> HostedPool:
    return HostedPool(host, descriptor, "the pool", look_at(descriptor, "the pool"))


@pytest.fixture
def pool(keeper: Keeper, descriptor: int) -> HostedPool:
    """The pool as the enclave has it."""
    return mapped(keeper.answer, descriptor)


def stored(pool: HostedPool, name: str, *contents: bytes) -> list[tuple[int, int]]:
    """Stores an entry, and returns where it lies."""
    reserved = pool.reserve()
    extents = reserved.more([len(content) for content in contents])
    for extent, content in zip(extents, contents, strict=True):
        pool.mapping.write(extent, 0, content)
    reserved.commit(name, b"meta of " + name.encode(), extents)
    return extents


def free_bytes(path: Path) -> int:
    with Pool(path) as pool:
        return pool.free_bytes


def test_an_entry_is_found_by_who_mapped_the_pool_and_by_its_next_opener(
    keeper: Keeper, pool: HostedPool, path: Path
) -> None:
    assert pool.find("one") is None
    assert pool.meta("one") is None
    extents = stored(pool, "one", b"a" * 5000, b"b")
    assert pool.find("one") == (b"meta of one", extents)
    keeper.close()
    with Pool(path) as opened:
        assert opened.find("one") == (b"meta of one", extents)
    assert [read_at(path, *extent) for extent in extents] == [b"a" * 5000, b"b"]


def test_the_same_over_a_channel(path: Path, descriptor: int) -> None:
    with kept(descriptor) as end:
        pool = mapped(host_at(Channel(end, MAX_POOL_FRAME_BYTES)), descriptor)
        extents = stored(pool, "one", b"content")
        assert pool.find("one") == (b"meta of one", extents)
        assert pool.find("two") is None
        with pytest.raises(PoolError, match="does not belong to the entry"):
            pool.reserve().commit("two", b"", extents)
    with Pool(path) as opened:
        assert [entry[0] for entry in opened.core.entries()] == ["one"]
    assert read_at(path, *extents[0]) == b"content"


@pytest.mark.filterwarnings("ignore:rollback is not detected")
def test_a_mirror_is_saved_there_and_restored_by_the_pools_next_opener(
    keeper: Keeper, pool: HostedPool, path: Path
) -> None:
    key, array = Key.generate(), np.arange(3000)
    Mirror(pool, key, name="m", array=array).save(1)
    array[:] = 0
    assert Mirror(pool, key, name="m", array=array).restore() == 1
    assert array.tolist() == list(range(3000))
    keeper.close()
    with Pool(path) as opened:
        array[:] = 0
        assert Mirror(opened, key, name="m", array=array).restore() == 1
        assert array.tolist() == list(range(3000))


def test_a_file_becomes_a_pool_when_that_is_asked_for_and_not_before(path: Path, descriptor: int) -> None:
    keeper = Keeper(descriptor)
    keeper.close()
    assert path.stat().st_size == 0
    assert keeper.answer(PoolRequest()) == PoolDone()
    assert path.stat().st_size > 0
    keeper.close()
    with Pool(path) as pool:
        assert pool.core.entries() == []


# Space.


def test_space_that_is_taken_in_several_goes_is_committed_together(keeper: Keeper, pool: HostedPool) -> None:
    reserved = pool.reserve()
    extents = [*reserved.more([100, 200]), *reserved.more([]), *reserved.more([300])]
    assert [length for _, length in extents] == [100, 200, 300]
    assert len({offset for offset, _ in extents}) == 3
    reserved.commit("one", b"", extents)
    assert pool.find("one") == (b"", extents)


def test_what_is_not_all_that_was_taken_is_not_committed(pool: HostedPool) -> None:
    reserved = pool.reserve()
    extents = reserved.more([100, 200])
    with pytest.raises(PoolError, match="which does not own it"):
        reserved.commit("one", b"", extents[:1])
    assert pool.find("one") is None


@pytest.mark.parametrize("foreign", [(0, PAGE), (1 << 40, PAGE), (1 << 62, 1), ((1 << 63) - 1, (1 << 63) - 1)])
def test_what_was_not_taken_is_not_committed(keeper: Keeper, pool: HostedPool, foreign: tuple[int, int]) -> None:
    answer = keeper.answer(CommitEntry("one", b"", [foreign]))
    assert isinstance(answer, PoolFailed)
    assert answer.error == "PoolError"
    with pytest.raises(PoolError, match="does not belong to the entry"):
        pool.reserve().commit("one", b"", [foreign])
    assert pool.find("one") is None


def test_what_another_entry_owns_is_not_committed(pool: HostedPool, path: Path) -> None:
    extents = stored(pool, "one", b"content")
    with pytest.raises(PoolError, match="does not belong to the entry"):
        pool.reserve().commit("two", b"", extents)
    assert pool.find("two") is None
    assert read_at(path, *extents[0]) == b"content"


def test_space_of_a_commit_that_failed_is_free_again(keeper: Keeper, pool: HostedPool, path: Path) -> None:
    stored(pool, "one", bytes(PAGE))
    before = of_open_pool(keeper)
    reserved = pool.reserve()
    reserved.more([100])
    with pytest.raises(PoolError):
        reserved.commit("one", b"", [(0, PAGE)])
    assert of_open_pool(keeper) == before


def of_open_pool(keeper: Keeper) -> int:
    assert keeper._pool is not None
    return keeper._pool.bytes[1]


def test_space_that_is_abandoned_is_free_again(keeper: Keeper, pool: HostedPool) -> None:
    stored(pool, "one", bytes(PAGE))
    reserved = pool.reserve()
    first = reserved.more([100_000])
    reserved.abandon()
    before = of_open_pool(keeper)
    assert reserved.more([100_000]) == first
    assert of_open_pool(keeper) < before
    reserved.abandon()
    assert of_open_pool(keeper) == before


def test_space_that_a_dead_enclave_had_taken_is_free_again(keeper: Keeper, pool: HostedPool, path: Path) -> None:
    extents = stored(pool, "one", bytes(PAGE))
    reserved = pool.reserve()
    reserved.more([1 << 20])
    reserved.abandon()
    before = of_open_pool(keeper)
    reserved.more([1 << 20, 5])
    assert of_open_pool(keeper) < before
    core = keeper._pool  # a traceback may keep it for longer
    keeper.close()  # and nobody told it of the space
    assert core is not None
    assert core.closed
    assert free_bytes(path) == before
    with Pool(path) as opened:
        assert opened.find("one") == (b"meta of one", extents)


def test_what_a_dead_enclave_had_taken_is_not_the_next_ones(keeper: Keeper, pool: HostedPool) -> None:
    """A commit owns all that was taken since the last one: what is left over would make it fail."""
    pool.reserve().more([1000])
    keeper.close()
    assert keeper.answer(PoolRequest()) == PoolDone()
    stored(pool, "one", b"content")
    assert pool.find("one") is not None


def test_a_pool_that_has_grown_since_it_was_mapped_is_written_and_read(pool: HostedPool, path: Path) -> None:
    mapped_bytes = path.stat().st_size
    content = os.urandom(4 * mapped_bytes)
    (extent,) = stored(pool, "large", content)
    assert path.stat().st_size > 4 * mapped_bytes
    assert read_at(path, *extent) == content


@pytest.mark.filterwarnings("ignore:rollback is not detected")
def test_a_pool_that_has_grown_since_another_one_mapped_it_is_read(
    keeper: Keeper, pool: HostedPool, path: Path, descriptor: int
) -> None:
    late = mapped(keeper.answer, descriptor)
    mapped_bytes = path.stat().st_size
    key, array = Key.generate(), np.arange(mapped_bytes)
    Mirror(pool, key, name="m", array=array).save(1)
    array[:] = 0
    assert Mirror(late, key, name="m", array=array).restore() == 1
    assert (array == np.arange(mapped_bytes)).all()


def test_the_longest_head_goes_through_the_channel(descriptor: int) -> None:
    meta, lengths = bytes(MAX_HEAD_BYTES), [1] * 1000
    with kept(descriptor) as end:
        pool = mapped(host_at(Channel(end, MAX_POOL_FRAME_BYTES)), descriptor)
        reserved = pool.reserve()
        extents = reserved.more(lengths)
        reserved.commit("one", meta, extents)
        assert pool.find("one") == (meta, extents)


# What the host cannot do.


@pytest.mark.parametrize("length", [1 << 50, (1 << 63) - 1])
def test_more_space_than_there_is(keeper: Keeper, pool: HostedPool, path: Path, length: int) -> None:
    before = path.stat().st_size
    with pytest.raises(PoolFull):
        pool.reserve().more([length])
    with pytest.raises(PoolFull):
        pool.reserve().more([length, length, 1])
    assert path.stat().st_size == before
    stored(pool, "one", b"content")  # it goes on


def test_a_pool_that_is_open_elsewhere(path: Path, descriptor: int) -> None:
    code = "import sys; from plinius import Pool; pool = Pool(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-I", "-c", code, path], stdin=-1, stdout=-1, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "open\n"
            with pytest.raises(PoolBusy, match=f"^the pool: .* process {other.pid}"):
                mapped(Keeper(descriptor).answer, descriptor)
        finally:
            other.kill()


def test_a_busy_pool_is_asked_for_again(path: Path, descriptor: int) -> None:
    keeper = Keeper(descriptor)
    with Pool(path):
        answer = keeper.answer(PoolRequest())
        assert isinstance(answer, PoolFailed)
        assert answer.error == "PoolBusy"
    assert keeper.answer(PoolRequest()) == PoolDone()
    keeper.close()


@pytest.mark.parametrize("content", [b"x" * 100, b"x" * 3 * PAGE])
def test_a_file_that_is_no_pool_stays_as_it_is(path: Path, descriptor: int, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(PoolCorrupt, match=r"^the pool: "):
        mapped(Keeper(descriptor).answer, descriptor)
    assert path.read_bytes() == content


def test_a_damaged_pool(keeper: Keeper, pool: HostedPool, path: Path, descriptor: int) -> None:
    stored(pool, "one", b"content")
    keeper.close()
    os.pwrite(descriptor, b"\xff" * 64, 64)
    os.pwrite(descriptor, b"\xff" * 64, PAGE + 64)
    with pytest.raises(PoolCorrupt, match=r"^the pool: "):
        mapped(Keeper(descriptor).answer, descriptor)


def test_a_cut_pool(keeper: Keeper, pool: HostedPool, path: Path, descriptor: int) -> None:
    (extent,) = stored(pool, "one", bytes(1 << 20))
    os.truncate(path, extent[0] + PAGE)
    with pytest.raises(PoolCorrupt):
        pool.mapping.write(extent, PAGE, b"content")
    with pytest.raises(PoolCorrupt):
        stored(pool, "two", b"content")
    assert path.stat().st_size == extent[0] + PAGE


# What an enclave may ask: the host goes on, and its pool stays whole.

_LENGTH = st.sampled_from([0, 1, PAGE, PAGE + 1, 1 << 40, 1 << 62, (1 << 63) - 1])
_NAME = st.text(max_size=3) | st.just("x" * 70_000)
_EXTENTS = st.lists(st.tuples(_LENGTH, _LENGTH), max_size=3)
_REQUESTS = st.one_of(
    st.builds(PoolRequest),
    st.builds(FindEntry, _NAME),
    st.builds(TakeSpace, st.lists(_LENGTH, max_size=3)),
    st.builds(CommitEntry, _NAME, st.binary(max_size=3), _EXTENTS),
    st.builds(AbandonSpace),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_REQUESTS, max_size=8), st.booleans())
def test_whatever_is_asked_has_an_answer(tmp_path: Path, requests: list[ToPool], commits: bool) -> None:
    path = tmp_path / "asked.pool"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    keeper = Keeper(descriptor)
    try:
        for request in requests:
            answer = keeper.answer(request)
            assert parse(msgspec.msgpack.encode(answer), FromPool) == answer
            if commits and isinstance(answer, Space):
                keeper.answer(CommitEntry("taken", b"", answer.extents))
        keeper.close()
        with Pool(path) as pool:
            assert pool.verify() == []
    finally:
        keeper.close()
        os.close(descriptor)
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("body", [PoolRequest(), Entry(None, []), Space([])])
def test_only_questions_about_a_pool_are_asked(body: FromPool | ToPool) -> None:
    encoded = msgspec.msgpack.encode(body)
    if isinstance(body, ToPool):
        assert parse(encoded, ToPool) == body
        return
    with pytest.raises(EnclaveError, match="refused a message"):
        parse(encoded, ToPool)


def test_an_error_of_the_host_keeps_its_class(descriptor: int) -> None:
    for error, kind in (("PoolFull", PoolFull), ("PoolBusy", PoolBusy), ("KeyboardInterrupt", EnclaveError)):
        with pytest.raises(PliniusError, match="why") as caught:
            mapped(lambda _, error=error: PoolFailed(error, "why"), descriptor)  # type: ignore[misc]
        assert type(caught.value) is kind
