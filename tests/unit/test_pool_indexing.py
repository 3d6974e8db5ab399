"""Parts of arrays in a pool: every index expression means, reads, stores and refuses what it does in NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plinius import Pool
from plinius.pool import Transaction
from plinius.pool.indexing import select

RECORD = np.dtype([("x", "<i4"), ("y", ">f8", (2,)), ("z", "S3")])
PADDED = np.dtype({"names": ["b", "a"], "formats": ["<u2", "?"], "offsets": [8, 1], "itemsize": 13})
DTYPES = st.sampled_from(
    [np.dtype(name) for name in ("?", "i1", "<i8", ">i4", "<f8", ">f2", "<f16", "<c8", ">c16")]
    + [np.dtype(name) for name in ("<M8[D]", ">m8[25s]", "S5", "<U3", ">U2", "V7")]
    + [RECORD, PADDED, np.dtype([("inner", RECORD), ("n", "<u8")], align=True)]
)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
QUICK = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def tx(folder: Any) -> Iterator[Transaction]:
    with Pool(folder / "pool") as pool, pool.transaction() as tx:
        yield tx


def random_array(draw: st.DrawFn, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """An array of arbitrary bytes that are valid elements: hypothesis draws a seed, not every byte."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    raw: np.ndarray[Any, Any] = random.integers(0, 2, (*shape, dtype.itemsize), np.uint8)
    if dtype.kind == "U":  # four arbitrary bytes are seldom a character, and then not even its repr works
        raw = random.integers(0, 0x300, (*shape, dtype.itemsize // 4)).astype(f"{dtype.byteorder}u4")
    return np.ndarray(shape, dtype, raw.tobytes()).copy()


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    return random_array(draw, draw(SHAPES), draw(DTYPES))


def integer_arrays(draw: st.DrawFn, size: int) -> Any:
    shape = draw(st.sampled_from([(), (1,), (2,), (3, 1), (2, 2), (0,)]))
    if size == 0:
        return np.zeros((0,), draw(st.sampled_from([np.intp, np.uint8])))
    elements = st.integers(-size, size - 1)
    array = draw(hnp.arrays(draw(st.sampled_from([np.intp, np.int8])), shape, elements=elements))
    return array.tolist() if draw(st.booleans()) else array


@st.composite
def mixed_indices(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """Numbers, slices, arrays, masks, new dimensions and an Ellipsis, in any order."""
    index: list[Any] = []
    axis = 0
    while axis < len(shape):
        size = shape[axis]
        kind = draw(st.sampled_from(["slice", "slice", "array", "array", "number", "mask", "new", "truth", "stop"]))
        if kind == "stop":
            break
        if kind == "new":
            index.append(None)
        elif kind == "truth":
            index.append(draw(st.booleans()))
        elif kind == "mask":
            dims = draw(st.integers(1, len(shape) - axis))
            mask = hnp.arrays(np.bool_, shape[axis : axis + dims])
            # Masks select different numbers of elements, which rarely broadcast against other arrays.
            index.append(draw(mask))
            axis += dims
        else:
            if kind == "number" and size > 0:
                index.append(draw(st.integers(-size, size - 1)))
            elif kind == "array":
                index.append(integer_arrays(draw, size))
            else:
                index.append(draw(st.slices(size)))
            axis += 1
    if draw(st.booleans()):
        index.insert(draw(st.integers(0, len(index))), ...)
    return tuple(index)


def indices(shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    basic = hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True, max_dims=8)
    choices = [basic, basic, mixed_indices(shape), mixed_indices(shape), hnp.arrays(np.bool_, shape)]
    if shape and 0 not in shape:
        choices.append(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(min_dims=0, max_side=3)))
    return st.one_of(choices)


def outcome(work: Any) -> Any:
    """What comes of some work: a value, or the class of an error and what it says."""
    try:
        return work()
    except (IndexError, ValueError, TypeError) as error:
        return type(error), str(error)


def assert_same(ours: Any, numpys: Any) -> None:
    assert type(ours) is type(numpys)
    if isinstance(numpys, (np.ndarray, np.generic)):
        assert ours.dtype == numpys.dtype
        assert ours.shape == numpys.shape
        if numpys.dtype.char == "g":  # six of its sixteen bytes are nobody's
            assert np.array_equal(ours, numpys, equal_nan=True)
            return
        # As bytes: NaNs and NaTs are to be the same ones too. A record's padding is nobody's, and becomes zeros.
        plain = np.zeros(numpys.shape, numpys.dtype), np.zeros(numpys.shape, numpys.dtype)
        for copy, value in zip(plain, (ours, numpys), strict=True):
            copy[...] = value
        assert plain[0].tobytes() == plain[1].tobytes()
    else:
        assert ours == numpys


@QUICK
@given(data=st.data(), array=arrays())
def test_reading_a_part(tx: Transaction, data: st.DataObject, array: np.ndarray[Any, Any]) -> None:
    tx["a"] = array
    index = data.draw(indices(array.shape))
    assert_same(outcome(lambda: tx["a"][index]), outcome(lambda: array[index]))


@QUICK
@given(data=st.data(), array=arrays())
def test_storing_a_part(tx: Transaction, data: st.DataObject, array: np.ndarray[Any, Any]) -> None:
    tx["before"], tx["a"], tx["behind"] = np.full(9, 7), array, np.full(9, 7)
    index = data.draw(indices(array.shape))
    try:
        part = array[index]
    except IndexError:  # with a value that fits anything, so that only the index is wrong
        part = np.zeros((), array.dtype)
    shape = data.draw(hnp.broadcastable_shapes(np.shape(part), max_dims=np.ndim(part), max_side=5))
    value = random_array(data.draw, shape, array.dtype)
    changed = array.copy()
    error = outcome(lambda: changed.__setitem__(index, value))
    ours = outcome(lambda: tx["a"].__setitem__(index, value))
    assert (ours is None) == (error is None), (ours, error)
    if error is not None:
        # A value that does not fit a whole mask is a TypeError in NumPy, and a ValueError for any other index.
        assert ours[0] is error[0] or error[0] is TypeError
    assert_same(tx["a"][...], changed)
    assert (tx["before"][...] == 7).all()
    assert (tx["behind"][...] == 7).all()


VALUES: list[Any] = [
    7,
    -1,
    2.75,
    300,
    float("nan"),
    1 + 2j,
    True,
    "12",
    "x",
    b"34",
    None,
    [1, 2, 3],
    (4, 5, 6),
    [[1], [2]],
    [1, [2, 3]],
    {"a": 1},
    object(),
    range(3),
    np.float32(1.5),
    np.int64(1) << 40,
    np.arange(6).reshape(2, 3),
    np.arange(6.0).reshape(2, 3)[::-1, ::-1],
    np.arange(3) > 1,
    np.ones((1, 1, 3)),
    np.ones(4),
    np.array(5),
    np.array([5]),
    np.array(["7", "8", "9"]),
    np.array(["2020-01-01", "2021-01-01", "NaT"], "M8[D]"),
    np.ma.masked_array([1, 2, 3], [False, True, False]),
    np.zeros((2, 3), object),
    np.zeros(3, [("x", "i4")]),
]
INDICES: list[Any] = [(1, 2), ..., 0, (slice(None), 1), [0, 1], (0, ...), ([1, 0], [2, 2]), slice(0, 0)]


@pytest.mark.parametrize("name", ["u1", "<i8", ">f4", "?", "c8", "S2", "U3", "M8[s]"])
@pytest.mark.filterwarnings("ignore")
def test_values_are_cast_and_refused_as_by_numpy(tx: Transaction, name: str) -> None:
    for value in VALUES:
        for index in INDICES:
            live = np.zeros((2, 3), name)
            tx["a"] = live
            expected = trial(live, index, value)
            assert trial(tx["a"], index, value) is expected, (index, value)
            # NumPy may have stored some elements when it meets the one that it refuses; here it is all or nothing.
            stored = live if expected is None else np.zeros_like(live)
            assert tx["a"][...].tobytes() == stored.tobytes(), (index, value)


def trial(array: Any, index: Any, value: Any) -> type[Exception] | None:
    try:
        array[index] = value
    except Exception as error:
        return type(error)
    return None


def test_records(tx: Transaction) -> None:
    live = np.zeros(4, RECORD)
    tx["a"] = live
    for array in (live, tx["a"]):
        array[1] = (5, [1.5, 2.5], b"abc")
        array["y"] = [[1, 2]]
        array["x"] += 3
        array[2:] = array[1]
    assert_same(tx["a"][...], live)
    for field in RECORD.names or ():
        assert_same(tx["a"][field], live[field])
    assert_same(outcome(lambda: tx["a"]["none"]), outcome(lambda: live["none"]))
    tx["plain"] = np.zeros(2)
    assert_same(outcome(lambda: tx["plain"]["x"]), outcome(lambda: np.zeros(2)["x"]))


@pytest.mark.parametrize("index", [3, -4, (0, 0, 0), (..., ...), 1.5, "x", [0, 5], np.ones(4, bool), (None,) * 70, {}])
def test_an_impossible_index_is_refused_in_numpys_words(tx: Transaction, index: Any) -> None:
    live = np.zeros((3, 4))
    tx["a"] = live
    numpys = outcome(lambda: live[index])
    assert isinstance(numpys, tuple)
    assert outcome(lambda: tx["a"][index])[0] is numpys[0]
    assert trial(tx["a"], index, 1) is trial(live, index, 1) is not None
    assert not tx["a"][...].any()


ALL = slice(None)
TRICKY: list[Any] = [
    ([0, 1], [1, 0]),
    ([0, 1], ALL, [1, 0]),
    (ALL, [0, 1], [1, 0]),
    (ALL, [0, 1], ALL, [1, 0]),
    (0, ALL, [1, 0]),
    (0, [1, 0]),
    (ALL, 0, [1, 0]),
    ([0, 1], ALL, 0),
    ([0, 1], 0, ALL, [1, 1]),
    ([0, 1], None, [1, 0]),
    (None, [0, 1], [1, 0], None),
    ([0, 1], ..., [1, 0]),
    (ALL, [0, 1], ..., [0, 0], [1, 0]),
    (ALL, [0, 1], [0, 0], ..., [1, 0]),
    (ALL, ALL, [0, 1], ..., [1, 0]),
    (ALL, 1, ..., [True, False], 0),
    (ALL, 1, ..., [True, True], [1, 0]),
    ([[True, False], [True, True]],),
    (ALL, [[True, False], [True, True]]),
    (0, [[True, False], [True, True]], ALL),
    ([True, True], ALL, [True, True]),
    (True, [0, 1], ALL),
    (True, ALL, [0, 1]),
    (False, ..., 1),
    ([[0], [1]], [[0, 1]], ALL, slice(None, None, -1)),
    (slice(None, None, -1), [1, 1], slice(1, None)),
]


@pytest.mark.parametrize("index", TRICKY, ids=repr)
def test_where_the_dimensions_of_arrays_go(tx: Transaction, index: Any) -> None:
    """All sizes are equal, so that only the elements tell a dimension in the wrong place."""
    live = np.arange(16).reshape(2, 2, 2, 2)
    tx["a"] = live
    assert_same(tx["a"][index], live[index])
    value = -1 - np.arange(live[index].size).reshape(live[index].shape)
    for array in (tx["a"], live):
        array[index] = value
    assert_same(tx["a"][...], live)


def test_a_part_of_a_large_array_costs_only_that_part() -> None:
    """No index of a few elements may need memory for all the others; nobody has 2^60 bytes."""
    shape = (1 << 30, 1 << 27)
    for index in (
        5,
        (5, 7),
        (slice(3, 9), -1),
        ([1, 1 << 29], 3),
        (slice(None, None, 1 << 29), slice(2)),
        (..., 0)[1:],
    ):
        part = select(index, shape, 8)
        assert part.offsets.size * part.run_bytes <= 1 << 30
    assert select((2, slice(1, 4)), shape, 8).run_bytes == 24
    assert select(slice(2, 4), shape, 8).offsets.tolist() == [2 << 30]


def test_what_lies_side_by_side_is_one_run() -> None:
    for index in (..., (), slice(None), (slice(None), slice(None)), slice(0, 5), (None, ...)):
        assert select(index, (5, 6, 7), 4).offsets.size == 1
    assert select((slice(None), 2), (5, 6, 7), 4).run_bytes == 28
    assert select(([4, 0], slice(1, 3)), (5, 6, 7), 4).run_bytes == 56


def test_an_index_that_changes_while_it_is_used_reaches_nothing_else(tx: Transaction) -> None:
    class Growing:
        calls = 0

        def __index__(self) -> int:
            self.calls += 1
            return 0 if self.calls < 2 else 100

    tx["a"], tx["b"] = np.zeros(4), np.zeros(4)
    for _ in range(3):
        outcome(lambda: tx["a"].__setitem__(slice(0, Growing()), 1.0))
        outcome(lambda: tx["a"].__setitem__(Growing(), 1.0))
    assert not tx["b"][...].any()
