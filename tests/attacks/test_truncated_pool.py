"""Attack: the pool's file is cut. Stopped by: its length is in the superblock, and every extent is held against it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from plinius import Key
from plinius.errors import PliniusError
from small_training import Training, trained


def test_a_pool_that_is_cut_anywhere_is_an_error_and_never_another_state(path: Path) -> None:
    key = Key.generate()
    trained(path, key, 2)
    whole = path.read_bytes()
    for length in (*range(1, len(whole), len(whole) // 60), len(whole) - 4096, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(PliniusError):
            Training(path, key, seed=2).restore()
    path.write_bytes(whole)
    assert Training(path, key, seed=2).restore() == 2


def test_a_pool_of_no_length_is_a_new_one(path: Path) -> None:
    """Nothing tells it from one that was never written; an anchor does (test_empty_pool.py)."""
    key = Key.generate()
    trained(path, key, 1)
    os.truncate(path, 0)
    assert Training(path, key, seed=2).restore() is None
