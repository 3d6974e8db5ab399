"""A pool as a mapping of names to values: what comes out as it went in, and which names there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plinius import Key, Mirror, Pool
from plinius.errors import PoolError
from plinius.pool import PersistentList
from reopening import now_and_reopened


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


def test_a_pool_is_a_mapping_and_itself(pool: Pool, folder: Path) -> None:
    pool["a"], pool["b"] = 1, [2]
    assert {name: list(np.ravel(value)) for name, value in pool.items()} == {"a": [1], "b": [2]}
    assert pool.get("c", 5) == 5
    with Pool(folder / "other") as other:
        assert [pool, other].index(pool) == 0
        assert [other, pool].index(pool) == 1
        assert pool != other
        assert len({pool, other}) == 2


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


def test_a_list_is_a_list(pool: Pool) -> None:
    pool["l"] = [1]
    with pool.transaction() as tx:
        assert isinstance(tx["l"], PersistentList)
    assert type(pool["l"]) is list


def test_one_line_is_a_transaction_of_its_own(pool: Pool) -> None:
    before = pool.stats().commits
    pool["w"] = np.ones(3)
    del pool["w"]
    assert pool.stats().commits == before + 2
    assert list(pool) == []


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


def test_a_closed_pool_is_closed_for_values_too(pool: Pool) -> None:
    pool["w"] = 1
    pool.close()
    uses = (lambda: pool["w"], lambda: list(pool), pool.read, pool.verify, pool.stats, lambda: pool.__setitem__("w", 2))
    for use in uses:
        with pytest.raises(PoolError, match="closed; open it again"):
            use()
