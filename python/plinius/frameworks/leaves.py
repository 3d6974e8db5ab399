"""Arrays of frameworks that Plinius does not know by heart: their bytes, their names, and what they must be like."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from plinius.errors import ConfigError, IntegrityError
from plinius.mirror import ExactnessWarning
from plinius.state.environment import differences
from plinius.state.tree import NUMPY_KINDS

Array: TypeAlias = np.ndarray[Any, Any]
Abstract: TypeAlias = tuple[tuple[int, ...], str]
"""Shape and dtype."""

_SHOWN = 5


def bits_of(array: Array, path: str) -> Array:
    """Returns an array whose elements NumPy knows: itself, or a view of a narrow float's bits as whole numbers.

    Raises:
        ConfigError: Its elements are objects or records.
    """
    if array.dtype.char in NUMPY_KINDS:
        return array
    if _narrow(array.dtype.name) != array.dtype:
        raise ConfigError(f"{path}: an array of dtype {array.dtype} cannot be mirrored exactly; leave it out")
    return array.view(f"u{array.itemsize}")


def array_of(bits: Array, dtype: str) -> Array:
    """Returns the array whose bits `bits_of` returned.

    Raises:
        IntegrityError: There is no such dtype.
    """
    if dtype in (bits.dtype.name, bits.dtype.str):
        return bits
    narrow = _narrow(dtype)
    if narrow is None or narrow.itemsize != bits.itemsize:
        raise IntegrityError(f"the mirrored structure is malformed: {bits.dtype} holds the bits of {dtype!r}")
    return bits.view(narrow)


def _narrow(name: str) -> np.dtype[Any] | None:
    """Returns the element type that ml_dtypes, which every such framework brings along, adds to NumPy."""
    import ml_dtypes  # noqa: PLC0415 (NumPy alone, as under scikit-learn, does without)

    try:
        narrow: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    except (AttributeError, TypeError):
        return None
    return narrow


def check_alike(what: str, saved: Mapping[str, Abstract], now: Mapping[str, Abstract], advice: str = "") -> None:
    """Holds the names, shapes and dtypes that were saved against those that are there now.

    Raises:
        ConfigError: They differ; the message counts the differences and names the first few.
    """
    found = [f"{path}: {text}" for path in {**saved, **now} if (text := _difference(saved.get(path), now.get(path)))]
    if not found:
        return
    count = "1 difference" if len(found) == 1 else f"{len(found)} differences"
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    shown = "; ".join(found[:_SHOWN])
    raise ConfigError(f"{what} is not the one that was mirrored, it was not changed ({count}): {shown}{more}{advice}")


def _difference(saved: Abstract | None, now: Abstract | None) -> str:
    if saved is None or now is None:
        return "missing now" if now is None else "unexpected now"
    if saved[0] != now[0]:
        return f"shape {list(saved[0])} then, {list(now[0])} now"
    return f"dtype {saved[1]} then, {now[1]} now" if saved[1] != now[1] else ""


def warn_of_differences(saved: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Warns of what makes the bits of a framework's results differ."""
    for difference in differences(saved, now):
        warnings.warn(f"not exact: {difference}", ExactnessWarning, stacklevel=4)


def processors() -> str:
    """Returns how many CPUs this process may use, by which frameworks choose their threads."""
    return str(len(os.sched_getaffinity(0)))
