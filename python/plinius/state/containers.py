"""Plain containers replaced in place, so that whoever holds them sees the restored values."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from typing import Any

from plinius.frameworks import torch_if_loaded
from plinius.state.arrays import library_of
from plinius.state.generators import source_of

DICTS = (dict, OrderedDict, defaultdict, Counter)
"""The kinds of dict whose contents are all there is to them."""


def is_stateful(value: object) -> bool:
    """Tells whether a value is an object that hands out its state and takes it back."""
    return (
        not isinstance(value, type)
        and callable(getattr(value, "state_dict", None))
        and callable(getattr(value, "load_state_dict", None))
    )


def is_module(value: object) -> bool:
    """Tells whether a value is a torch module."""
    torch = torch_if_loaded()
    return torch is not None and bool(torch.is_module(value))


def is_optimizer(value: object) -> bool:
    """Tells whether a value is a torch optimizer."""
    torch = torch_if_loaded()
    return torch is not None and bool(torch.is_optimizer(value))


def holds_live(value: object) -> bool:
    """Tells whether a value is, or holds, something that is restored through the object itself."""
    if library_of(value) is not None or source_of(value) is not None or is_stateful(value):
        return True
    if isinstance(value, dict):
        return any(map(holds_live, value.values()))
    return isinstance(value, (list, tuple)) and any(map(holds_live, value))


def merged(saved: Any, live: Any) -> Any:
    """Puts saved plain values in place of live ones.

    Returns:
        ``live`` itself with the saved contents, where both are dicts or lists of one type; else ``saved``.
    """
    if type(saved) is not type(live):
        return saved
    if type(saved) in DICTS:
        contents = {key: merged(item, live.get(key)) for key, item in saved.items()}
        live.clear()
        live.update(contents)
        return live
    if type(saved) is list:
        live[:] = [*map(merged, saved, live), *saved[len(live) :]]
        return live
    return saved
