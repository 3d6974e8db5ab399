"""Reads one value of a ``.cfg`` file: text in, a typed and range-checked value out, or a ``ValueError``.

Darknet reads numbers with C's ``atoi`` and ``atof``, which take ``12abc`` for 12 and ``abc`` for 0. Here a
value that is not wholly a number is refused, because a typing error would otherwise train another network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

INT_MAX = 2**31 - 1
"""Darknet keeps sizes in a C ``int``."""

FLOAT_MAX = 3.4028234663852886e38
"""Darknet keeps numbers in a C ``float``."""

_WHOLE = re.compile(r"[+-]?[0-9]{1,10}")
_NUMBER = re.compile(r"[+-]?([0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?")
_SHOWN_CHARACTERS = 40


def shown(text: str) -> str:
    """Quotes text from the file for a message: escaped and cut, because nobody vouches for it."""
    cut = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
    return ascii(cut)


def _comment_hint(text: str) -> str:
    return " (a comment needs a line of its own)" if "#" in text or ";" in text else ""


def _read_whole(text: str, low: int, high: int) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{shown(text)} is not a whole number{_comment_hint(text)}")
    value = int(text)
    if not low <= value <= high:
        raise ValueError(f"{value} is out of range: give a whole number from {low} to {high}")
    return value


def _read_number(text: str, low: float, below: float) -> float:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{shown(text)} is not a number{_comment_hint(text)}")
    value = float(text)
    if not (low <= value < below and abs(value) <= FLOAT_MAX):
        upper = "" if below > FLOAT_MAX else f" and below {below:g}"
        lower = "within a C float" if low < -FLOAT_MAX else f"of at least {low:g}"
        raise ValueError(f"{shown(text)} is out of range: give a number {lower}{upper}")
    return value


def whole(low: int = 0, high: int = INT_MAX, key: str | None = None) -> dict[str, Any]:
    """Field metadata: a whole number; ``key`` where the ``.cfg`` does not use the field's name."""
    return {"read": lambda text: _read_whole(text, low, high), "key": key}


def flag() -> dict[str, Any]:
    """Field metadata: Darknet's yes or no, any whole number but 0 being yes."""
    return {"read": lambda text: _read_whole(text, -INT_MAX, INT_MAX) != 0, "key": None}


def number(low: float = -FLOAT_MAX * 2, below: float = FLOAT_MAX * 2, key: str | None = None) -> dict[str, Any]:
    """Field metadata: a finite number with ``low <= number < below``."""
    return {"read": lambda text: _read_number(text, low, below), "key": key}


def positive() -> dict[str, Any]:
    """Field metadata: a finite number above zero."""

    def read(text: str) -> float:
        value = _read_number(text, 0.0, FLOAT_MAX * 2)
        if value == 0.0:
            raise ValueError(f"{shown(text)} is out of range: give a number above 0")
        return value

    return {"read": read, "key": None}


def choice(kind: type[StrEnum], refused: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Field metadata: an enumeration's word; ``refused`` says why others of Darknet's are not taken."""

    def read(text: str) -> StrEnum:
        if refused and text in refused:
            raise ValueError(f"{text} {refused[text]}: use one of {', '.join(kind)}")
        try:
            return kind(text)
        except ValueError:
            raise ValueError(f"{shown(text)} is not known: use one of {', '.join(kind)}") from None

    return {"read": read, "key": None}


def series(low: float, *, wholes: bool) -> dict[str, Any]:
    """Field metadata: numbers (or whole numbers) of at least ``low``, separated by commas."""

    def read(text: str) -> tuple[float, ...]:
        if wholes:
            return tuple(_read_whole(part, int(low), INT_MAX) for part in text.split(","))
        return tuple(_read_number(part, low, FLOAT_MAX * 2) for part in text.split(","))

    return {"read": read, "key": None}
