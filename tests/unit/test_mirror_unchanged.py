"""Arrays that have not changed are not written again; every one that has is."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plinius import Key, Pool
from plinius.mirror import tracking
from small_mirrors import LARGE, mirror_of, written

pytestmark = pytest.mark.filterwarnings("ignore::plinius.mirror.RollbackWarning")


def test_an_unchanged_array_is_not_written_again_and_comes_back(path: Path, key: Key) -> None:
    arrays = {"still": np.arange(LARGE // 8), "moving": np.zeros(1001)}
    with Pool(path) as pool, mirror_of(pool, key, arrays=arrays) as mirror:
        assert {LARGE, 8008} <= written(pool, mirror, 1)
        for step in range(2, 8):
            arrays["moving"][:] = step
            found = written(pool, mirror, step)
            assert LARGE not in found
            assert 8008 in found
    again = {"still": np.zeros(LARGE // 8, np.int64), "moving": np.zeros(1001)}
    with Pool(path) as pool, mirror_of(pool, key, arrays=again) as mirror:
        assert mirror.restore() == 7
        assert (again["still"] == arrays["still"]).all()
        assert (again["moving"] == 7).all()
        # What was restored is looked at anew.
        again["still"][-1] = -1
        assert LARGE in written(pool, mirror, 8)
    third = {"still": np.zeros(LARGE // 8, np.int64), "moving": np.zeros(1001)}
    with Pool(path) as pool, mirror_of(pool, key, arrays=third) as mirror:
        mirror.restore()
        assert third["still"][-1] == -1


def test_starting_anew_writes_what_has_not_changed_too(path: Path, key: Key) -> None:
    array = np.arange(LARGE // 8)
    with Pool(path) as pool, mirror_of(pool, key, array=array) as mirror:
        mirror.save(1)
        assert LARGE not in written(pool, mirror, 2)
        mirror.save(3, overwrite=True)
        again = np.zeros_like(array)
        assert mirror_of(pool, key, array=again).restore() == 3
        assert (again == array).all()


@pytest.mark.parametrize("changes", [1, 3, 40])
def test_an_array_that_changed_for_long_and_then_rests_is_soon_not_written_any_more(
    path: Path, key: Key, changes: int
) -> None:
    array = np.zeros(LARGE, np.uint8)
    with Pool(path) as pool:
        mirror = mirror_of(pool, key, arrays=[array])
        for step in range(1, changes + 1):
            array[:] = step
            assert LARGE in written(pool, mirror, step)
        rest = range(changes + 1, changes + 2 * tracking.MOST_SAVES_UNSEEN)
        again = [LARGE in written(pool, mirror, step) for step in rest]
        assert sum(again) <= tracking.MOST_SAVES_UNSEEN + 2
        assert not any(again[sum(again) :]), "it is written no more once it was found at rest"
        array[-1] = 0
        assert LARGE in written(pool, mirror, rest.stop)
        array[:] = 1
        assert mirror.restore() == rest.stop
        assert (array[:-1] == changes).all()
        assert array[-1] == 0


@pytest.mark.parametrize("at", [0, 1, 262_143, 262_144, LARGE - 1])
def test_any_changed_byte_is_written_whatever_torch_counts(path: Path, key: Key, at: int) -> None:
    tensor = torch.zeros(LARGE, dtype=torch.uint8)
    with Pool(path) as pool, mirror_of(pool, key, arrays=[tensor]) as mirror:
        for step in range(1, 4):
            mirror.save(step)
        version = tensor._version
        tensor.numpy()[at] = 1
        assert tensor._version == version
        assert LARGE in written(pool, mirror, 4)
    other = torch.zeros(LARGE, dtype=torch.uint8)
    with Pool(path) as pool, mirror_of(pool, key, arrays=[other]) as mirror:
        mirror.restore()
        assert torch.equal(tensor, other)


def test_an_array_that_comes_and_goes_and_changes_its_shape_is_written(path: Path, key: Key) -> None:
    arrays: dict[str, Any] = {"a": np.zeros(LARGE, np.uint8)}
    with Pool(path) as pool, mirror_of(pool, key, arrays=arrays) as mirror:
        mirror.save(1)
        mirror.save(2)
        arrays["a"] = np.zeros((2, LARGE // 2), np.uint8)
        assert LARGE in written(pool, mirror, 3)
        arrays["b"] = arrays.pop("a")
        assert LARGE in written(pool, mirror, 4)


def test_an_array_in_the_place_of_one_that_changed_each_time_is_the_one_that_is_written(path: Path, key: Key) -> None:
    arrays = {"a": np.zeros(LARGE, np.uint8)}
    with Pool(path) as pool, mirror_of(pool, key, arrays=arrays) as mirror:
        for step in range(1, 7):  # long enough that nobody looks at it any more
            arrays["a"][:] = step
            mirror.save(step)
        first, arrays["a"] = arrays["a"], np.full(LARGE, 77, np.uint8)
        mirror.save(7)
        first[:], arrays["a"][:] = 0, 0
        mirror.restore()
        assert (arrays["a"] == 77).all()
        assert not first.any()


@pytest.mark.parametrize("way", ["restore", "start anew"])
def test_who_restores_or_starts_anew_looks_at_once_at_what_nobody_looked_at_any_more(
    path: Path, key: Key, way: str
) -> None:
    array = np.zeros(LARGE, np.uint8)
    with Pool(path) as pool, mirror_of(pool, key, arrays=[array]) as mirror:
        for step in range(1, 40):
            array[:] = step
            mirror.save(step)
        if way == "restore":
            mirror.restore()
            mirror.save(40)
        else:
            mirror.save(40, overwrite=True)
        mirror.save(41)  # where it starts anew, the first one only sees that it is another
        assert LARGE not in written(pool, mirror, 42)


def test_a_closed_mirror_lets_go_of_the_state(path: Path, key: Key) -> None:
    array = np.zeros(LARGE, np.uint8)
    gone = weakref.ref(array)
    with Pool(path) as pool, mirror_of(pool, key, arrays=[array]) as mirror:
        for step in range(1, 8):
            array[:] = step
            mirror.save(step)
        mirror.close()
        del array
        gc.collect()
        assert gone() is None


def test_after_a_save_that_failed_what_it_saw_is_not_believed(
    path: Path, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = {"a": np.zeros(LARGE, np.uint8)}
    with Pool(path) as pool, mirror_of(pool, key, arrays=arrays) as mirror:
        mirror.save(1)
        arrays["a"][5] = 1
        with monkeypatch.context() as patched:
            patched.setattr("plinius.mirror.saving.encode", lambda _: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                mirror.save(2)
        assert LARGE in written(pool, mirror, 3)


def test_what_an_optimizer_owns_is_always_written(path: Path, key: Key) -> None:
    model = torch.nn.Linear(300, 250)
    optimizer = torch.optim.SGD([model.weight])
    with Pool(path) as pool, mirror_of(pool, key, model=model, optimizer=optimizer) as mirror:
        for step in range(1, 5):
            found = written(pool, mirror, step)
        assert 300_000 in found
        assert 1000 not in found


def test_what_an_optimizer_owns_no_more_is_looked_at_again(path: Path, key: Key) -> None:
    model = torch.nn.Linear(300, 250)
    optimizer = torch.optim.SGD(model.parameters())
    with Pool(path) as pool, mirror_of(pool, key, model=model, optimizer=optimizer) as mirror:
        assert all({300_000, 1000} <= written(pool, mirror, step) for step in range(1, 5))
        optimizer.param_groups[0]["params"] = [model.weight]
        found = [written(pool, mirror, step) for step in range(5, 8)]
        assert all(300_000 in lengths for lengths in found)
        assert 1000 not in found[-1]


def test_what_an_optimizer_owned_for_a_while_is_not_taken_for_what_it_was_before(path: Path, key: Key) -> None:
    model = torch.nn.Linear(300, 250)
    optimizer = torch.optim.SGD([model.weight])
    then = model.bias.detach().clone()
    with Pool(path) as pool, mirror_of(pool, key, model=model, optimizer=optimizer) as mirror:
        mirror.save(1)
        mirror.save(2)
        optimizer.param_groups[0]["params"] = [model.weight, model.bias]
        with torch.no_grad():
            model.bias += 1
        mirror.save(3)
        optimizer.param_groups[0]["params"] = [model.weight]
        with torch.no_grad():
            model.bias.copy_(then)
        mirror.save(4)
        assert mirror.restore() == 4
        assert torch.equal(model.bias, then)
