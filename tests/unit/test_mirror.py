"""The mirror: what comes back, what is refused, and what it costs."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import plinius
import pytest
import torch
from plinius import Key, Mirror, Pool, status
from plinius.errors import ConfigError, IntegrityError, PoolCorrupt, PoolError, PoolFull
from plinius.mirror import ExactnessWarning, RollbackWarning, public_mirrors, read_facts
from small_training import ENTRY, Training, entry_of, flip, head_of, read_at, rewrite_entry, trained, write_at

BIG = """
import resource, sys, warnings
import numpy as np
from plinius import Key, Mirror, Pool
warnings.simplefilter("ignore")
weights = np.ones(200 << 17)
mirror = Mirror(Pool(sys.argv[1]), Key.generate(), name="big", weights=[weights])
with open("/proc/self/status") as file:
    kib = int(next(line.split()[1] for line in file if line.startswith("VmData")))
resource.setrlimit(resource.RLIMIT_DATA, ((kib << 10) + (32 << 20),) * 2)
mirror.save(1)
weights[:] = 0
assert mirror.restore() == 1 and (weights == 1).all()
"""


@pytest.fixture
def key() -> Key:
    return Key.generate()


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "job.pool"


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


def test_steps_only_go_forward(path: Path, key: Key) -> None:
    training = Training(path, key)
    training.train(1, 3)
    for step in (3, 2, 0):
        with pytest.raises(ConfigError, match=f"step {step} is not above the latest saved step 3"):
            training.mirror.save(step)
    with pytest.raises(ConfigError, match="not between 0 and"):
        training.mirror.save(-1)
    assert training.mirror.latest_step() == 3
    assert training.mirror.save(10)


def test_every_says_which_steps_are_saved(path: Path, key: Key) -> None:
    with Pool(path) as pool:
        mirror = Mirror(pool, key, name="m", every=4, array=[np.zeros(3)])
        assert [step for step in range(1, 14) if mirror.save(step)] == [4, 8, 12]
        assert mirror.save(14, force=True)
        assert mirror.latest_step() == 14


def test_what_was_not_restored_is_not_overwritten(path: Path, key: Key) -> None:
    saved = trained(path, key, 2)
    training = Training(path, key, seed=2)
    with pytest.raises(PoolError, match=r"not restored here.*restore\(\).*overwrite=True"):
        training.mirror.save(100)
    assert training.restore() == 2
    assert training.contents() == saved


def test_overwriting_starts_anew(path: Path, key: Key) -> None:
    trained(path, key, 5)
    job = head_of(path).job_id
    training = Training(path, key, seed=2)
    assert training.mirror.save(1, overwrite=True)
    training.train(2, 2)
    training.close()
    head = head_of(path)
    assert head.job_id != job
    assert (head.generations[0].written.version, head.generations[0].written.step) == (2, 2)


def test_a_damaged_head_is_named_and_not_overwritten(path: Path, key: Key) -> None:
    trained(path, key, 1)
    rewrite_entry(path, lambda _, extents: (b"damaged", extents))
    training = Training(path, key, seed=2)
    with pytest.raises(PoolCorrupt, match="the head of a mirror is damaged"):
        training.mirror.save(2)
    assert training.mirror.save(2, overwrite=True)


def test_a_second_mirror_of_the_same_name_does_not_overwrite_the_first(path: Path, key: Key) -> None:
    training = Training(path, key)
    training.train(1, 1)
    second = Mirror(training.pool, key, name="net", array=[np.zeros(3)])
    second.save(9, overwrite=True)
    with pytest.raises(PoolError, match="not restored here"):
        training.mirror.save(10)
    assert second.save(10)


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


def test_facts_are_sealed_with_each_generation(path: Path, key: Key) -> None:
    facts = {"cfg": "ab12", "seed": 7, "rate": 0.5, "none": None}
    with Pool(path) as pool:
        assert read_facts(pool, key, "m") is None
        Mirror(pool, key, name="m", facts=facts, array=[np.zeros(3)]).save(1)
        assert read_facts(pool, key, "m") == facts
        with pytest.raises(IntegrityError, match=f"^{path}: .*this is key"):
            read_facts(pool, Key.generate(), "m")
    assert b"ab12" not in path.read_bytes()


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


def test_status_and_manifest_count_versions_and_restores(path: Path, key: Key) -> None:
    trained(path, key, 2)
    for step in (3, 4):
        training = Training(path, key)
        training.restore()
        training.train(step, step)
        training.close()
    entries = [(entry.name, entry.meta, entry.occupied_bytes) for entry in status(path).entries]
    (mirror,) = public_mirrors(entries)
    assert (mirror.name, mirror.key_id, mirror.cipher) == ("net", key.id, key.cipher)
    assert (mirror.version, mirror.step, mirror.epoch) == (4, 4, 3)
    assert mirror.buffers_bytes == entries[0][2] > 0


def test_repeated_saves_need_the_space_of_two_generations(path: Path, key: Key) -> None:
    training = Training(path, key, width=60)
    training.train(1, 1)
    one = sum(length for _, length in training.pool.core.entry(ENTRY)[2])
    training.train(2, 2)
    size = training.pool.bytes
    for step in range(3, 200):
        training.mirror.save(step)
    assert training.pool.bytes <= size + (64 << 10)
    assert training.pool.bytes < (4 << 20) + 2 * (one + 64 * 4096) + (128 << 10)


def test_a_large_state_needs_no_second_copy(path: Path) -> None:
    subprocess.run([sys.executable, "-c", BIG, path], check=True, timeout=60)


def test_a_full_pool_keeps_the_last_generation_and_a_larger_one_goes_on(path: Path, key: Key, folder: Path) -> None:
    straight = trained(folder / "straight.pool", key, 4, width=200)
    training = Training(path, key, width=200, max_bytes=(4 << 20) + (1800 << 10))
    training.train(1, 1)
    training.step()
    with pytest.raises(PoolFull, match="larger max_bytes"):
        training.mirror.save(2)
    assert training.mirror.latest_step() == 1
    training.close()
    go_on_elsewhere(path, key, folder, straight)


def test_a_full_medium_keeps_the_last_generation_and_a_larger_one_goes_on(path: Path, key: Key, folder: Path) -> None:
    straight = trained(folder / "straight.pool", key, 4, width=200)
    training = Training(path, key, width=200)
    training.train(1, 1)
    training.step()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (training.pool.bytes + 4096, limits[1]))
    try:
        with pytest.raises(PoolFull, match="move the pool file to a larger medium"):
            training.mirror.save(2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    training.mirror.save(2)
    training.close()
    go_on_elsewhere(path, key, folder, straight, first=2)


def go_on_elsewhere(path: Path, key: Key, folder: Path, straight: tuple[object, ...], first: int = 1) -> None:
    (folder / "larger.pool").write_bytes(path.read_bytes())
    training = Training(folder / "larger.pool", key, seed=9, width=200)
    assert training.restore() == first
    training.train(first + 1, 4)
    training.close()
    assert training.contents() == straight


FILL = """
import sys, warnings
import numpy as np
from plinius import Key, Mirror, Pool
from plinius.errors import PoolFull
warnings.simplefilter("ignore")
weights = np.full(300_000, 1.0)
key, path = Key.generate(), sys.argv[1]
mirror = Mirror(Pool(path), key, name="m", weights=[weights])
try:
    for step in range(1, 4):
        weights[:] = step
        mirror.save(step)
except PoolFull as error:
    latest = mirror.latest_step()
    assert mirror.restore() == latest
    assert latest is None or (weights == latest).all()
    print(latest, error)
"""


@pytest.mark.parametrize(("mebibytes", "saved"), [(5, 0), (8, 1)])
def test_a_file_system_that_is_full(tmp_path: Path, mebibytes: int, saved: int) -> None:
    def in_small_file_system(*command: str | Path, size: str) -> subprocess.CompletedProcess[str]:
        own = ["unshare", "--user", "--map-root-user", "--mount"]
        mount = f'mount -t tmpfs -o size={size} none "$0" && exec "$@"'
        return subprocess.run(
            [*own, "sh", "-c", mount, tmp_path, *command], check=False, capture_output=True, text=True
        )

    if in_small_file_system("true", size="1m").returncode:
        pytest.skip("this machine lets nobody mount a small file system for a test")
    done = in_small_file_system(sys.executable, "-c", FILL, tmp_path / "job.pool", size=f"{mebibytes}m")
    assert done.stdout.startswith(f"{saved or None} "), done.stderr
    assert "move the pool file to a larger medium" in done.stdout


def test_a_full_pool_can_be_opened_with_more_room_where_the_error_is_handled(path: Path, key: Key) -> None:
    array = np.zeros(100_000)
    try:
        Mirror(pool := Pool(path, max_bytes=(4 << 20) + (64 << 10)), key, name="m", array=[array]).save(1)
    except PoolFull:
        pool.close()
        with Pool(path) as larger:
            assert Mirror(larger, key, name="m", array=[array]).save(1)
    else:
        pytest.fail("the pool was large enough")


def test_the_name_status_is_the_function_whatever_was_imported() -> None:
    import_module("plinius.cli")
    import_module("plinius.inspection")
    assert callable(plinius.status)


def test_a_torn_state_does_not_overwrite_a_good_generation(path: Path, key: Key) -> None:
    trained(path, key, 2)
    offset, length = entry_of(path)[1][0]
    before = read_at(path, offset, length)
    flip(path, offset)
    torn = Training(path, key)
    with pytest.raises(IntegrityError):
        torn.restore()
    with pytest.raises(PoolError, match="zeroed"):
        torn.mirror.save(9, overwrite=True)
    torn.pool.close()
    write_at(path, offset, before)
    assert Training(path, key).restore() == 2


@contextmanager
def committing(monkeypatch: pytest.MonkeyPatch, pool: Pool, commit: Callable[..., None]) -> Iterator[None]:
    """Commits otherwise inside the block: `commit` is given the reservation, and what it is to commit."""

    class Reserved:
        def __init__(self) -> None:
            self._reserved = pool.core.reserve()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._reserved, name)

        def commit(self, *arguments: Any) -> None:
            commit(self._reserved, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(pool, "reserve", Reserved)
        yield


def test_an_interrupt_between_the_commit_and_its_return_loses_nothing(
    path: Path, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(reserved: Any, *arguments: Any) -> None:
        reserved.commit(*arguments)
        raise KeyboardInterrupt

    training = Training(path, key)
    training.mirror.save(1)
    with committing(monkeypatch, training.pool, interrupted), pytest.raises(KeyboardInterrupt):
        training.mirror.save(2)
    assert training.mirror.save(2, force=True)
    assert training.mirror.save(3)
    assert training.mirror.latest_step() == 3


def test_a_save_whose_commit_failed_can_be_made_again(path: Path, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is in the pool, so it is not taken for one that was interrupted behind its commit."""

    def failing(*_: Any) -> None:
        raise KeyboardInterrupt

    training = Training(path, key)
    training.mirror.save(1)
    with committing(monkeypatch, training.pool, failing), pytest.raises(KeyboardInterrupt):
        training.mirror.save(2)
    assert training.mirror.latest_step() == 1
    assert training.mirror.save(2)
    assert training.mirror.restore() == 2


@pytest.mark.parametrize("step", [1 << 70, 1 << 63, -1, 1.5, "1"])
def test_a_step_is_a_whole_number_in_range(path: Path, key: Key, step: Any) -> None:
    with pytest.raises(ConfigError, match="step"):
        Training(path, key).mirror.save(step)
