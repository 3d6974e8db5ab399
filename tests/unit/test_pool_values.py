"""What lies in the pool of a value: element types that come back exactly or are refused, and bytes that lie."""

from __future__ import annotations

import random
import resource
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy._core import _rational_tests
from plinius import Pool
from plinius.errors import PoolCorrupt, PoolError, PoolVersion
from plinius.pool.dtypes import describe, rebuild
from plinius.pool.values import LIST_META, ArrayType, parse_meta

NESTED = np.dtype([("deep", [("x", "<f4", (2, 3)), ("s", "S4")], (2,)), ("t", ">M8[ns]")])
OVERLAPPING = np.dtype({"names": ["a", "b"], "formats": ["<u4", "<u2"], "offsets": [0, 2], "itemsize": 9})
EXACT = [
    np.dtype(name) for name in ("?", "i1", ">u8", "f2", "<f16", ">c8", "<c32", "S1", ">U7", "V5", "<M8", ">m8[25us]")
]
EXACT += [NESTED, OVERLAPPING, np.dtype([("a", "u1"), ("b", "<f8")], align=True), np.dtype([("ä ", "?")])]


@pytest.mark.parametrize("dtype", EXACT, ids=repr)
def test_an_element_type_comes_back_exactly(dtype: np.dtype[Any]) -> None:
    again = rebuild(msgspec.msgpack.decode(msgspec.msgpack.encode(describe(dtype))))
    assert again == dtype
    assert repr(again) == repr(dtype)
    assert again.isalignedstruct == dtype.isalignedstruct
    assert parse_meta(ArrayType(dtype, (3, 0)).encode()) == ArrayType(dtype, (3, 0))


class Text(str):
    pass


class Void(np.void):
    pass


def nested(depth: int) -> np.dtype[Any]:
    return np.dtype([("x", nested(depth - 1) if depth else "u1")])


# A type of another library, as ml_dtypes' bfloat16 is one; NumPy brings this one for its own tests.
RATIONAL = np.dtype(_rational_tests.rational)


REFUSED: dict[str, Any] = {
    "Python objects": np.array([None]),
    r"dtype\('O'\)": {"a": 1},
    "StringDType": np.array(["x"], np.dtypes.StringDType()),
    "has metadata": np.zeros(2, np.dtype("i4", metadata={"unit": "m"})),
    r"dtype\(\[\('x', 'O'\)\]\)": np.zeros(2, [("x", "O")]),
    "has a title": np.zeros(2, [(("title", "x"), "i4")]),
    "instances of record": np.rec.array([(1, 2.0)], dtype=[("x", "i4"), ("y", "f8")]),
    "have no bytes": np.zeros(2, "V0"),
    "mask would be lost": np.ma.zeros(3),
    "description of rational is not the whole": np.zeros(2, RATIONAL),
    "rational is not": np.zeros(2, [("x", RATIONAL)]),
    "description of Void is not the whole": np.zeros(2, np.dtype((Void, 8))),
    "nested too deeply": np.zeros(1, nested(20)),
    "too many fields": np.zeros(1, [(f"field{number}", "u1") for number in range(10_000)]),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_would_not_come_back_exactly_is_refused_by_name(pool: Pool, why: str) -> None:
    for value in (REFUSED[why], [1, REFUSED[why]]):
        with pytest.raises(PoolError, match=why):
            pool["v"] = value
    assert list(pool) == []


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_a_plain_array_of_a_subclass_is_stored_as_an_array(pool: Pool, tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "m", np.int32, "w+", shape=(2, 2))
    mapped[:] = 7
    pool["m"], pool["x"], pool["t"] = mapped, np.matrix([[1, 2]]), Text("t")
    assert type(pool["m"]) is type(pool["x"]) is type(pool["t"]) is np.ndarray
    assert pool["m"].tolist() == [[7, 7], [7, 7]]


def test_what_pads_a_record_never_reaches_the_pool(pool: Pool) -> None:
    padded = np.dtype({"names": ["a", "b"], "formats": ["u1", "<u2"], "offsets": [0, 12], "itemsize": 20})
    dirty = np.ndarray(64, padded, b"\xab" * 20 * 64)
    with pool.transaction() as tx:
        tx["whole"], tx["list"], tx["part"] = dirty, [dirty], np.zeros(64, padded)
        tx["part"][3:50] = dirty[3:50]
        tx["list"].append(dirty[:5])
        assert (tx["whole"]["b"] == 0xABAB).all()
    pool.close()
    assert b"\xab" * 4 not in Path(pool.path).read_bytes()


def put(pool: Pool, meta: bytes, payload: bytes = bytes(64), name: str = "x") -> None:
    """Puts a value into the catalog as somebody would who writes the pool with other code."""
    tx = pool.core.transaction()
    tx.set(f"value/{name}", meta, tx.create(payload))
    tx.commit()


def encoded(*fields: Any) -> bytes:
    return msgspec.msgpack.encode(fields)


LIES: dict[str, bytes] = {
    "nothing": b"",
    "no msgpack": b"\xc1",
    "half": ArrayType(np.dtype("<f8"), (3,)).encode()[:-1],
    "more": ArrayType(np.dtype("<f8"), (3,)).encode() + b"\0",
    "a map": msgspec.msgpack.encode({"format": 1}),
    "no fields": encoded(),
    "too few fields": encoded(1, "array", "<f8"),
    "another kind": encoded(1, "other", "<f8", [3]),
    "a longer form of the same": b"\x94\x01\xa5array\xa3<f8\xdc\x00\x01\x03",
    "objects": encoded(1, "array", "|O", [3]),
    "objects in a record": encoded(1, "array", [8, False, [["x", 0, "|O"]]], [1]),
    "a Python expression": encoded(1, "array", "__import__('os').system('true')", [3]),
    "a list of types": encoded(1, "array", "i4,f8", [3]),
    "a type by its name": encoded(1, "array", "float64", [3]),
    "this machine's order": encoded(1, "array", "=f8", [3]),
    "no such type": encoded(1, "array", "<f3", [3]),
    "no such unit": encoded(1, "array", "<M8[foo]", [3]),
    "a huge element": encoded(1, "array", "|S2147483647", [1 << 20]),
    "an element too long for NumPy": encoded(1, "array", "|S9999999999", [1]),
    "no element": encoded(1, "array", "|S0", [3]),
    "a huge field": encoded(1, "array", [2, False, [["x", 0, ["<f8", [1 << 30, 1 << 30]]]]], [1]),
    "a field outside": encoded(1, "array", [8, False, [["x", 4, "<f8"]]], [1]),
    "a field before": encoded(1, "array", [8, False, [["x", -4, "<f4"]]], [1]),
    "a field twice": encoded(1, "array", [8, False, [["x", 0, "<f4"], ["x", 4, "<f4"]]], [1]),
    "a field without a name": encoded(1, "array", [8, False, [[5, 0, "<f4"]]], [1]),
    "a field of five parts": encoded(1, "array", [8, False, [["x", 0, "<f4", 1, 2]]], [1]),
    "no fields in a record": encoded(1, "array", [8, False, []], [1]),
    "a record that is too long": encoded(1, "array", [1 << 40, False, [["x", 0, "<f4"]]], [1]),
    "an array as an element": encoded(1, "array", ["<f8", [3]], [1]),
    "a negative size": encoded(1, "array", "<f8", [-1]),
    "a size that is no number": encoded(1, "array", "<f8", ["3"]),
    "a size that is a truth": encoded(1, "array", "<f8", [True]),
    "a size with a point": encoded(1, "array", "<f8", [3.0]),
    "a shape that is no list": encoded(1, "array", "<f8", 3),
    "too many dimensions": encoded(1, "array", "<f8", [1] * 65),
    "a product beyond 64 bits": encoded(1, "array", "<f8", [1 << 32, 1 << 32]),
    "a product that wraps to something small": encoded(1, "array", "<f8", [1 << 61, 8]),
    "huge sizes beside a zero": encoded(1, "array", "<f8", [0, 1 << 40, 1 << 40]),
    "more than its block": encoded(1, "array", "<f8", [9]),
    "far more than its block": encoded(1, "array", "<f8", [1 << 50]),
    "a very deep type": encoded(1, "array", "<f8", [1]).replace(
        b"\xa3<f8", b"\x92" * 500 + b"\xa3<f8" + b"\x91\x01" * 500
    ),
    "megabytes": encoded(1, "array", "<f8", [1] * (1 << 20)),
    "a list with more": LIST_META + b"\0",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_an_array_is_damage_and_costs_nothing(pool: Pool, lie: str) -> None:
    pool["whole"] = np.arange(4)
    put(pool, LIES[lie])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PoolCorrupt, match=f"^{pool.path}: .*restore the pool from a copy"):
        pool["x"]
    with pytest.raises(PoolCorrupt), pool.transaction() as tx:
        tx["x"]
    with pytest.raises(PoolCorrupt), pool.transaction() as tx:
        tx["x"] = 1
    (problem,) = pool.verify()
    assert problem.startswith("value/x: ")
    assert pool["whole"].tolist() == [0, 1, 2, 3]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
    assert sorted(pool) == ["whole", "x"]


def test_a_long_description_is_not_even_parsed(pool: Pool) -> None:
    put(pool, LIES["megabytes"])
    with pytest.raises(PoolCorrupt, match=r"\d+ bytes describe it"):
        pool["x"]


@pytest.mark.parametrize(
    "text", ["|f8", "<i1", "<M8[1s]", ">S3", "=f8", "f8", "a5", "i4,i4", "(2,)i4", "<f8 ", "O", "T"]
)
def test_only_the_one_text_of_a_type_is_a_type(text: str) -> None:
    with pytest.raises(ValueError, match="no plain element type"):
        rebuild(text)


def test_another_format_is_named(pool: Pool) -> None:
    put(pool, encoded(2, "array", "<f8", [3], "something new"))
    with pytest.raises(PoolVersion, match="a value has format 2, this release reads 1"):
        pool["x"]


RUNS: dict[str, tuple[list[int], int, int]] = {
    "less memory than runs": ([0, 8], 8, 15),
    "more memory than runs": ([0], 8, 16),
    "a product beyond 64 bits": ([0, 8, 16, 24], 1 << 62, 0),
    "behind the block": ([64], 8, 8),
    "across its end": ([0, 57], 8, 16),
    "beyond 64 bits": ([(1 << 64) - 4], 8, 8),
}


@pytest.mark.parametrize("runs", RUNS)
def test_the_core_reaches_nothing_outside_a_block_and_its_memory(pool: Pool, runs: str) -> None:
    offsets, run_bytes, length = RUNS[runs]
    with pool.core.transaction() as tx:
        before, block, behind = (tx.create(b"\1" * 64) for _ in range(3))
        memory = np.full(length, 2, np.uint8)
        for access in (tx.load, tx.store):
            with pytest.raises((ValueError, PoolError)):
                access(block, np.array(offsets, np.uint64), run_bytes, memory)
        for other in (before, behind):
            found = np.zeros(64, np.uint8)
            tx.load(other, np.zeros(1, np.uint64), 64, found)
            assert (found == 1).all()


def item(dtype: str, shape: list[int], data: bytes) -> bytes:
    meta = encoded(1, "array", dtype, shape)
    head = len(meta).to_bytes(4, "little") + meta
    return head.ljust(-(-len(head) // 16) * 16, b"\0") + data


BAD_ITEMS: dict[str, bytes] = {
    "too short": b"\1\2",
    "a head longer than the block": (1 << 31).to_bytes(4, "little") + bytes(60),
    "no head": bytes(64),
    "a list within a list": len(LIST_META).to_bytes(4, "little") + LIST_META + bytes(60),
    "data beyond the block": item("<f8", [3], bytes(8)),
    "a shape beyond memory": item("<f8", [1 << 60], bytes(8)),
}


@pytest.mark.parametrize("bad", BAD_ITEMS)
def test_a_bad_item_is_damage(pool: Pool, bad: str) -> None:
    tx = pool.core.transaction()
    directory = np.zeros(8, "<u8")
    directory[:3] = 2, tx.create(item("<f8", [1], bytes(8))), tx.create(BAD_ITEMS[bad])
    tx.set("value/x", LIST_META, tx.create(directory.tobytes()))
    tx.commit()
    uses = (
        lambda tx: tx["x"][1],
        lambda tx: tx["x"].pop(),
        lambda tx: tx["x"].__setitem__(1, 5),
        lambda tx: list(tx["x"]),
    )
    for use in uses:
        with pytest.raises(PoolCorrupt), pool.transaction() as tx:
            use(tx)
    with pytest.raises(PoolCorrupt):
        pool["x"]
    assert pool.verify()
    with pool.transaction() as tx:
        assert tx["x"][0][...].tolist() == [0]


def test_a_directory_that_lies_is_damage(pool: Pool) -> None:
    tx = pool.core.transaction()
    good = tx.create(item("<f8", [1], bytes(8)))
    directories = {
        "more items than slots": [8, good],
        "2^64-1 items": [(1 << 64) - 1, good],
        "one item twice": [2, good, good],
        "no block": [1, 16],
        "a place outside": [1, 1 << 60],
        "zero": [1, 0],
        "an odd place": [1, good + 1],
    }
    for name, words in directories.items():
        block = tx.create(np.array((words + [0] * 8)[:8], "<u8").tobytes())
        tx.set(f"value/{name}", LIST_META, block)
    tx.set("value/no room", LIST_META, tx.create(b""))
    tx.commit()
    for name in pool:
        with pytest.raises(PoolError):
            pool[name]
        with pytest.raises(PoolError), pool.transaction() as inside:
            del inside[name][:], inside[name]
    assert len(pool.verify()) >= len(directories)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), which=st.sampled_from(["<f8", NESTED, OVERLAPPING]))
def test_changed_meta_is_either_what_it_was_or_an_error(seed: int, which: Any) -> None:
    meta = bytearray(ArrayType(np.dtype(which), (3, 4)).encode())
    chance = random.Random(seed)  # noqa: S311
    for _ in range(chance.randint(1, 3)):
        meta[chance.randrange(len(meta))] = chance.randrange(256)
    try:
        found = parse_meta(bytes(meta))
    except (PoolCorrupt, PoolVersion):
        return
    assert found is not None
    assert found.encode() == meta
    np.dtype(found.dtype)


@settings(max_examples=150, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers(-3, 99) | st.text(max_size=4), st.lists, max_leaves=20))
def test_no_description_makes_anything_but_a_type_or_a_value_error(description: Any) -> None:
    try:
        dtype = rebuild(description)
    except ValueError:
        return
    assert not dtype.hasobject
    assert describe(dtype) == description
