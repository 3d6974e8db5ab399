"""What the bits of a result depend on besides the state, so that a difference can be named at restore."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from functools import cache
from typing import Final

import numpy as np

from plinius.frameworks import torch_if_loaded

_VARIABLES: Final = (
    *("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE", "OPENBLAS_CORETYPE"),
    *("CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
)
"""By these libraries are told which kernels to run."""


def environment() -> dict[str, str]:
    """Returns versions, thread counts, CPU and GPU, and the flags that change which kernels run."""
    torch = torch_if_loaded()
    is_flushed = sys.float_info.min / 2 == 0.0  # as `torch.set_flush_denormal` lets this thread's FPU do
    return {
        **_of_the_process(),
        **({"denormal numbers": "flushed to zero"} if is_flushed else {}),
        **(torch.environment() if torch is not None else {}),
    }


@cache
def _of_the_process() -> dict[str, str]:
    """What stays as it is; libraries read their variables when they are loaded."""
    return {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        **{name: os.environ[name] for name in _VARIABLES if name in os.environ},
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
