"""What the tests of several parts share: a key, and where a pool may be."""

from __future__ import annotations

from pathlib import Path

import pytest
from plinius import Key


@pytest.fixture
def key() -> Key:
    return Key.generate()


@pytest.fixture
def path(folder: Path) -> Path:
    """A pool that does not exist yet."""
    return folder / "job.pool"
