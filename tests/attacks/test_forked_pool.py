"""Attack: a copy of the job runs on elsewhere. Stopped by: each life begins an epoch; the anchor moves for one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from brokers import Desk, life, lived
from plinius.errors import RollbackError


def test_the_copy_that_was_started_later_goes_on_and_the_other_is_fenced_off(desk: Desk, path: Path) -> None:
    with life(desk, path, 2) as first:
        copy = Path(shutil.copy(path, path.with_suffix(".copy")))
        with life(desk, copy, 4):
            with pytest.raises(RollbackError):
                first.save(3)
            assert first.latest_step() == 2
    with pytest.raises(RollbackError), life(desk, path, 9):
        pass
    lived(desk, copy, 5)


def test_two_that_begin_together(desk: Desk, path: Path) -> None:
    with life(desk, path, 0) as first, life(desk, path.with_suffix(".copy"), 0) as second:
        first.save(1)
        with pytest.raises(RollbackError):
            second.save(1)
        first.save(2)
