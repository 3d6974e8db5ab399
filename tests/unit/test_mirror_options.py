"""What a mirror is given: what it refuses at once, so that no later save or restore stumbles over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plinius import Key, Mirror, Pool
from plinius.errors import ConfigError, PliniusError
from plinius.mirror import read_facts

pytestmark = pytest.mark.filterwarnings("ignore::plinius.mirror.RollbackWarning")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every=0"),
        ({"every": "10"}, "every='10'"),
        ({"every": None}, "every=None"),
        ({"keep": 0}, "keep=0"),
        ({"keep": 2.5}, "keep=2.5"),
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": 5}, "name"),
        ({"name": None}, "name"),
        ({"facts": [1]}, "facts are a dict"),
        ({"facts": {"x": [1]}}, "facts: 'x': a list"),
        ({"facts": {"x": b""}}, "facts: 'x': a bytes"),
        ({"facts": {1: 1}}, "facts: 1: a int"),
        ({"facts": {"x": np.float32(1)}}, "facts: 'x': a float32"),
        ({"facts": {"x": 1 << 64}}, "facts: 'x' cannot be written"),
        ({"facts": {"x": "\udc80"}}, "facts: 'x' cannot be written"),
        ({"facts": {"\udc80": 1}}, "cannot be written"),
        ({"frozen": 3}, "frozen"),
        ({"frozen": None}, "frozen"),
        ({"anchor": 3}, "anchor"),
        ({"drain_to": 5}, "name a folder or a URL"),
    ],
)
def test_options_out_of_range_are_refused(path: Path, key: Key, options: dict[str, Any], message: str) -> None:
    with Pool(path) as pool, pytest.raises(ConfigError, match=message):
        Mirror(pool, key, **{"name": "m", "array": [np.zeros(1)], **options})


def test_a_mirror_needs_state(path: Path, key: Key) -> None:
    with Pool(path) as pool, pytest.raises(ConfigError, match="needs state"):
        Mirror(pool, key, name="m")


def test_numpys_whole_numbers_are_whole_numbers(path: Path, key: Key) -> None:
    with Pool(path) as pool, Mirror(pool, key, name="m", every=np.int64(2), array=[np.zeros(1)]) as mirror:
        assert (mirror.save(1), mirror.save(2)) == (False, True)


def test_every_fact_that_is_taken_comes_back(path: Path, key: Key) -> None:
    facts = {"amp": True, "seed": -7, "large": (1 << 64) - 1, "rate": 0.5, "inf": float("inf"), "none": None, "é": ""}
    with Pool(path) as pool:
        Mirror(pool, key, name="m", facts=facts, array=[np.zeros(3)]).save(1)
        assert read_facts(pool, key, "m") == facts
        assert Mirror(pool, key, name="m", array=[np.zeros(3)]).restore() == 1


def test_a_closed_mirror_says_so(path: Path, key: Key) -> None:
    with Pool(path) as pool:
        with Mirror(pool, key, name="m", array=[np.zeros(1)]) as mirror:
            mirror.save(1)
        for refused in (lambda: mirror.save(2), mirror.restore):
            with pytest.raises(PliniusError, match="closed"):
                refused()
