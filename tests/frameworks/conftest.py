"""A key for the examples."""

from __future__ import annotations

from pathlib import Path

import pytest
from plinius import Key


@pytest.fixture
def key(folder: Path) -> Path:
    """A key file."""
    path = folder / "job.key"
    Key.generate().save(path)
    return path
