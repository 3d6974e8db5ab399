"""One name for a module's tensor, whether or not the module is compiled or wrapped."""

from __future__ import annotations

from collections.abc import Iterable

_COMPILED = "_orig_mod"
_WRAPPED = "module."
_OF_THE_WRAPPER = frozenset({"n_averaged"})
"""What AveragedModel keeps beside the module that it wraps."""


def canonical(keys: Iterable[str]) -> dict[str, str]:
    """Names the entries of a state dict alike before and after torch.compile, DDP and the like.

    A component ``_orig_mod`` is dropped anywhere, since torch keeps that name for itself. A leading
    ``module.`` is dropped only where every entry has it, so that a submodule that the user named
    ``module`` keeps its name beside others, and loses it on both sides where it is all there is.

    Args:
        keys: The keys of one state dict.

    Returns:
        The key of every name, in the same order. Names that would collide are left as they are.
    """
    keys = list(keys)
    names = [
        ".".join(part for part in key.split(".") if part != _COMPILED) if _COMPILED in key else key for key in keys
    ]
    if len(set(names)) < len(keys):
        names = keys
    while (shorter := _unwrapped(names)) is not None:
        names = shorter
    return dict(zip(names, keys, strict=True))


def _unwrapped(names: list[str]) -> list[str] | None:
    """Returns the names without one wrapper's prefix, if they all have it."""
    inner = [name for name in names if name not in _OF_THE_WRAPPER]
    if not inner or not all(name.startswith(_WRAPPED) for name in inner):
        return None
    shorter = [name.removeprefix(_WRAPPED) for name in names]
    return shorter if len(set(shorter)) == len(names) else None
