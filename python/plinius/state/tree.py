"""Python values to bytes and back, exactly: no class is ever named by the bytes, so none is ever imported.

Scalars are themselves in msgpack and a dict with plain string keys is a map. Everything else is an array
that starts with its tag, such as ``["list", 1, 2]``, so that no value can be mistaken for another.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeAlias

import msgspec
import numpy as np

from plinius.errors import ConfigError, IntegrityError

Node: TypeAlias = "bool | int | float | str | bytes | list[Node] | dict[str, Node] | None"
EncodeForeign: TypeAlias = Callable[[object, str], "list[Node] | None"]
DecodeForeign: TypeAlias = Callable[["list[Node]"], object]

MAX_DEPTH = 100
_SURROGATES = re.compile("[\ud800-\udfff]")
"""They are in no valid text: a path that had one could be neither sealed nor printed."""
NUMPY_KINDS = "?bhilqpBHILQPefdgFDGmMSU"
"""The type characters of NumPy elements whose bytes are the whole value."""

_FACTORIES: dict[str, Callable[[], Any] | None] = {
    "": None,
    **{factory.__name__: factory for factory in (bool, bytes, dict, float, int, list, set, str, tuple)},
}


def refuse(path: str, what: str) -> NoReturn:
    """Refuses a value that would not come back as it was.

    Args:
        path: Where it is in the state.
        what: What it is, such as ``a Foo``.

    Raises:
        ConfigError: Always.
    """
    raise ConfigError(f"{path}: {what} cannot be mirrored exactly; give it state_dict()/load_state_dict()")


def named(value: object) -> str:
    """Names a value's type for a message, such as ``a Foo``."""
    return f"a {type(value).__qualname__}"


def join(path: str, key: object) -> str:
    """Returns the path of an entry of the container at ``path``."""
    if isinstance(key, str):
        return f"{path}/{key if key.isascii() or not _SURROGATES.search(key) else ascii(key)}"
    return f"{path}/{key if isinstance(key, int) else repr(key)}"


def dumps(node: Node) -> bytes:
    """Returns a node as msgpack."""
    try:
        return msgspec.msgpack.encode(node)
    except UnicodeEncodeError as error:
        raise ConfigError(f"the name {error.object!r} cannot be mirrored: it is not valid Unicode") from None


def loads(data: bytes) -> Node:
    """Reads what `dumps` wrote.

    Raises:
        IntegrityError: The bytes are not exactly one node as `dumps` writes it.
    """
    try:
        node: Node = msgspec.msgpack.decode(data)
        exact = msgspec.msgpack.encode(node) == data
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise IntegrityError(f"the mirrored structure cannot be read: {error}") from None
    if not exact:
        raise IntegrityError("the mirrored structure is not in the one form in which it is written")
    return node


def encode(value: object, path: str, foreign: EncodeForeign) -> Node:
    """Turns a value into a node.

    Args:
        value: Scalars and plain containers of them.
        path: Where the value is, for messages and for ``foreign``.
        foreign: Turns a value of any other type (an array) into a tagged node; ``None`` where it cannot.

    Raises:
        ConfigError: A value cannot be written exactly, contains itself or is nested too deeply.
    """
    return _Encoder(foreign).node(value, path)


class _Encoder:
    def __init__(self, foreign: EncodeForeign) -> None:
        self.foreign = foreign
        self.open: set[int] = set()

    def node(self, value: object, path: str) -> Node:
        kind = type(value)
        if kind in _NATIVE:
            return value  # type: ignore[return-value]
        if (own := _OWN.get(kind)) is not None:
            return own(self, value, path)
        if isinstance(value, np.generic) and not isinstance(value, np.void):
            return _numpy_scalar(value)
        tagged = self.foreign(value, path)
        return refuse(path, named(value)) if tagged is None else tagged

    def nested(self, value: Any, path: str) -> Node:
        if id(value) in self.open or len(self.open) >= MAX_DEPTH:
            raise ConfigError(f"{path}: it contains itself, or is nested deeper than {MAX_DEPTH} levels")
        self.open.add(id(value))
        node = self._children(value, path)
        self.open.discard(id(value))
        return node

    def _children(self, value: Any, path: str) -> Node:
        if not isinstance(value, dict):
            return [*_head(value, path), *(self._item(item, path, i) for i, item in enumerate(value))]
        if type(value) is dict and _KEYS_OF_A_MAP.issuperset(map(type, value)) and all(map(str.isascii, value)):
            return {key: self._item(item, path, key) for key, item in value.items()}
        node = _head(value, path)
        for key, item in value.items():
            node.append(self._item(key, path, "(a key)"))
            node.append(self._item(item, path, key))
        return node

    def _item(self, value: object, path: str, key: object) -> Node:
        """Returns the node of an entry; most are scalars, whose path nobody asks for."""
        kind = type(value)
        return _int(value) if kind is int else self.node(value, "" if kind in _NATIVE else join(path, key))


def _head(value: object, path: str) -> list[Node]:
    if isinstance(value, deque):
        return ["deque", value.maxlen]
    if isinstance(value, defaultdict):
        factory = value.default_factory
        name = getattr(factory, "__name__", "") if factory else ""
        if name not in _FACTORIES or _FACTORIES[name] is not factory:
            refuse(path, f"a defaultdict of {factory!r}")
        return ["defaultdict", name]
    return [_CONTAINERS[type(value)]]


def _int(value: Any) -> Node:
    if -(1 << 63) <= value < 1 << 64:
        return int(value)
    return ["int", value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)]


def _str(value: Any) -> Node:
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError:  # a lone surrogate, as in a file name that is not UTF-8
        return ["str", value.encode("utf-8", "surrogatepass")]
    return str(value)


def _numpy_scalar(value: np.generic) -> Node:
    if isinstance(value, np.str_):
        return ["str_", value.encode("utf-8", "surrogatepass")]
    if isinstance(value, np.bytes_):
        return ["bytes_", bytes(value)]
    return ["scalar", value.dtype.str, value.tobytes()]


def inline_array(array: np.ndarray[Any, Any], path: str) -> list[Node]:
    """Returns the node of an array that is written with its elements, not as a reference to a buffer.

    Raises:
        ConfigError: It is of a subclass, or its elements are objects or records.
    """
    if type(array) is not np.ndarray:
        refuse(path, named(array))
    if array.dtype.char not in NUMPY_KINDS or array.itemsize == 0:
        refuse(path, f"an array of dtype {array.dtype}")
    return ["array", array.dtype.str, list(array.shape), array.tobytes()]


_KEYS_OF_A_MAP = frozenset({str})
_NATIVE = frozenset({type(None), bool, float, bytes})
_CONTAINERS: dict[type, str] = {
    list: "list",
    tuple: "tuple",
    set: "set",
    frozenset: "frozenset",
    deque: "deque",
    dict: "dict",
    OrderedDict: "OrderedDict",
    Counter: "Counter",
    defaultdict: "defaultdict",
}
_OWN: dict[type, Callable[[_Encoder, Any, str], Node]] = {
    int: lambda _encoder, value, _path: _int(value),
    str: lambda _encoder, value, _path: _str(value),
    complex: lambda _encoder, value, _path: ["complex", value.real, value.imag],
    **dict.fromkeys(_CONTAINERS, _Encoder.nested),
}


def decode(node: Node, foreign: DecodeForeign) -> Any:
    """Turns a node back into the value.

    Args:
        node: What `encode` returned.
        foreign: Turns a node with a tag that is not this module's back into its value.

    Raises:
        IntegrityError: The node is none that `encode` returns.
    """
    try:
        return _decode(node, foreign, 0)
    except (TypeError, ValueError, KeyError, IndexError, OverflowError, AttributeError) as error:
        raise IntegrityError(f"the mirrored structure is malformed: {error!r}") from None


def _decode(node: Node, foreign: DecodeForeign, depth: int) -> Any:
    if isinstance(node, (str, bytes, int, float)) or node is None:
        return node
    if depth > 2 * MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(node, dict):
        return {_typed(key, str): _decode(item, foreign, depth + 1) for key, item in node.items()}
    tag, *rest = node
    if not isinstance(tag, str):
        raise TypeError("a tag must be a string")
    if (scalar := _SCALARS.get(tag)) is not None:
        return scalar(*rest)
    if tag not in _BUILDERS:
        return foreign(node)
    first = 1 if tag in ("deque", "defaultdict") else 0
    items = [_decode(item, foreign, depth + 1) for item in rest[first:]]
    return _BUILDERS[tag](items, *rest[:first])


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"a {kind.__name__} was expected")
    return value


def numpy_dtype(name: Any) -> np.dtype[Any]:
    """Reads the name of an element type whose bytes are the whole value.

    Raises:
        TypeError: The name is none of a plain element type.
    """
    try:
        dtype: np.dtype[Any] = np.dtype(_typed(name, str))
    except (ValueError, SyntaxError) as error:  # what NumPy raises depends on how it misreads the name
        raise TypeError(str(error)) from None
    if dtype.char not in NUMPY_KINDS:
        raise TypeError(f"{name} is no plain element type")
    return dtype


def _read_numpy_scalar(name: Any, data: Any) -> Any:
    return np.frombuffer(_typed(data, bytes), numpy_dtype(name)).reshape(())[()]


def _read_array(name: Any, shape: Any, data: Any) -> Any:
    array = np.frombuffer(_typed(data, bytes), numpy_dtype(name)).reshape(_typed(shape, list)).copy()
    if list(array.shape) != shape:
        raise ValueError(f"an array of shape {shape}")
    return array


def _pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    pairs = list(zip(items[::2], items[1::2], strict=True))
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key is there twice")
    return pairs


def _distinct(items: list[Any]) -> Iterable[Any]:
    if len(set(items)) != len(items):
        raise ValueError("a member is there twice")
    return items


def _deque(items: list[Any], longest: Any) -> deque[Any]:
    return deque(items, longest)


_SCALARS: dict[str, Callable[..., Any]] = {
    "int": lambda data: int.from_bytes(_typed(data, bytes), "little", signed=True),
    "complex": lambda real, imag: complex(_typed(real, float), _typed(imag, float)),
    "str": lambda data: _typed(data, bytes).decode("utf-8", "surrogatepass"),
    "str_": lambda data: np.str_(_typed(data, bytes).decode("utf-8", "surrogatepass")),
    "bytes_": lambda data: np.bytes_(_typed(data, bytes)),
    "scalar": _read_numpy_scalar,
    "array": _read_array,
}
_BUILDERS: dict[str, Callable[..., Any]] = {
    "list": list,
    "tuple": tuple,
    "set": lambda items: set(_distinct(items)),
    "frozenset": lambda items: frozenset(_distinct(items)),
    "deque": _deque,
    "dict": lambda items: dict(_pairs(items)),
    "OrderedDict": lambda items: OrderedDict(_pairs(items)),
    "Counter": lambda items: Counter(dict(_pairs(items))),
    "defaultdict": lambda items, name: defaultdict(_FACTORIES[name], _pairs(items)),
}
