"""Trees that are not as a capture writes them: refused before anything is changed, and never with another error."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plinius.errors import ConfigError, IntegrityError, PoolVersion
from plinius.state import plan_restore
from plinius.state.tree import dumps, loads
from test_state_mirroring import mirror_out


def job() -> dict[str, object]:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.1))
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    mixed = {"a": np.zeros(2), 3: [np.ones(1), "x"], "pair": (np.ones(2), None)}
    return {"model": model, "opt": optimizer, "lr": scheduler, "mixed": mixed, "rng": np.random.default_rng(1)}


STATE = job()
MIRRORED = mirror_out(STATE)


@given(st.integers(0, len(MIRRORED.tree) - 1), st.binary(min_size=1, max_size=3), st.integers(0, 3))
@settings(max_examples=500)
def test_a_changed_tree_is_refused_or_read_but_changes_nothing(place: int, put: bytes, drop: int) -> None:
    before = mirror_out(STATE)
    tree = MIRRORED.tree[:place] + put + MIRRORED.tree[place + drop :]
    with contextlib.suppress(IntegrityError, ConfigError, PoolVersion):
        plan_restore(STATE, tree, MIRRORED.specs)
    assert mirror_out(STATE) == before


@given(st.data())
@settings(max_examples=500)
def test_a_tree_with_another_part_is_refused_or_read(data: st.DataObject) -> None:
    """Reaches the readers of every kind, which changed bytes seldom do."""
    tree = loads(MIRRORED.tree)
    node: Any = tree
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(node[key], (list, dict)) or not node[key] or data.draw(st.integers(0, 3)) == 0:
            break
        node = node[key]
    node[key] = data.draw(
        st.sampled_from([None, 0, -1, 10**9, "value", "tensor", [], {}, ["tensor"], ["value", 1], ["branch"], [["a"]]])
    )
    with contextlib.suppress(IntegrityError, ConfigError, PoolVersion):
        plan_restore(STATE, dumps(tree), MIRRORED.specs)


@pytest.mark.parametrize("name", ["opt", "lr", "rng"])
def test_a_value_that_only_a_load_would_read_is_refused_before_it(name: str) -> None:
    tree: Any = loads(MIRRORED.tree)
    tree[1][name][2] = ["no such tag", 1]
    with pytest.raises(IntegrityError, match="malformed"):
        plan_restore(STATE, dumps(tree), MIRRORED.specs)


@pytest.mark.parametrize("tag", ["state 2", "state 4"])
def test_another_format_is_named_and_is_no_damage(tag: str) -> None:
    tree = loads(MIRRORED.tree)
    assert isinstance(tree, list)
    with pytest.raises(PoolVersion, match=f"{tag}.*this release reads 'state 3'"):
        plan_restore(STATE, dumps([tag, *tree[1:]]), MIRRORED.specs)
