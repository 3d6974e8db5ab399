"""The programs of bench/: each can at least be loaded, so that none rots unseen."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

PROGRAMS = sorted(Path(__file__).parents[2].joinpath("bench").glob("*.py"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_it_loads(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(program.parent))
    assert "main" in runpy.run_path(str(program), run_name="loaded") or program.stem == "runs"
