"""Lists of arrays in a pool: they do what a Python list does, grow and shrink, and give back all that they took."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plinius import Pool
from plinius.errors import PoolError
from plinius.pool import PersistentArray, PersistentList


def item(number: int) -> np.ndarray[Any, Any]:
    """An array that differs from others in value, type and length."""
    return np.full(number % 5, number, ["i8", "f4", "U3"][number % 3])


def plain(items: Any) -> list[Any]:
    return [(array.dtype.str, np.asarray(array).tolist()) for array in items]


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["append", "extend", "insert", "pop", "del", "del slice", "set", "store", "clear", "commit"]),
        st.integers(-6, 6),
        st.integers(0, 1000),
    ),
    max_size=25,
)


def apply(operation: str, index: int, number: int, items: Any) -> Any:
    """Does the same to a Python list and to a list in the pool."""
    try:
        if operation == "append":
            items.append(item(number))
        elif operation == "extend":
            items.extend([item(number + more) for more in range(number % 20)])
        elif operation == "insert":
            items.insert(index, item(number))
        elif operation == "pop":
            return plain([items.pop(index) if number % 2 else items.pop()])
        elif operation == "del":
            del items[index]
        elif operation == "del slice":
            del items[index : index + number % 15 : number % 3 + 1]
        elif operation == "set":
            items[index] = item(number)
        elif operation == "store":
            items[index][...] = 5
        elif operation == "clear":
            items.clear()
    except IndexError:
        return IndexError
    return None


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=OPERATIONS)
def test_a_list_does_what_a_python_list_does(pool: Pool, operations: list[tuple[str, int, int]]) -> None:
    live: list[Any] = [item(number) for number in range(3)]
    pool["l"] = live
    tx = pool.transaction().__enter__()
    for operation, index, number in operations:
        if operation == "commit":
            tx.__exit__(None, None, None)
            assert plain(pool["l"]) == plain(live)
            assert pool.verify() == []
            tx = pool.transaction().__enter__()
            continue
        assert apply(operation, index, number, tx["l"]) == apply(operation, index, number, live)
        assert len(tx["l"]) == len(live)
        assert plain(tx["l"]) == plain(live)
    tx.__exit__(None, None, None)
    assert plain(pool["l"]) == plain(live)
    assert pool.verify() == []


def test_items_are_handles_and_slices_are_lists_of_them(pool: Pool) -> None:
    pool["l"] = [np.arange(3), np.arange(4.0), 5]
    with pool.transaction() as tx:
        items = tx["l"]
        assert isinstance(items, PersistentList)
        assert isinstance(items[0], PersistentArray)
        assert repr(items) == "PersistentList(3 arrays)"
        items[0][1:] = 7
        items[-1][()] += 1
        assert [handle.shape for handle in items[:2]] == [(3,), (4,)]
        assert items[5:] == []
        for wrong in (3, -4):
            with pytest.raises(IndexError):
                items[wrong]
        for wrong in ("x", 1.5, None):
            with pytest.raises(TypeError):
                items[wrong]
    assert [array.tolist() for array in pool["l"]] == [[0, 7, 7], [0, 1, 2, 3], 6]


def test_a_popped_item_is_a_private_copy_and_a_removed_one_is_gone(pool: Pool) -> None:
    with pool.transaction() as tx:
        tx["l"] = [np.arange(3), np.arange(3) + 10, np.arange(3) + 20]
        first, second, third = tx["l"]
        popped = tx["l"].pop(0)
        popped[:] = 0
        del tx["l"][0]
        for gone in (first, second):
            with pytest.raises(PoolError, match="look it up again"):
                gone[0] = 1
        third[0] = 1
        tx["l"].append(np.arange(3))
    assert [array.tolist() for array in pool["l"]] == [[1, 21, 22], [0, 1, 2]]


def test_two_handles_of_one_list_stay_together(pool: Pool) -> None:
    with pool.transaction() as tx:
        tx["l"] = []
        one, other = tx["l"], tx["l"]
        for number in range(100):
            (one if number % 2 else other).append(number)
        assert len(one) == len(other) == 100
        one.extend(other[:3])
        one.extend(iter(other))
        assert [int(value[()]) for value in other[100:103]] == [0, 1, 2]
        assert len(other) == 206


def test_a_list_that_shrinks_gives_its_space_back(pool: Pool) -> None:
    pool["l"] = []
    empty = pool.stats().heap_used_bytes
    with pool.transaction() as tx:
        tx["l"].extend(range(5000))
    full = pool.stats().heap_used_bytes
    with pool.transaction() as tx:
        while len(tx["l"]) > 10:
            del tx["l"][-min(499, len(tx["l"]) - 10) :]
    few = pool.stats().heap_used_bytes
    with pool.transaction() as tx:
        tx["l"].clear()
    assert full - empty > 5000 * 64
    assert few - empty < 10 * 100 + 200
    assert pool.stats().heap_used_bytes == empty
    del pool["l"]
    assert pool.stats().heap_used_bytes < empty
    assert pool.verify() == []


@pytest.mark.parametrize(("count", "length"), [(0, 64), (1, 64), (7, 64), (8, 128), (100, 1024)])
def test_a_directory_is_a_power_of_two(pool: Pool, count: int, length: int) -> None:
    def directory_bytes() -> int:
        with pool.core.snapshot() as snapshot:
            _, block = snapshot.entry("value/l") or (b"", 0)
            return snapshot.block_bytes(block)

    pool["l"] = [0] * count
    assert directory_bytes() == length
    with pool.transaction() as tx:
        tx["l"].extend([0] * (3 * count))
        del tx["l"][count:]
    assert directory_bytes() in {length, 2 * length}


def test_appending_costs_the_same_however_long_the_list_is(pool: Pool) -> None:
    """Bytes stored for an append: counted by what the pool reads and writes of the directory, not by the clock."""
    pool["l"] = []
    with pool.transaction() as tx:
        tx["l"].extend(range(4000))
        core = tx["l"]._changes._core
        traffic: list[int] = []

        class Counting:
            def __getattr__(self, name: str) -> Any:
                call = getattr(core, name)
                if name not in {"load", "store", "create"}:
                    return call

                def counted(*arguments: Any) -> Any:
                    traffic.append(len(arguments[-1]))
                    return call(*arguments)

                return counted

        items = tx["l"]
        items._changes._core = Counting()
        for number in range(50):
            items.append(number)
        items._changes._core = core
    assert sum(traffic) / 50 < 400
