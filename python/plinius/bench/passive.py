"""Threads of OpenMP that wait without using the CPU, as in the enclave: else what is measured next fights with them."""

from __future__ import annotations

import os
import sys


def wait_passively() -> None:
    """Starts this very program again with that setting, unless it has it: it is read when torch is loaded."""
    if os.environ.get("OMP_WAIT_POLICY") != "PASSIVE":
        sys.stdout.flush()
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 (what already runs)
