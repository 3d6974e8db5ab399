"""Transactions on named arrays: all or nothing, whatever ends them or does not fit."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plinius import Key, Mirror, Pool
from plinius.errors import PoolCorrupt, PoolError, PoolFull
from reopening import now_and_reopened


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


def test_a_file_that_is_cut_in_a_transaction_is_an_error_of_the_next_read(pool: Pool) -> None:
    pool["w"] = np.arange(1, 100_001)
    with pool.transaction() as tx:
        os.truncate(pool.path, 12288 + 20 * 4096)
        with pytest.raises(PoolCorrupt, match="truncated to"):
            tx["w"][-1]
        tx.abort()
