"""Attack: the pool is put back to an older copy. Stopped by: the anchor knows the newest generation's digest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from brokers import POLICY, Desk, life, lived
from plinius.errors import PolicyError, RollbackError


def test_every_older_copy_is_refused_and_the_newest_goes_on(desk: Desk, path: Path) -> None:
    copies = []
    for step in (1, 2, 3, 5, 8):
        lived(desk, path, step)
        copies.append(shutil.copy(path, path.with_suffix(f".{step}")))
    for copy in copies[:-1]:
        with pytest.raises(RollbackError, match="the pool was put back"), life(desk, Path(copy), 9):
            pass
    lived(desk, Path(copies[-1]), 9)


def test_an_older_copy_after_the_broker_was_killed(desk: Desk, path: Path) -> None:
    lived(desk, path, 1)
    older = Path(shutil.copy(path, path.with_suffix(".older")))
    lived(desk, path, 2)
    desk.start()
    with pytest.raises(RollbackError), life(desk, older, 9):
        pass


def test_a_kept_older_generation_is_no_way_around(desk: Desk, path: Path) -> None:
    """The pool keeps two generations; the anchor knows one of them."""
    lived(desk, path, 3)
    with life(desk, path, 3) as mirror, pytest.raises(PolicyError):
        mirror.restore(2)
    desk.with_policy(POLICY + "going_back = true\n")
    with life(desk, path, 3) as mirror:
        assert mirror.restore(2) == 2
    assert "went back" in desk.events()
