"""What the bits of a result depend on besides the state, so that a difference can be named at restore."""

from __future__ import annotations

import platform
from collections.abc import Mapping

import numpy as np

from plinius.frameworks import torch_if_loaded


def environment() -> dict[str, str]:
    """Returns versions, thread counts, CPU and GPU, and the flags that change which kernels run."""
    torch = torch_if_loaded()
    return {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        **(torch.environment() if torch is not None else {}),
    }


def differences(saved: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Compares two environments.

    Args:
        saved: The one of the saved state.
        now: The one of this process.

    Returns:
        One line for each difference, such as ``torch 2.11.0 then, 2.12.0 now``.
    """
    return [
        f"{name} {saved.get(name, 'not in use')} then, {now.get(name, 'not in use')} now"
        for name in {**saved, **now}
        if saved.get(name) != now.get(name)
    ]
