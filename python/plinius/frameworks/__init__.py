"""What Plinius knows of each framework, loaded only where the framework itself is."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

from plinius.errors import ConfigError


def torch_if_loaded() -> ModuleType | None:
    """Returns `plinius.frameworks.torch`, or ``None`` while nobody has imported torch."""
    if "torch" not in sys.modules:
        return None
    return sys.modules.get("plinius.frameworks.torch") or import_module("plinius.frameworks.torch")


def import_torch() -> ModuleType:
    """Returns `plinius.frameworks.torch`, for a state that was saved with torch.

    Raises:
        ConfigError: torch is not installed.
    """
    try:
        return torch_if_loaded() or import_module("plinius.frameworks.torch")
    except ModuleNotFoundError as error:
        raise ConfigError(f"the mirror holds state of torch, but {error}; install torch") from None
