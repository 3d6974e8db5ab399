"""Darknet networks: ``.cfg`` files, ``.weights`` files, and training with Darknet's semantics on PyTorch.

``cfg`` and ``schedule`` need no PyTorch, so that a network's description can be read where none is installed;
everything else is imported when its name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from plinius.darknet.cfg import Config, parse
from plinius.darknet.schedule import Schedule

if TYPE_CHECKING:
    from plinius.darknet.network import Network
    from plinius.darknet.optimizer import accumulate_gradients, make_optimizer, set_rate

__all__ = ["Config", "Network", "Schedule", "accumulate_gradients", "make_optimizer", "parse", "set_rate"]

_NEEDS_TORCH = {
    "Network": "plinius.darknet.network",
    "accumulate_gradients": "plinius.darknet.optimizer",
    "make_optimizer": "plinius.darknet.optimizer",
    "set_rate": "plinius.darknet.optimizer",
}


def __getattr__(name: str) -> object:
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_NEEDS_TORCH[name]), name)
