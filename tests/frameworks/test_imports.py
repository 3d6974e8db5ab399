"""Plinius brings no framework along."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import sys, plinius
[getattr(plinius, name) for name in dir(plinius)]
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_importing_plinius_imports_no_framework() -> None:
    loaded = subprocess.run([sys.executable, "-c", _PROGRAM], check=True, capture_output=True, text=True).stdout.split()
    assert "plinius" in loaded
    assert not {"jax", "keras", "ml_dtypes", "optax", "sklearn", "tensorflow", "torch"}.intersection(loaded)
