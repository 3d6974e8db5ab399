"""The encoding of plain values: exact for what it takes, strict in what it reads."""

from __future__ import annotations

import contextlib
import enum
import math
import struct
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plinius.errors import ConfigError, IntegrityError
from plinius.frameworks.torch import decode_value, encode_value
from plinius.state.tree import MAX_DEPTH, decode, dumps, encode, inline_array, loads


def torch_value(value: object, _: str) -> Any:
    return encode_value(value)


def round_trip(value: object) -> Any:
    return decode(loads(dumps(encode(value, "x", torch_value))), lambda node: decode_value(*node[1:]))


def bits(value: object) -> Any:  # noqa: PLR0911
    """Returns a value in which every float is its bits, and every container names its type and order."""
    if isinstance(value, np.generic):
        return type(value), value.dtype.str, value.tobytes()
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, complex):
        return struct.pack("<dd", value.real, value.imag)
    if isinstance(value, dict):
        factory = value.default_factory if isinstance(value, defaultdict) else None
        return type(value), factory, [(bits(key), bits(item)) for key, item in value.items()]
    if isinstance(value, (set, frozenset)):
        return type(value), sorted(repr(bits(item)) for item in value)
    if isinstance(value, (list, tuple, deque)):
        return type(value), getattr(value, "maxlen", None), [bits(item) for item in value]
    return type(value), value


numpy_scalars = st.sampled_from(
    [
        np.float32(-0.0), np.float64("nan"), np.float16(1.5), np.longdouble(1) / 3, np.complex64(1 - 2j),
        np.int8(-3), np.uint64(2**64 - 1), np.bool_(True), np.str_("ü"), np.str_(""), np.bytes_(b"\0a"),
        np.datetime64("2024-02-29T01:02:03", "us"), np.timedelta64(5, "D"), np.float32(7).astype(">f4"),
    ]
)  # fmt: skip
torch_values = st.sampled_from(
    [
        torch.bfloat16,
        torch.float8_e4m3fn,
        torch.device("cuda:3"),
        torch.device("cpu"),
        torch.Size([]),
        torch.Size([2, 3]),
    ]
)
keys = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.complex_numbers()
    | torch_values
    | st.tuples(st.integers(), st.text())
    | st.frozensets(st.integers())
)
values = st.recursive(
    keys | numpy_scalars,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(keys, inner)
        | st.dictionaries(st.text(), inner)
        | st.dictionaries(st.text(), inner).map(OrderedDict)
        | st.dictionaries(keys, st.integers()).map(Counter)
        | st.dictionaries(keys, inner).map(lambda items: defaultdict(list, items))
        | st.sets(keys)
        | st.lists(inner).map(lambda items: deque(items, len(items) + 1))
    ),
    max_leaves=20,
)


@given(values)
def test_values_come_back_bit_for_bit(value: object) -> None:
    assert bits(round_trip(value)) == bits(value)


@pytest.mark.parametrize(
    "value",
    [
        2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**400, -(10**400), 255 << 64, -(128 << 64),
        -0.0, math.inf, -math.inf, struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_DEAD_BEEF))[0],
        complex(-0.0, math.nan), "\ud800 lone", {"\ud800": 1}, {"1": 1, 1: 2}, {True: 1, 2: 2},
        defaultdict(None, {1: 2}), defaultdict(dict), deque([1, 2, 3], 2), deque([1]), {math.nan: 1},
        ["tensor", 0], {"tensor": ["tensor", 0]}, ("list", 1), [["list"]],
    ],
)  # fmt: skip
def test_the_odd_ones_come_back_bit_for_bit(value: object) -> None:
    assert bits(round_trip(value)) == bits(value)


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Text(str):
    __slots__ = ()


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    "value",
    [
        Colour.RED, Level.LOW, Text("a"), Point(1, 2), object(), len, int, lambda: 0, range(3), bytearray(b"a"),
        defaultdict(lambda: 0), defaultdict(Colour),
        defaultdict(type("list", (), {})), np.zeros(1, [("a", "i4")])[0], np.zeros(2), iter([]),
        np.recarray(1, [("a", "i4")])[0],
    ],
)  # fmt: skip
def test_what_is_not_exact_is_refused_with_its_path(value: object) -> None:
    with pytest.raises(ConfigError, match=r"^x/a/0: a .* cannot be mirrored exactly"):
        encode({"a": [value]}, "x", torch_value)


def test_recursion_is_bounded() -> None:
    cycle: dict[str, object] = {}
    cycle["again"] = cycle
    with pytest.raises(ConfigError, match="x/again: it contains itself"):
        encode(cycle, "x", torch_value)
    deep: list[object] = []
    for _ in range(MAX_DEPTH - 1):
        deep = [deep]
    assert bits(round_trip(deep)) == bits(deep)
    with pytest.raises(ConfigError, match="nested deeper"):
        encode([deep], "x", torch_value)


def test_a_value_that_is_there_twice_is_no_cycle() -> None:
    shared = [1]
    assert round_trip([shared, shared]) == [[1], [1]]


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    read(data)


@given(values, st.data())
def test_changed_bytes_are_read_or_refused(value: object, data: st.DataObject) -> None:
    written = bytearray(dumps(encode(value, "x", torch_value)))
    place = data.draw(st.integers(0, len(written) - 1))
    written[place] ^= data.draw(st.integers(1, 255))
    read(bytes(written))


def tagged(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    tags = st.sampled_from(
        ["int", "str", "complex", "scalar", "str_", "set", "dict", "deque", "defaultdict", "Counter", "torch"]
    )
    return st.builds(lambda tag, rest: [tag, *rest], tags, st.lists(inner, max_size=4))


nodes = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | tagged(inner),
)


@given(nodes)
def test_any_node_is_read_or_refused(node: Any) -> None:
    read(dumps(node))


def read(data: bytes) -> None:
    with contextlib.suppress(IntegrityError):
        decode(
            loads(data),
            lambda node: decode_value(*node[1:]) if node[0] == "torch" and node[1:] else unknown(),
        )


def unknown() -> None:
    raise IntegrityError("an unknown tag")


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xc1", b"\x91" * 100_000, b"\xdd\xff\xff\xff\xff", b"\x01\x01", b"\xcc\x01", b"\xca\0\0\0\0",
        b"\x81\x91\x01\x01", b"\xd6\xff\0\0\0\0", b"\xc7\x00\x05", b"\x82\xa1a\x01\xa1a\x01", b"\xa1\xff",
    ],
)  # fmt: skip
def test_malformed_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        decode(loads(data), lambda node: unknown())


@pytest.mark.parametrize(
    "node",
    [
        [], [1], [None], ["int", 1], ["int"], ["complex", 1, 2.0], ["str", "a"], ["scalar", "O", b"12345678"],
        ["scalar", "i4,i4", b"12345678"], ["scalar", "<f4", b"123"], ["scalar", 4, b"1234"], ["set", 1, 1],
        ["dict", 1], ["dict", 1, 2, 1, 3], ["dict", ["list"], 1], ["deque"], ["deque", "a"], ["frozenset", ["list"]],
        ["defaultdict", "eval"], ["torch", "dtype", "load"], ["torch", "device", "nowhere"], ["torch", "Size", "a"],
        ["torch", "nn"], ["torch", "dtype"], ["unknown"],
        ["array"], ["array", "<f4", [1]], ["array", "<f4", [2], b"1234"],
        ["array", "O", [1], b"12345678"], ["array", "<f4", 1, b"1234"], ["array", "<f4", ["a"], b"1234"],
        ["array", "<f4", [-1], b"1234"], ["array", "<f4", [1], "1234"],
    ],
)  # fmt: skip
def test_malformed_nodes_are_refused(node: Any) -> None:
    with pytest.raises(IntegrityError):
        decode(node, lambda tagged: decode_value(*tagged[1:]) if tagged[0] == "torch" else unknown())


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">u2").reshape(2, 3),
        np.zeros((0, 4)),
        np.array(5, np.int8),
        np.arange(9.0)[::2],
        np.array("ü"),
    ],
)
def test_an_array_in_the_tree_comes_back(array: np.ndarray[Any, Any]) -> None:
    back = decode(loads(dumps(inline_array(array, "x"))), lambda node: unknown())
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert back.flags.writeable


@pytest.mark.parametrize(
    ("array", "named"),
    [
        (np.array([None]), "an array of dtype object"),
        (np.zeros(2, "i4,i4"), "an array of dtype"),
        (np.ma.masked_array([1, 2], [True, False]), "a MaskedArray"),
    ],
)
def test_what_would_not_come_back_is_refused_in_the_tree(array: np.ndarray[Any, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=f"x: {named}"):
        inline_array(array, "x")


def test_deep_nodes_are_refused() -> None:
    node: Any = ["list"]
    for _ in range(100_000):
        node = ["list", node]
    with pytest.raises(IntegrityError):
        decode(node, lambda tagged: unknown())


def test_a_name_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(ConfigError, match="not valid Unicode"):
        dumps({"\ud800": 1})
