"""Element types as plain data, and back exactly.

A plain type is NumPy's own text (``<f8``); a record is ``[item bytes, is aligned, [[name, offset, type], ...]]``; a
field that is itself an array is ``[type, [size, ...]]``. Nothing in such a description is ever evaluated.
"""

from __future__ import annotations

import re
from typing import Any, Final, NoReturn, TypeAlias, cast

import numpy as np

from plinius.errors import PoolError

Description: TypeAlias = "str | list[Any]"

_PLAIN: Final = re.compile(r"[<>|](?:[biufcSUV][0-9]{1,10}|[mM]8(?:\[[0-9]{0,10}[a-zA-Z]{1,7}\])?)", re.ASCII)
_MAX_DEPTH: Final = 16


def describe(dtype: np.dtype[Any]) -> Description:
    """Describes an element type.

    Raises:
        PoolError: Elements of it could not be put back exactly: they are not plain bytes, or NumPy has no description
            that gives this very type again.
    """
    description = _describe(dtype, dtype)
    try:
        rebuild(description)
    except ValueError as error:
        refuse(dtype, str(error))
    return description


def rebuild(description: object, depth: int = 0) -> np.dtype[Any]:
    """The element type that a description, which anybody may have changed, stands for.

    Raises:
        ValueError: It stands for none that `describe` describes.
    """
    if depth > _MAX_DEPTH:
        raise ValueError("an element type is nested too deeply")
    try:
        if isinstance(description, str):
            return _plain(description)
        if isinstance(description, list):
            return _field_array(description, depth) if len(description) == 2 else _record(description, depth)  # noqa: PLR2004
    except (TypeError, OverflowError, MemoryError) as error:
        raise ValueError(str(error)) from None
    raise ValueError(f"{description!r} is no element type")


def refuse(dtype: np.dtype[Any], why: str) -> NoReturn:
    """Refuses an element type by name.

    Raises:
        PoolError: Always.
    """
    raise PoolError(f"elements of dtype {dtype!r} could not be put back exactly ({why}); convert the array first")


def _describe(dtype: np.dtype[Any], whole: np.dtype[Any]) -> Description:
    if dtype.hasobject:
        refuse(whole, "they are Python objects")
    if dtype.metadata:
        refuse(whole, "it has metadata")
    if dtype.itemsize == 0:
        refuse(whole, "they have no bytes")
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [_describe(base, whole), list(shape)]
    if dtype.fields is None or dtype.names is None:
        return _describe_plain(dtype, whole)
    if dtype.type is not np.void:
        refuse(whole, f"they are instances of {dtype.type.__name__}")
    fields = []
    for name in dtype.names:
        inner, offset, *title = dtype.fields[name]
        if title:
            refuse(whole, f"the field {name!r} has a title")
        fields.append([name, offset, _describe(inner, whole)])
    return [dtype.itemsize, dtype.isalignedstruct, fields]


def _describe_plain(dtype: np.dtype[Any], whole: np.dtype[Any]) -> str:
    try:
        again = np.dtype(dtype.str)
    except TypeError as error:
        refuse(whole, str(error))
    if again != dtype or again.type is not dtype.type:
        refuse(whole, f"NumPy's own description of {dtype.type.__name__} is not the whole of it")
    return dtype.str


def _plain(text: str) -> np.dtype[Any]:
    if not _PLAIN.fullmatch(text):
        raise ValueError(f"{text!r} is no plain element type")
    dtype = np.dtype(text)
    if dtype.hasobject or dtype.str != text or dtype.itemsize == 0:
        raise ValueError(f"{text!r} is no plain element type")
    return dtype


def _field_array(description: list[Any], depth: int) -> np.dtype[Any]:
    base, shape = description
    if depth == 0 or not isinstance(shape, list) or not all(type(size) is int and size > 0 for size in shape):
        raise ValueError(f"{shape!r} is no shape of a field")
    return np.dtype((rebuild(base, depth + 1), tuple(shape)))


def _record(description: list[Any], depth: int) -> np.dtype[Any]:
    itemsize, aligned, fields = description
    if type(itemsize) is not int or type(aligned) is not bool or not fields:
        raise ValueError("a record is malformed")
    columns: dict[str, Any] = {"names": [], "offsets": [], "formats": [], "itemsize": itemsize}
    for name, offset, inner in fields:
        if type(name) is not str or type(offset) is not int or offset < 0:
            raise ValueError(f"the field {name!r} of a record is malformed")
        columns["names"].append(name)
        columns["offsets"].append(offset)
        columns["formats"].append(rebuild(inner, depth + 1))
    dtype: np.dtype[Any] = np.dtype(cast(Any, columns), align=aligned)
    return dtype
