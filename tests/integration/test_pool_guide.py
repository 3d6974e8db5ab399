"""The guide to the pool: its Python runs as it stands there, one block after the other."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "pool.md"


def test_every_block_of_the_guide_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert len(blocks) == 7
    names: dict[str, object] = {}
    for block in blocks:
        exec(block.replace("/dev/shm/", f"{folder}/"), names)  # noqa: S102, S108
    full, sure = capsys.readouterr().out.splitlines()
    assert "max_bytes" in full
    assert "survives a process crash, not a power failure" in sure
    assert isinstance(names["weights"], np.ndarray)
    assert not names["weights"].flags.writeable
