"""What several files share: a key, the place of a pool, and an anchor."""

from __future__ import annotations

from pathlib import Path

import pytest
from anchored import Memory
from plinius import Key


@pytest.fixture
def key() -> Key:
    return Key.generate()


@pytest.fixture
def path(folder: Path) -> Path:
    """A pool that does not exist yet."""
    return folder / "job.pool"


@pytest.fixture
def anchor() -> Memory:
    return Memory()
