"""Random generators: the ones that every process has, and generator objects."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plinius.frameworks import torch_if_loaded

_WORDS = struct.Struct("625I")
"""The state of Python's Mersenne Twister: 624 words and a position."""


@dataclass(frozen=True)
class Source:
    """A random generator.

    Args:
        kind: Which state it takes: a state is put back only into a generator of the same kind.
        get: Returns a copy of its state: a tree with arrays.
        put: Takes such a state.
    """

    kind: str
    get: Callable[[], Any]
    put: Callable[[Any], object]


def source_of(value: object) -> Source | None:
    """Returns the generator that a value is, if it is one."""
    if type(value) is random.Random:
        return _python(value)
    if isinstance(value, np.random.Generator):
        return _bits(value.bit_generator)
    if isinstance(value, np.random.BitGenerator):
        return _bits(value)
    if isinstance(value, np.random.RandomState):
        return _legacy_numpy(value, value.get_state(legacy=False)["bit_generator"])
    torch = torch_if_loaded()
    return torch.generator_source(value) if torch is not None else None


def global_sources(*, idle_devices: bool = False) -> dict[str, Source]:
    """Returns the generators of this process by name: Python's, NumPy's, and torch's where it is loaded.

    Args:
        idle_devices: Whether to name those of devices that are not in use yet; they can be put, not read.
    """
    torch = torch_if_loaded()
    return {
        "python": _python(random),
        "numpy": _legacy_numpy(np.random, type(np.random.mtrand.get_bit_generator()).__name__),
        **(torch.global_sources(idle_devices=idle_devices) if torch is not None else {}),
    }


def own_source(loader: object) -> Source | None:
    """Returns the generator that a data loader shuffles with, if it was given one."""
    return source_of(getattr(loader, "generator", None)) if makes_iterators(loader) else None


def makes_iterators(value: object) -> bool:
    """Tells whether a value is a data loader, whose iterators draw from the generators as they are made."""
    return callable(getattr(value, "_get_iterator", None))


def keep_while_iterating_anew(loader: Any, others: Sequence[Source]) -> None:
    """Lets a restored loader make its next iterator without moving any generator.

    The uninterrupted run made that iterator before the save. What it drew then is already in the restored
    states, and must not be drawn again. Later iterators draw as they always do.

    Args:
        loader: A loader whose position was just loaded.
        others: Generator objects of the state, besides the process's own and the loader's.
    """

    def make_iterator(*args: Any, **kwargs: Any) -> Any:
        del loader._get_iterator
        own = own_source(loader)
        sources = [*global_sources().values(), *others, *([own] if own else [])]
        before = [(source, source.get()) for source in sources]
        try:
            return loader._get_iterator(*args, **kwargs)
        finally:
            for source, state in before:
                source.put(state)

    loader._get_iterator = make_iterator


def _python(generator: Any) -> Source:
    def get() -> dict[str, Any]:
        version, words, gauss = generator.getstate()
        return {"version": version, "words": np.frombuffer(_WORDS.pack(*words), np.uint32), "gauss": gauss}

    def put(state: Any) -> None:
        generator.setstate((state["version"], tuple(state["words"].tolist()), state["gauss"]))

    return Source("random.Random", get, put)


def _legacy_numpy(generator: Any, bits: str) -> Source:
    kind = f"numpy.random.RandomState over {bits}"
    return Source(kind, lambda: generator.get_state(legacy=False), generator.set_state)


def _bits(generator: Any) -> Source:
    def put(state: Any) -> None:
        generator.state = state

    return Source(f"numpy.random.{type(generator).__name__}", lambda: generator.state, put)
