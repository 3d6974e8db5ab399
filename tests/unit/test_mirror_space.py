"""The space that a mirror needs, in memory and in its pool, and what is left where there is too little."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from plinius import Key, Mirror, Pool
from plinius.errors import PoolFull
from small_training import ENTRY, Training, trained

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
