"""Transactions on named arrays: all or nothing, one at a time, and what a pool shows of its values meanwhile."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plinius import Key, Mirror, Pool
from plinius.errors import PoolCorrupt, PoolError, PoolFull
from plinius.pool import PersistentArray, PersistentList, pooling


@pytest.fixture
def pool(folder: Path) -> Iterator[Pool]:
    with Pool(folder / "pool") as pool:
        yield pool


def elsewhere(work: Callable[[], Any]) -> Any:
    """What comes of some work in another thread."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(work).result(20)


def now_and_reopened(pool: Pool) -> Iterator[Pool]:
    """The pool as it is, and then once more as another process would find it."""
    yield pool
    pool.close()
    with Pool(pool.path) as again:
        yield again


@pytest.mark.parametrize(
    "value",
    [
        np.arange(12.0).reshape(3, 4),
        np.arange(12.0).reshape(3, 4).T,
        np.arange(20, dtype=">i2")[::-3],
        np.array(5),
        np.zeros((3, 0, 2), "f4"),
        np.array([True, False]),
        np.array(["2020-01-01", "NaT"], "M8[D]"),
        np.array([b"a\0b", b""], "S3"),
        np.array(["ä", "€uro"]),
        np.array([(1, 2.5)], [("x", "i4"), ("y", ">f8")]),
        np.array([1 + 2j], "c8"),
        5,
        2.5,
        "text",
        (1, 2, 3),
        np.float32(1.5),
    ],
    ids=repr,
)
def test_a_value_comes_back_exactly_and_after_a_restart(pool: Pool, value: Any) -> None:
    with pool.transaction() as tx:
        tx["v"] = value
    for place in now_and_reopened(pool):
        found, known = place["v"], np.asarray(value)
        assert type(found) is np.ndarray
        assert (found.dtype, found.shape) == (known.dtype, known.shape)
        assert found.tobytes() == known.tobytes()
        assert place.verify() == []


def test_what_a_handle_says_of_itself(pool: Pool) -> None:
    value = np.arange(6, dtype="i2").reshape(2, 3)
    with pool.transaction() as tx:
        tx["v"], tx["n"] = value, 0
        v = tx["v"]
        assert isinstance(v, PersistentArray)
        assert (v.dtype, v.shape, v.ndim, v.size, v.nbytes, len(v)) == (value.dtype, (2, 3), 2, 6, 12, 2)
        assert repr(v) == "PersistentArray(shape=(2, 3), dtype=int16)"
        assert [row.tolist() for row in v] == value.tolist()
        assert (np.asarray(v, float) == value).all()
        assert np.add(v, 1).tolist() == (value + 1).tolist()
        assert not tx["n"]
        for refused in (
            lambda: np.asarray(v, copy=False),
            lambda: bool(v),
            lambda: len(tx["n"]),
            lambda: iter(tx["n"]),
        ):
            with pytest.raises((ValueError, TypeError)):
                refused()


def test_the_pool_is_a_mapping_of_what_is_committed(pool: Pool) -> None:
    with pool.transaction() as tx:
        tx["b"], tx["a"] = 1, [2, 3]
        assert list(pool) == []
        assert list(tx) == ["a", "b"]
        assert "a" in tx
        assert len(tx) == 2
    assert list(pool) == list(pool.keys()) == ["a", "b"]
    assert len(pool) == 2
    assert "a" in pool
    assert "c" not in pool
    assert 5 not in pool
    with pytest.raises(KeyError, match="c"):
        pool["c"]
    with pytest.raises(KeyError, match="c"):
        pool.read("a", "c")
    with pool.transaction() as tx, pytest.raises(KeyError, match="c"):
        del tx["c"]


def test_a_pool_is_true_until_it_is_closed(pool: Pool) -> None:
    assert pool
    pool.close()
    assert not pool


def test_a_copy_from_the_pool_is_private_and_cannot_be_mistaken_for_the_pool(pool: Pool) -> None:
    pool["w"], pool["l"] = np.zeros(3), [np.zeros(2)]
    w, (item,) = pool["w"], pool["l"]
    for array in (w, item):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pool.transaction() as tx:
        tx["w"][:] = 1
    assert w.tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="read-only"):
        pool["w"] += 1
    w.flags.writeable = True
    w[:] = 5
    assert pool["w"].tolist() == [1, 1, 1]


def test_a_copy_outlives_the_pool(pool: Pool) -> None:
    pool["w"] = np.arange(100_000)
    w = pool["w"]
    pool.close()
    assert w.sum() == 4999950000


def test_one_line_is_a_transaction_of_its_own(pool: Pool) -> None:
    before = pool.stats().commits
    pool["w"] = np.ones(3)
    del pool["w"]
    assert pool.stats().commits == before + 2
    assert list(pool) == []


def test_a_transaction_reads_its_own_changes_and_the_pool_what_is_committed(pool: Pool) -> None:
    pool["w"] = np.zeros(4)
    with pool.transaction() as tx:
        tx["w"][1:3] = [5, 6]
        tx["w"][-1] += 7
        tx["new"] = 1
        assert tx["w"][...].tolist() == [0, 5, 6, 7]
        for look in (lambda: pool["w"], lambda: elsewhere(lambda: pool["w"]), lambda: pool.read()["w"]):
            assert look().tolist() == [0, 0, 0, 0]
        assert "new" not in pool
    assert pool["w"].tolist() == [0, 5, 6, 7]


def change_much_and_raise(pool: Pool, error: type[BaseException]) -> None:
    with pool.transaction() as tx:
        tx["w"][2] = 9
        tx["w"] = np.zeros((70, 70))
        tx["l"].append(5)
        tx["l"][0] = "other"
        del tx["gone"]
        tx["new"] = [1]
        raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_undoes_everything(pool: Pool, error: type[BaseException]) -> None:
    with pool.transaction() as tx:
        tx["w"], tx["l"], tx["gone"] = np.arange(5), [np.zeros(2), 3], "text"
    known = {name: repr(value) for name, value in pool.read().items()}
    with pytest.raises(error):
        change_much_and_raise(pool, error)
    for place in now_and_reopened(pool):
        assert {name: repr(value) for name, value in place.read().items()} == known
        assert place.verify() == []


def test_abort_undoes_everything_and_ends_it(pool: Pool) -> None:
    pool["w"] = 1
    with pool.transaction() as tx:
        tx["w"] = 2
        tx.abort()
        tx.abort()
        with pytest.raises(PoolError, match="transaction has ended; begin a new one"):
            tx["w"] = 3
        pool["x"] = 4  # nothing is held up any more
    assert pool["w"] == 1
    assert pool["x"] == 4


def test_nothing_of_an_ended_transaction_can_be_used(pool: Pool) -> None:
    with pool.transaction() as tx:
        tx["w"], tx["l"] = np.zeros(3), [1]
        w, items, item = tx["w"], tx["l"], tx["l"][0]
    uses: list[Callable[[], Any]] = [
        lambda: tx["w"],
        lambda: tx.__setitem__("w", 1),
        lambda: tx.__delitem__("w"),
        lambda: "w" in tx,
        lambda: list(tx),
        lambda: len(tx),
        lambda: w[0],
        lambda: w.__setitem__(0, 1),
        lambda: np.asarray(w),
        lambda: item[()],
        lambda: len(items),
        lambda: items[0],
        lambda: items.append(1),
        items.pop,
        lambda: items.__delitem__(0),
    ]
    for use in uses:
        with pytest.raises(PoolError) as caught:
            use()
        assert str(caught.value) == f"{pool.path}: the transaction has ended; begin a new one with pool.transaction()"
    assert w.shape == (3,)


def test_a_transaction_that_was_not_begun_says_how(pool: Pool) -> None:
    with pytest.raises(PoolError, match=r"write `with pool.transaction\(\) as tx:`"):
        pool.transaction()["w"] = 1


def test_transactions_are_not_nested(pool: Pool) -> None:
    with pool.transaction() as tx:
        tx["w"] = 1
        for nested in (lambda: pool.transaction().__enter__(), lambda: pool.__setitem__("w", 2), pool.verify):
            with pytest.raises(PoolError, match="not nested: end it first"):
                nested()
    assert pool["w"] == 1
    mirror = Mirror(pool, Key.generate(), name="m", array=[np.zeros(10)])
    with pool.transaction(), pytest.raises(PoolError, match="not nested"):
        mirror.save(1)
    mirror.save(2)


def test_a_transaction_belongs_to_its_thread(pool: Pool) -> None:
    with pool.transaction() as tx:
        tx["w"] = np.zeros(3)
        w = tx["w"]
        for use in (lambda: tx["w"], lambda: tx.__setitem__("w", 1), lambda: w.__setitem__(0, 1)):
            with pytest.raises(PoolError, match="belongs to the thread that began it; begin one here"):
                elsewhere(use)
    assert pool["w"].tolist() == [0, 0, 0]
    tx = pool.transaction().__enter__()
    tx["w"] = 1
    with pytest.raises(PoolError, match="belongs to the thread"):
        elsewhere(lambda: tx.__exit__(None, None, None))
    assert pool["w"].tolist() == [0, 0, 0]
    pool["w"] = 2


def test_a_second_thread_waits_for_the_first(pool: Pool) -> None:
    with ThreadPoolExecutor(1) as threads:
        with pool.transaction() as tx:
            tx["w"] = 1
            waiting = threads.submit(lambda: pool.__setitem__("w", 2))
            with pytest.raises(TimeoutError):
                waiting.result(0.2)
        waiting.result(20)
    assert pool["w"] == 2


def test_a_forked_child_cannot_touch_its_parents_transaction(pool: Pool) -> None:
    pool["w"] = np.zeros(1000)
    with pool.transaction() as tx:
        tx["w"][:] = 1
        child = os.fork()
        if child == 0:
            try:
                with pytest.raises(PoolError):
                    tx["w"][:] = 2
                with pytest.raises(PoolError):
                    tx.__exit__(None, None, None)
                del tx
            except BaseException:
                os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert tx["w"][...].sum() == 1000
        tx["w"][0] = 5
    assert pool["w"].sum() == 1004
    assert pool.verify() == []


def test_the_same_type_is_stored_in_place_and_another_replaces(pool: Pool) -> None:
    with pool.transaction() as tx:
        tx["w"] = np.zeros(3)
        old = tx["w"]
        tx["w"] = np.ones(3)
        assert old[...].tolist() == [1, 1, 1]
        others: list[Any] = [np.zeros(3, "i8"), np.zeros((3, 1), "i8"), np.zeros(3, "f4"), [np.zeros(3)], np.zeros(3)]
        for other in others:
            replaced = tx["w"]
            tx["w"] = other
            if isinstance(other, np.ndarray):
                assert (tx["w"].dtype, tx["w"].shape) == (other.dtype, other.shape)
            with pytest.raises(PoolError, match="replaced or deleted in its transaction; look it up again"):
                replaced[0] if isinstance(replaced, PersistentArray) else len(replaced)
        with pytest.raises(PoolError, match="look it up again"):
            old[0] = 1
    assert pool.stats().arrays == 1
    assert pool.verify() == []


def test_a_handle_never_reaches_the_block_that_took_its_place(pool: Pool) -> None:
    with pool.transaction() as tx:
        tx["old"] = np.zeros(8)
        old = tx["old"]
        del tx["old"]
        tx["new"] = np.zeros(8)
        with pytest.raises(PoolError, match="look it up again"):
            old[:] = 1
        assert not tx["new"][...].any()


def test_values_are_copied_from_each_other(pool: Pool) -> None:
    with pool.transaction() as tx:
        tx["a"], tx["l"] = np.arange(3), [np.zeros(2), 5]
        tx["b"], tx["m"], tx["i"] = tx["a"], tx["l"], tx["l"][1]
        tx["a"], tx["l"] = tx["a"], tx["l"]
        tx["a"][0] = 9
        tx["l"][0][0] = 9
        tx["b"][1:] = tx["a"][:2]
    assert pool["b"].tolist() == [0, 9, 1]
    assert [item.tolist() for item in pool["m"]] == [[0, 0], 5]
    assert [item.tolist() for item in pool["l"]] == [[9, 0], 5]
    assert pool["i"] == 5
    assert pool.verify() == []


def test_the_habits_of_a_dictionary(pool: Pool) -> None:
    with pool.transaction() as tx:
        tx.update(a=1, b=[2], c=3)
        assert tx.get("x") is None
        assert tx.pop("a").tolist() == 1
        assert [item.tolist() for item in tx.pop("b")] == [2]
        assert tx.pop("a", "none") == "none"
        with pytest.raises(KeyError):
            tx.pop("a")
        name, value = tx.popitem()
        assert (name, value.tolist()) == ("c", 3)
        with pytest.raises(KeyError):
            tx.popitem()
        tx["d"] = 1
        tx.clear()
        assert len(tx) == 0
    assert pool.verify() == []
    assert pool.stats().arrays == 0


def test_several_values_of_one_commit(pool: Pool) -> None:
    with pool.transaction() as tx:
        tx["a"], tx["b"], tx["l"] = 0, 0, [0]
    stop = threading.Event()

    def count() -> None:
        step = 0
        while not stop.is_set():
            step += 1
            with pool.transaction() as tx:
                tx["a"], tx["b"] = step, -step
                tx["l"][0] = step

    with ThreadPoolExecutor(1) as threads:
        counting = threads.submit(count)
        try:
            seen = [pool.read() for _ in range(300)]
        finally:
            stop.set()
        counting.result(20)
    assert all(one["a"] == -one["b"] == one["l"][0] for one in seen)
    assert len({int(one["a"]) for one in seen}) > 1


def test_a_name_of_a_mirror_is_another_name(pool: Pool) -> None:
    mirror = Mirror(pool, Key.generate(), name="m", array=[np.zeros(10)])
    mirror.save(1)
    pool["mirror/m"], pool["m"], pool["value/m"] = 1, 2, 3
    assert list(pool) == ["m", "mirror/m", "value/m"]
    del pool["mirror/m"]
    mirror.save(2)
    assert mirror.latest_step() == 2
    assert pool.stats().entries == 3
    assert pool.verify() == []


@pytest.mark.parametrize("name", ["", "x" * 201, "ä" * 101, "\ud800", 5, None, b"x"], ids=repr)
def test_an_impossible_name_is_refused(pool: Pool, name: Any) -> None:
    with pytest.raises(PoolError, match="a name in a pool is"):
        pool[name] = 1
    with pytest.raises(PoolError, match="a name in a pool is"):
        pool[name]


@pytest.mark.parametrize("name", ["x" * 200, "ä" * 100, "a/b", " ", "\n", "\0", "名"], ids=repr)
def test_any_other_text_is_a_name(pool: Pool, name: str) -> None:
    pool[name] = 1
    assert list(pool) == [name]
    assert pool[name] == 1


def test_a_full_pool_keeps_what_it_has(folder: Path) -> None:
    with Pool(folder / "small", max_bytes=1 << 20, heap_bytes=1 << 16) as pool:
        pool["w"] = np.arange(1000)
        with pytest.raises(PoolFull, match=f"^{pool.path}: ") as caught, pool.transaction() as tx:
            tx.update(w=np.zeros(1000, int), x=np.zeros(1 << 20))
        assert caught.value.needed_bytes >= 8 << 20
        assert pool["w"].tolist() == list(range(1000))
        assert list(pool) == ["w"]
        assert pool.verify() == []
        pool["x"] = 1


def test_the_heap_grows_up_to_the_limit(folder: Path) -> None:
    with Pool(folder / "small", max_bytes=16 << 20, heap_bytes=1 << 16) as pool:
        first = pool.stats()
        assert first.heap_bytes == 1 << 16
        for index in range(6):
            pool[f"a{index}"] = np.full(1 << 17, index)
        grown = pool.stats()
        assert grown.heap_used_bytes >= 6 << 20
        assert grown.bytes == pool.bytes <= 16 << 20
        with pytest.raises(PoolFull, match="max_bytes"):
            pool["more"] = np.zeros(1 << 20)
        pool["a0"] = 1
        assert all((pool[f"a{index}"] == index).all() for index in range(1, 6))
        assert pool.verify() == []


def test_a_change_that_fails_midway_leaves_nothing_even_if_the_error_is_caught(folder: Path) -> None:
    with Pool(folder / "small", max_bytes=1 << 20, heap_bytes=1 << 16) as pool:
        pool["w"] = 1
        tx = pool.transaction().__enter__()
        tx["w"] = 2
        with pytest.raises(PoolFull):
            tx["l"] = [np.zeros(10), np.zeros(1 << 20)]
        for use in (lambda: tx["w"], lambda: tx.__exit__(None, None, None)):
            with pytest.raises(PoolError, match="rolled back when a change failed midway; begin a new one"):
                use()
        assert pool["w"] == 1
        assert list(pool) == ["w"]
        assert pool.verify() == []


def test_a_refused_value_changes_nothing_and_the_transaction_goes_on(pool: Pool) -> None:
    with pool.transaction() as tx:
        tx["w"], tx["l"] = np.arange(3), [1]
        for refused in (lambda: tx.__setitem__("w", [1, object()]), lambda: tx["l"].extend([2, None])):
            with pytest.raises(PoolError, match="Python objects"):
                refused()
        with pytest.raises(ValueError, match="broadcast"):
            tx["w"][:] = [1, 2]
    assert pool["w"].tolist() == [0, 1, 2]
    assert len(pool["l"]) == 1


def test_a_value_that_is_read_slowly_is_read_before_anything_changes(pool: Pool) -> None:
    class Failing:
        def __array__(self, *_: object, **__: object) -> Any:
            raise RuntimeError("no")

    with pool.transaction() as tx:
        tx["w"], tx["l"] = np.arange(3), [1]
        for use in (
            lambda: tx.__setitem__("w", Failing()),
            lambda: tx["w"].__setitem__(..., Failing()),
            lambda: tx["l"].extend([2, Failing()]),
            lambda: tx.__setitem__("l", [Failing()]),
        ):
            with pytest.raises(RuntimeError):
                use()
    assert pool["w"].tolist() == [0, 1, 2]
    assert len(pool["l"]) == 1


def test_a_closed_pool_is_closed_for_values_too(pool: Pool) -> None:
    pool["w"] = 1
    pool.close()
    uses = (lambda: pool["w"], lambda: list(pool), pool.read, pool.verify, pool.stats, lambda: pool.__setitem__("w", 2))
    for use in uses:
        with pytest.raises(PoolError, match="closed; open it again"):
            use()


def test_a_list_is_a_list(pool: Pool) -> None:
    pool["l"] = [1]
    with pool.transaction() as tx:
        assert isinstance(tx["l"], PersistentList)
    assert type(pool["l"]) is list


def test_a_file_that_is_cut_in_a_transaction_is_an_error_of_the_next_read(pool: Pool) -> None:
    pool["w"] = np.arange(1, 100_001)
    with pool.transaction() as tx:
        os.truncate(pool.path, 12288 + 20 * 4096)
        with pytest.raises(PoolCorrupt, match="truncated to"):
            tx["w"][-1]
        tx.abort()


def test_a_signal_handler_that_writes_in_the_middle_of_a_read_is_refused(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait for ever for the read that it interrupts."""
    pool["w"], pool["n"] = np.zeros(1000), 0

    def write(*_: object) -> None:
        pool["n"] = 1

    before = signal.signal(signal.SIGALRM, write)
    find = pooling.find

    def interrupted(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGALRM)
        return find(*arguments)

    try:
        with monkeypatch.context() as patched:
            patched.setattr(pooling, "find", interrupted)
            with pytest.raises(PoolError, match="this thread is reading the pool"):
                pool["w"]
        assert pool["n"] == 0
        signal.raise_signal(signal.SIGALRM)
        assert pool["n"] == 1
    finally:
        signal.signal(signal.SIGALRM, before)


def test_operators_compute_with_copies_and_store_in_place(pool: Pool) -> None:
    with pool.transaction() as tx:
        tx["n"], tx["w"] = 1, np.arange(4.0)
        tx["n"] += 1
        tx["w"] *= tx["n"]
        tx["w"][1:3] -= 1
        w = tx["w"]
        assert tx["n"] == 2
        assert tx["n"] + 1 == 3
        assert int(tx["n"]) == 2
        assert float(tx["n"]) == 2.0
        assert list(range(tx["n"])) == [0, 1]
        assert (w == [0, 1, 3, 6]).all()
        assert (w != 1).tolist() == [True, False, True, True]
        assert (-w).tolist() == [0, -1, -3, -6]
        assert np.add.reduce(w) == 10
        np.add(w, w, out=w)
        w[w > 6] = 7
    assert pool["n"] == 2
    assert pool["w"].tolist() == [0, 2, 6, 7]


def test_a_pool_is_a_mapping_and_itself(pool: Pool, folder: Path) -> None:
    pool["a"], pool["b"] = 1, [2]
    assert {name: list(np.ravel(value)) for name, value in pool.items()} == {"a": [1], "b": [2]}
    assert pool.get("c", 5) == 5
    with Pool(folder / "other") as other:
        assert [pool, other].index(pool) == 0
        assert [other, pool].index(pool) == 1
        assert pool != other
        assert len({pool, other}) == 2


def test_who_waits_for_another_threads_transaction_can_be_interrupted(pool: Pool) -> None:
    begun, end = threading.Event(), threading.Event()

    def hold() -> None:
        with pool.transaction():
            begun.set()
            end.wait(60)

    with ThreadPoolExecutor(1) as threads:
        holding = threads.submit(hold)
        begun.wait()
        threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
        try:
            with pytest.raises(KeyboardInterrupt):
                pool["a"] = 1
            assert not holding.done()
        finally:
            end.set()
    assert "a" not in pool
