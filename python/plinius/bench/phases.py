"""What a save and a restore spend their time on, without a clock in the code that is measured.

The core's `Writing` and `Reading`, the pool's reservation, and the two functions of `plinius.state` that they are fed
from, are replaced by ones that look at the clock and then do the same.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pkgutil import resolve_name
from typing import Any, Final

Spent = dict[str, float]
"""Seconds by the name of what was called."""

_TIMED_CLASSES: Final = (
    ("plinius._core", "Writing"),
    ("plinius._core", "Reading"),
    ("plinius.pool.opened:OpenPool", "reserve"),
)
_TIMED_FUNCTIONS: Final = (("plinius.state", "capture"), ("plinius.state", "plan_restore"))
NAMES: Final = {
    "capture": "gather",
    "more": "take space",
    "seal": "seal and write",
    "seal_manifest": "manifest",
    "commit": "flip",
    "open_manifest": "manifest",
    "plan_restore": "plan",
    "open": "read and open",
}
"""What the reports call them."""


@contextmanager
def watched() -> Iterator[Spent]:
    """Measures what is called meanwhile."""
    spent: Spent = defaultdict(float)
    replaced = []
    for places, wrap in ((_TIMED_CLASSES, _timed_class), (_TIMED_FUNCTIONS, _timed)):
        for place, name in places:
            module = resolve_name(place)
            original = getattr(module, name)
            replaced.append((module, name, original))
            setattr(module, name, wrap(original, name, spent))
    try:
        yield spent
    finally:
        for module, name, original in replaced:
            setattr(module, name, original)


def _timed(function: Callable[..., Any], name: str, spent: Spent) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        begun_s = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            spent[NAMES.get(name, name)] += time.perf_counter() - begun_s

    return call


def _timed_class(kind: Callable[..., Any], _: str, spent: Spent) -> Callable[..., Any]:
    return lambda *arguments, **options: Timed(kind(*arguments, **options), spent)


class Timed:
    """An object whose methods are timed."""

    def __init__(self, inner: Any, spent: Spent) -> None:
        self._inner, self._spent = inner, spent

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        return _timed(value, name, self._spent) if callable(value) else value
