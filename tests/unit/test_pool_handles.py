"""What a transaction gives out for its values: handles that store in place, and never in another's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from plinius import Pool
from plinius.errors import PoolError
from plinius.pool import PersistentArray


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
