"""Names of a package that are loaded when they are first used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module


def loading(package: str, home: Mapping[str, str]) -> Callable[[str], object]:
    """Returns the ``__getattr__`` of a package.

    Args:
        package: Its name.
        home: In which of its modules each name is.
    """

    def load(name: str) -> object:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{home[name]}"), name)

    return load
