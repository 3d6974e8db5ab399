"""Arrays that are declared frozen: they are not written again, and one that changes is found out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plinius import Key, Pool
from plinius.errors import ConfigError
from plinius.mirror import tracking
from small_mirrors import LARGE, mirror_of, written

pytestmark = pytest.mark.filterwarnings("ignore::plinius.mirror.RollbackWarning")


def test_frozen_arrays_are_not_looked_at_and_one_that_changes_is_an_error_in_the_end(
    path: Path, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "FROZEN_CHECK_SAVES", 3)
    model = torch.nn.Linear(300, 250)
    head = np.zeros(10)
    with Pool(path) as pool:
        mirror = mirror_of(pool, key, model=model, head=head, frozen=[model])
        assert 300_000 in written(pool, mirror, 1)
        assert 300_000 not in written(pool, mirror, 2)
        with torch.no_grad():
            model.weight[0, 0] += 1
        assert 300_000 not in written(pool, mirror, 3)
        with pytest.raises(ConfigError, match=r"model/weight: it was declared frozen and has changed"):
            mirror.save(4)
        with pytest.raises(ConfigError, match=r"model/weight: it was declared frozen and has changed"):
            mirror.close()


def test_what_is_neither_array_nor_module_cannot_be_frozen(path: Path, key: Key) -> None:
    with Pool(path) as pool, pytest.raises(ConfigError, match="frozen: a str is neither an array nor a module"):
        mirror_of(pool, key, a=np.zeros(1), frozen=["a"])


def test_an_empty_array_that_is_frozen_makes_no_other_empty_one_frozen(path: Path, key: Key) -> None:
    nothing, arrays = np.zeros(0), {"a": np.ones(5)}
    with Pool(path) as pool, mirror_of(pool, key, nothing=nothing, arrays=arrays, frozen=[nothing]) as mirror:
        mirror.save(1)
        arrays["a"] = np.zeros(0)


def test_an_array_that_comes_to_lie_where_a_frozen_one_was_is_not_frozen(path: Path, key: Key) -> None:
    memory = torch.zeros(LARGE)
    teacher = torch.nn.Linear(1, LARGE, bias=False)
    teacher.weight.data = memory.view(LARGE, 1)
    state: dict[str, Any] = {"teacher": teacher}
    with Pool(path) as pool:
        mirror = mirror_of(pool, key, frozen=[teacher], **state, other=[torch.zeros(1)], average={})
        mirror.save(1)
        teacher.weight.data = torch.zeros(LARGE, 1)
        average = {"average": memory.view(LARGE, 1)}
        mirror._state["average"].update(average)
        for step in range(2, 5):
            memory += 1
            mirror.save(step)
        memory.zero_()
        assert mirror.restore() == 4
        assert (memory == 3).all()


def test_frozen_arrays_that_are_replaced_are_looked_at_before_they_are_relied_on(path: Path, key: Key) -> None:
    teacher = torch.nn.Linear(1, LARGE, bias=False)
    with Pool(path) as pool, mirror_of(pool, key, frozen=teacher, teacher=teacher) as mirror:
        mirror.save(1)
        mirror.save(2)
        old = teacher.weight.data
        teacher.weight.data = old.clone()
        mirror.save(3)
        teacher.weight.data = old + 1
        with pytest.raises(ConfigError, match="declared frozen and has changed"):
            mirror.save(4)
        teacher.weight.data = old


def test_what_is_declared_frozen_is_a_part_of_the_state(path: Path, key: Key) -> None:
    teacher, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    with Pool(path) as pool:
        mirror = mirror_of(pool, key, frozen=[teacher, torch.nn.Dropout(), other.weight], teacher=teacher)
        with pytest.raises(ConfigError, match="frozen: a Parameter is no part of the state"):
            mirror.save(1)
        mirror_of(pool, key, frozen=teacher.weight, teacher=teacher).save(1)


def test_frozen_modules_may_have_nothing_that_is_saved(path: Path, key: Key) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Module())
    model[1].register_buffer("table", torch.ones(3), persistent=False)
    frozen = [module for module in model.modules() if not list(module.parameters())]
    with Pool(path) as pool, mirror_of(pool, key, frozen=frozen, model=model) as mirror:
        mirror.save(1)
