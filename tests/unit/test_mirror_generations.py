"""Several generations of a mirror, and buffers that are not written again."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from plinius import Key, Mirror, Pool
from plinius.errors import ConfigError, IntegrityError, PoolError
from plinius.mirror import tracking
from small_training import ENTRY, head_of, read_at, rewrite_entry, write_at

pytestmark = pytest.mark.filterwarnings("ignore::plinius.mirror.RollbackWarning")
NAME = ENTRY.removeprefix("mirror/")
LARGE = 300_000  # bytes: more than one chunk


@pytest.fixture
def key() -> Key:
    return Key.generate()


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "job.pool"


def mirror_of(pool: Pool, key: Key, **options: Any) -> Mirror:
    return Mirror(pool, key, name=NAME, **options)


def extents_of(path: Path) -> list[tuple[int, int]]:
    with Pool(path) as pool:
        return (pool.core.entry(ENTRY) or ("", b"", []))[2]


def saved(path: Path, key: Key, steps: range, keep: int) -> None:
    arrays = {"a": np.zeros(5), "big": np.zeros(LARGE, np.uint8)}
    with Pool(path) as pool, mirror_of(pool, key, arrays=arrays, keep=keep) as mirror:
        mirror.restore()
        for step in steps:
            arrays["a"][:] = step
            mirror.save(step)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_as_many_generations_are_kept_and_each_can_be_restored(path: Path, key: Key, keep: int) -> None:
    saved(path, key, range(1, 4), keep)
    saved(path, key, range(4, 7), keep)
    kept = [generation.written.step for generation in head_of(path).generations]
    assert kept == [6, 5, 4][:keep]
    for step in kept:
        arrays = {"a": np.zeros(5), "big": np.ones(LARGE, np.uint8)}
        with Pool(path) as pool, mirror_of(pool, key, arrays=arrays) as mirror:
            assert mirror.restore(step=step) == step
            assert (arrays["a"] == step).all()
            assert not arrays["big"].any()
    with Pool(path) as pool:
        mirror = mirror_of(pool, key, arrays=arrays)
        with pytest.raises(ConfigError, match="keeps no generation of step 3; it has 6"):
            mirror.restore(step=3)


def test_who_went_back_gives_the_later_generations_up_with_the_next_save(path: Path, key: Key) -> None:
    saved(path, key, range(1, 6), keep=4)
    arrays = {"a": np.zeros(5), "big": np.zeros(LARGE, np.uint8)}
    with Pool(path) as pool, mirror_of(pool, key, arrays=arrays, keep=4) as mirror:
        assert mirror.restore(step=3) == 3
        with pytest.raises(ConfigError, match="not above the latest saved step 3"):
            mirror.save(3)
        mirror.save(4)
    head = head_of(path)
    assert [(one.written.step, one.written.version) for one in head.generations] == [(4, 6), (3, 3), (2, 2)]
    with Pool(path) as pool, mirror_of(pool, key, arrays=arrays) as mirror:
        assert mirror.restore(step=2) == 2
        assert (arrays["a"] == 2).all()


def test_space_of_generations_that_are_given_up_is_used_again(path: Path, key: Key) -> None:
    saved(path, key, range(1, 4), keep=2)
    saved(path, key, range(4, 8), keep=2)
    size = path.stat().st_size
    for begin in range(8, 40, 8):
        saved(path, key, range(begin, begin + 8), keep=2)
    assert path.stat().st_size == size


def test_an_older_generation_of_another_time_is_refused(path: Path, key: Key) -> None:
    """It opens, since it is this job's: but the newest one does not name it."""
    saved(path, key, range(1, 4), keep=2)
    older = head_of(path).generations[1]
    kept = {index: read_at(path, *extents_of(path)[index]) for index in older.extents}
    saved(path, key, range(4, 7), keep=2)

    head, now = head_of(path), extents_of(path)
    then = msgspec.structs.replace(older, extents=head.generations[1].extents)
    for index, place in zip(older.extents, then.extents, strict=True):
        write_at(path, now[place][0], kept[index])
    swapped = msgspec.structs.replace(head, generations=[head.generations[0], then])
    rewrite_entry(path, lambda _, extents: (msgspec.msgpack.encode(swapped), extents))
    arrays = {"a": np.zeros(5), "big": np.zeros(LARGE, np.uint8)}
    with Pool(path) as pool:
        mirror = mirror_of(pool, key, arrays=arrays)
        with pytest.raises(IntegrityError, match="none that the newest one names"):
            mirror.restore(step=2)


# What is not written again.


def written(pool: Pool, mirror: Mirror, step: int) -> set[int]:
    """Lengths of the extents that a save writes anew."""
    before = set((pool.core.entry(ENTRY) or ("", b"", []))[2])
    mirror.save(step)
    return {length for _, length in set((pool.core.entry(ENTRY) or ("", b"", []))[2]) - before}


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


def interrupted_behind_the_commit(mirror: Mirror, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(tracking.Tracker, "learn", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            mirror.save(step)


def test_after_a_commit_that_was_interrupted_an_earlier_value_is_not_taken_for_what_it_holds(
    path: Path, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.zeros(LARGE, np.uint8)
    with Pool(path) as pool:
        mirror = mirror_of(pool, key, arrays=[array])
        mirror.save(1)
        mirror.save(2)
        array[:] = 1
        interrupted_behind_the_commit(mirror, 3, monkeypatch)
        array[:] = 0
        mirror.save(4)
        array[:] = 9
        assert mirror.restore() == 4
        assert not array.any()


@pytest.mark.parametrize("way", ["restore", "overwrite"])
def test_an_interrupted_commit_stands_in_for_no_other_save_of_its_step(
    path: Path, key: Key, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    array = np.zeros(5)
    with Pool(path) as pool:
        mirror = mirror_of(pool, key, arrays=[array], keep=3)
        mirror.save(1)
        interrupted_behind_the_commit(mirror, 2, monkeypatch)
        if way == "restore":
            mirror.restore(1)
        array[:] = 77
        mirror.save(2, overwrite=way == "overwrite")
        array[:] = 0
        assert mirror.restore() == 2
        assert (array == 77).all()


def test_each_life_has_an_epoch_of_its_own_also_one_that_went_back(path: Path, key: Key) -> None:
    saved(path, key, range(1, 3), keep=3)
    for _ in range(3):
        step = head_of(path).generations[0].written.step
        saved(path, key, range(step + 1, step + 2), keep=3)
    newest = head_of(path).generations[0]
    arrays = {"a": np.zeros(5), "big": np.zeros(LARGE, np.uint8)}
    with Pool(path) as pool:
        mirror = mirror_of(pool, key, arrays=arrays, keep=3)
        mirror.restore(newest.written.step - 2)
        mirror.save(newest.written.step)
    assert head_of(path).generations[0].epoch == newest.epoch + 1


def test_an_interrupt_while_a_failed_restore_is_wiped_leaves_nothing_to_save(
    path: Path, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = {"a": np.zeros(5), "big": np.ones(LARGE, np.uint8)}
    with Pool(path) as pool:
        mirror = mirror_of(pool, key, arrays=arrays)
        mirror.save(1)
        with monkeypatch.context() as patched:
            patched.setattr("plinius.state.Restoration.apply", lambda _: 1 / 0)
            patched.setattr("plinius.state.Restoration.wipe", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                mirror.restore()
        with pytest.raises(PoolError, match="failed midway"):
            mirror.save(2)


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


def test_a_head_that_nobody_would_read_is_not_written(path: Path, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(path, key, range(1, 4), keep=1000)
    arrays = {"a": np.zeros(5), "big": np.zeros(LARGE, np.uint8)}
    with Pool(path) as pool, mirror_of(pool, key, arrays=arrays, keep=1000) as mirror:
        mirror.restore()
        monkeypatch.setattr("plinius.mirror.manifest.MAX_HEAD_BYTES", len(pool.core.meta(ENTRY) or b"") + 10)
        with pytest.raises(ConfigError, match="keep fewer generations"):
            mirror.save(4)
        assert (mirror.latest_step(), mirror.restore()) == (3, 3)


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


def test_a_gradient_flag_that_is_put_back_is_told(path: Path, key: Key) -> None:
    model = torch.nn.Linear(2, 2)
    state: dict[str, Any] = {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)}
    with Pool(path) as pool:
        mirror_of(pool, key, **state).save(1)
        model.weight.requires_grad_(False)
        with pytest.warns(UserWarning, match="params/0: requires_grad=True again, as it was saved"):
            mirror_of(pool, key, **state).restore()
    assert model.weight.requires_grad
