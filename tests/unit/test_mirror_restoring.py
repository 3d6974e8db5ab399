"""Restoring a mirror: everything and to the very same bits, or nothing, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plinius import Key, Mirror, Pool
from plinius.errors import ConfigError, PoolError
from plinius.mirror import ExactnessWarning, RollbackWarning
from small_mirrors import LARGE, mirror_of
from small_training import Training, trained

pytestmark = pytest.mark.filterwarnings("ignore::plinius.mirror.RollbackWarning")


def test_training_resumes_to_the_very_same_bits(path: Path, key: Key, folder: Path) -> None:
    straight = trained(folder / "straight.pool", key, 9)
    for begin in range(0, 9, 3):
        resumed = Training(path, key, seed=1 if begin == 0 else 77 + begin)
        assert resumed.restore() == (begin or None)
        resumed.train(begin + 1, begin + 3)
        resumed.close()
    assert resumed.contents() == straight


def test_a_restore_brings_back_everything_that_was_saved(path: Path, key: Key) -> None:
    saved = trained(path, key, 4)
    other = Training(path, key, seed=5)
    assert other.contents() != saved
    assert other.restore() == 4
    assert other.contents() == saved


def test_an_empty_pool_has_nothing_to_restore(path: Path, key: Key) -> None:
    training = Training(path, key)
    before = training.contents()
    assert training.restore() is None
    assert training.mirror.latest_step() is None
    assert training.contents() == before


def test_the_newest_generation_is_restored_again_after_training_went_astray(path: Path, key: Key) -> None:
    training = Training(path, key)
    training.train(1, 2)
    saved = training.contents()
    training.step()
    assert training.restore() == 2
    assert training.contents() == saved
    training.train(3, 3)


def test_mirrors_of_other_names_live_side_by_side(path: Path, key: Key) -> None:
    first, second = np.full(10, 1.0), np.full(10, 2.0)
    with Pool(path) as pool:
        for name, array in (("first", first), ("second", second)):
            Mirror(pool, key, name=name, array=[array]).save(1)
        for name, value in (("first", 1.0), ("second", 2.0)):
            array = np.zeros(10)
            with pytest.warns(RollbackWarning):
                Mirror(pool, key, name=name, array=[array]).restore()
            assert (array == value).all()


def test_a_model_of_another_shape_changes_nothing(path: Path, key: Key) -> None:
    trained(path, key, 2)
    training = Training(path, key, seed=3, width=9)
    before = training.contents()
    with pytest.raises(ConfigError, match=r"model/0\.weight"):
        training.restore()
    assert training.contents() == before
    with pytest.raises(PoolError, match="not restored here"):
        training.mirror.save(3)


def test_state_under_another_name_is_named(path: Path, key: Key) -> None:
    with Pool(path) as pool:
        Mirror(pool, key, name="m", weights=[np.zeros(3)]).save(1)
        other = Mirror(pool, key, name="m", bias=[np.zeros(3)])
        with pytest.warns(RollbackWarning), pytest.raises(ConfigError, match=r"weights: missing.*bias: unexpected"):
            other.restore()


def test_a_difference_of_the_environment_is_named(path: Path, key: Key) -> None:
    trained(path, key, 1)
    training = Training(path, key)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.warns(ExactnessWarning, match="torch threads") as caught:
            training.restore()
    finally:
        torch.set_num_threads(threads)
    assert len([one for one in caught if one.category is ExactnessWarning]) == 1


def test_without_an_anchor_restore_says_that_rollback_is_not_detected(path: Path, key: Key) -> None:
    trained(path, key, 1)
    older = path.read_bytes()
    training = Training(path, key)
    training.restore()
    training.train(2, 2)
    training.close()
    path.write_bytes(older)
    training = Training(path, key)
    with pytest.warns(RollbackWarning, match="rollback is not detected"):
        assert training.mirror.restore() == 1


def test_views_that_share_bytes_come_back(path: Path, key: Key) -> None:
    def views() -> dict[str, Any]:
        whole = torch.zeros(8 * LARGE, dtype=torch.uint8)  # enough for two threads
        return {"whole": whole, "half": whole[: len(whole) // 2], "rest": whole[len(whole) // 3 :]}

    saved = views()
    saved["whole"].copy_(torch.arange(8 * LARGE) % 251)
    again = views()
    with Pool(path) as pool:
        mirror_of(pool, key, views=saved).save(1)
        mirror_of(pool, key, views=again).restore()
    assert all(torch.equal(again[name], saved[name]) for name in saved)


def test_a_gradient_flag_that_is_put_back_is_told(path: Path, key: Key) -> None:
    model = torch.nn.Linear(2, 2)
    state: dict[str, Any] = {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)}
    with Pool(path) as pool:
        mirror_of(pool, key, **state).save(1)
        model.weight.requires_grad_(False)
        with pytest.warns(UserWarning, match="params/0: requires_grad=True again, as it was saved"):
            mirror_of(pool, key, **state).restore()
    assert model.weight.requires_grad
