"""The paper's numbers, from the one file that holds them."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from types import MappingProxyType

import msgspec


class Number(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A number of the paper.

    Attributes:
        value: In `unit`.
        unit: Such as MB.
        place: Where the paper says it.
        text: What it is.
    """

    value: int | float
    unit: str
    place: str
    text: str

    def __str__(self) -> str:
        """As reports print it, such as ``78 MB (Fig. 7)``."""
        return f"{self.said} ({self.place})"

    @property
    def said(self) -> str:
        """The value and its unit."""
        return f"{self.value:,}{'' if self.unit in '%x' else ' '}{self.unit}"


def number(key: str) -> Number:
    """A number by its key.

    Raises:
        KeyError: The file has no such number.
    """
    return all()[key]


@cache
def all() -> MappingProxyType[str, Number]:  # noqa: A001 (the module's name says of what)
    """All numbers by their key, such as ``fig7.save_speedup``."""
    text = resources.files("plinius.bench").joinpath("paper.toml").read_text()
    return MappingProxyType(msgspec.convert(tomllib.loads(text), dict[str, Number]))
