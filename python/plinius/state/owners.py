"""Who writes which array, and when: what an optimizer owns is written by its step alone."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from contextlib import nullcontext
from typing import Any

from plinius.errors import ConfigError
from plinius.frameworks import torch_if_loaded
from plinius.state.arrays import library_of
from plinius.state.containers import is_module
from plinius.state.snapshot import Snapshot
from plinius.state.tree import named


def owned(optimizers: Collection[Any], snapshot: Snapshot) -> set[Hashable]:
    """What identifies those arrays of a snapshot that these optimizers write: their parameters and their own state."""
    torch = torch_if_loaded()
    if torch is None or not optimizers:
        return set()
    # By address and length, which cost less than whole identities do: no two arrays of a state share both.
    spans = {(tensor.data_ptr(), tensor.nbytes) for it in optimizers for tensor in torch.tensors_of_optimizer(it)}
    return {
        identity
        for identity, place in snapshot.places.items()
        if isinstance(identity, tuple) and (identity[0], place.buffer.memory.nbytes) in spans
    }


class NoCopies:
    """Stands for the copies of a GPU's tensors where there is no GPU: everything is in host memory already."""

    collecting = staticmethod(nullcontext)

    def start(self, owned: Collection[Hashable]) -> None:
        """Starts nothing."""

    def wait_for_others(self) -> None:
        """Waits for nothing."""

    def wait(self) -> None:
        """Waits for nothing."""

    def hold_step(self) -> None:
        """Holds nothing up."""


def device_copies() -> Any:
    """What copies a GPU's tensors in the background; `NoCopies` while none is in use."""
    torch = torch_if_loaded()
    return (torch.device_copies() if torch is not None else None) or NoCopies()


def identities(values: object, path: str = "frozen") -> set[Hashable]:
    """What identifies the arrays among these values: arrays, modules, and dicts or lists of them.

    Raises:
        ConfigError: Something else is among them.
    """
    torch = torch_if_loaded()
    if (library := library_of(values)) is not None:
        return {library.identity(values, path)}
    if torch is not None and is_module(values):
        return {torch.TENSORS.identity(it, path) for it in torch.tensors_of_module(values)}
    if isinstance(values, (Mapping, list, tuple, set)):
        items = values.values() if isinstance(values, Mapping) else values
        return set().union(*(identities(item, path) for item in items))
    raise ConfigError(f"{path}: {named(values)} is neither an array nor a module; name tensors, arrays or modules")
