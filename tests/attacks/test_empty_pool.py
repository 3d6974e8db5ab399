"""Attack: a new, empty pool in the place of a job's. Stopped by: the anchor knows that there was one."""

from __future__ import annotations

from pathlib import Path

import pytest
from brokers import Desk, life, lived
from plinius.errors import RollbackError


def test_an_empty_pool_is_refused_once_anything_was_anchored(desk: Desk, path: Path) -> None:
    lived(desk, path, 1)
    with pytest.raises(RollbackError, match="holds nothing of this job"), life(desk, path.with_suffix(".new"), 1):
        pass


def test_so_is_a_pool_with_a_job_of_the_same_name(desk: Desk, path: Path, tmp_path: Path) -> None:
    lived(desk, path, 1)
    other = Desk(tmp_path / "other.sqlite", identity=desk.identity, key=desk.key)
    lived(other, path.with_suffix(".other"), 1)
    with pytest.raises(RollbackError, match="another copy"), life(desk, path.with_suffix(".other"), 1):
        pass
