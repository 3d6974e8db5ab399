"""What several files share: a key, a pool, an anchor, and saves that are held up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from anchored import Memory
from holding import Held
from plinius import Pool
from plinius.mirror import saving


@pytest.fixture
def pool(path: Path) -> Iterator[Pool]:
    with Pool(path) as pool:
        yield pool


@pytest.fixture
def anchor() -> Memory:
    return Memory()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    held = Held()
    monkeypatch.setattr(saving, "_core", SimpleNamespace(Writing=held.writing))
    yield held
    held.go_on.set()
