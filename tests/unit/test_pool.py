"""The pool as Python sees it: what it says of itself, and that one process writes it."""

from __future__ import annotations

import fcntl
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from plinius import Key, Mirror, Pool, status
from plinius.errors import PoolBusy, PoolCorrupt, PoolError, PoolFull

HOLD = """
import sys
from plinius import Pool
pool = Pool(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


def save(pool: Pool, step: int, length: int = 1000) -> None:
    Mirror(pool, Key.generate(), name="m", array=[np.full(length, step)]).save(step, overwrite=True)


def in_child(work: Callable[[], object]) -> str:
    """Runs something in a forked child and returns the class of its error, or its result as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = str(work())
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writer, answer.encode()[:4000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer


def test_a_pool_says_what_it_is(path: Path) -> None:
    with Pool(path) as pool:
        assert path.stat().st_size == pool.bytes
        assert pool.durability in {"process crash", "power failure"}
        assert str(path) in repr(pool)
        assert pool.durability in repr(pool)
    assert repr(pool) == f"Pool({str(path)!r}, closed)"


def test_a_file_on_a_disk_survives_power_failure_and_one_in_memory_does_not(tmp_path: Path, folder: Path) -> None:
    media = {name: Pool(where / name) for name, where in (("disk", tmp_path), ("memory", folder))}
    told = {pool.medium: pool.durability for pool in media.values()}
    assert told.get("file", "power failure") == "power failure"
    assert told.get("emulated PM (tmpfs, lost with the machine)", "process crash") == "process crash"


def test_a_closed_pool_says_so(path: Path) -> None:
    pool = Pool(path)
    pool.close()
    pool.close()
    for use in (lambda: pool.bytes, lambda: pool.durability, lambda: save(pool, 1)):
        with pytest.raises(PoolError, match="closed; open it again"):
            use()


def test_an_open_pool_is_not_pickled(path: Path) -> None:
    with Pool(path) as pool, pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(pool.core)


def test_errors_name_the_pool(path: Path, tmp_path: Path) -> None:
    path.write_bytes(b"no pool" * 2000)
    for wrong, what in ((path, "not a pool"), (tmp_path, "not a regular file"), (tmp_path / "no" / "pool", "No such")):
        with pytest.raises(PoolError, match=what) as caught:
            Pool(wrong)
        assert str(caught.value).startswith(f"{wrong}: ")
        with pytest.raises(PoolError) as caught:
            status(wrong)
        assert str(caught.value).startswith(f"{wrong}: ")


def test_a_full_pool_says_how_much_is_missing(path: Path) -> None:
    with Pool(path, max_bytes=5 << 20) as pool:
        with pytest.raises(PoolFull, match="larger max_bytes") as caught:
            save(pool, 1, 1 << 20)
        assert caught.value.needed_bytes >= 8 << 20
        assert caught.value.free_bytes < 1 << 20


@pytest.mark.parametrize("heap_bytes", [0, 100, 1 << 40])
def test_an_impossible_heap_is_refused(path: Path, heap_bytes: int) -> None:
    with pytest.raises(PoolError, match="heap_bytes"):
        Pool(path, heap_bytes=heap_bytes)
    Pool(path).close()


def test_a_pool_can_be_moved_and_copied_when_it_is_closed(path: Path, tmp_path: Path) -> None:
    with Pool(path) as pool:
        save(pool, 7)
        known = pool.core.entries()
    (tmp_path / "copy").write_bytes(path.read_bytes())
    path.rename(path.with_name("moved"))
    for elsewhere in (tmp_path / "copy", path.with_name("moved")):
        with Pool(elsewhere) as pool:
            assert pool.core.entries() == known


def test_a_pool_behind_a_descriptor(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        pool = Pool.from_descriptor(descriptor, "the pool")
        save(pool, 1)
        with pytest.raises(PoolBusy, match="the pool: the pool is open in this process already"):
            Pool.from_descriptor(descriptor, "the pool")
        assert is_locked(path)
        pool.close()
        assert not is_locked(path)
        assert os.fstat(descriptor).st_size == path.stat().st_size
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether another process, a forked child, would have to wait."""

    def lock() -> None:
        with path.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    return "BlockingIOError" in in_child(lock)


def another_process(path: Path) -> str:
    """What a fresh process meets that opens the pool."""
    code = "import sys; from plinius import Pool; Pool(sys.argv[1]); print('opened')"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_a_second_process_waits_and_is_told_who_holds_the_pool(path: Path) -> None:
    with Pool(path) as pool:
        begun = time.monotonic()
        answer = another_process(path)
        assert f"open in process {os.getpid()}" in answer
        assert 3 <= time.monotonic() - begun < 20
        save(pool, 1)
    assert "opened" in another_process(path)


def test_looking_at_an_open_pool_does_not_lose_its_lock(path: Path) -> None:
    with Pool(path) as pool:
        save(pool, 1)
        status(path)
        with pytest.raises(PoolBusy, match="this process already"):
            Pool(path)
        assert is_locked(path)
    assert not is_locked(path)


def test_a_killed_holder_lets_go_at_once(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=-1, stdout=-1, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        assert is_locked(path)
        holder.kill()
        with Pool(path) as pool:
            save(pool, 1)


def test_a_pool_whose_lock_was_lost_and_that_another_process_wrote_is_not_written(path: Path) -> None:
    with Pool(path) as pool:
        mirror = Mirror(pool, Key.generate(), name="m", array=[np.zeros(10)])
        mirror.save(1)
        path.open("rb").close()  # the trap of POSIX locks: this lets go of ours
        code = (
            "import sys, numpy; from plinius import *\n"
            "Mirror(Pool(sys.argv[1]), Key.generate(), name='other', array=[numpy.ones(10)]).save(1)"
        )
        subprocess.run([sys.executable, "-c", code, path], check=True)
        with pytest.raises(PoolError, match="somebody else wrote the pool"):
            mirror.save(2)
    assert {entry.name for entry in status(path).entries} == {"mirror/m", "mirror/other"}


def test_a_forked_child_reads_and_does_not_write(path: Path) -> None:
    with Pool(path) as pool:
        save(pool, 1)
        known = pool.core.entries()
        assert in_child(lambda: pool.core.entries() == known) == "True"
        assert in_child(lambda: save(pool, 2)).startswith(f"PoolError: {path}: a forked child of process {os.getpid()}")
        assert in_child(lambda: status(path).commits) == "1"
        assert in_child(pool.close) == "None"
        assert is_locked(path)
        save(pool, 3)


def test_a_forked_child_that_outlives_its_parent_does_not_keep_the_pool(path: Path) -> None:
    code = (
        "import os, sys, time; from plinius import Pool\n"
        "pool = Pool(sys.argv[1])\n"
        "child = os.fork()\n"
        "print(child, flush=True) if child else time.sleep(60)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=-1, text=True) as parent:
        assert parent.stdout is not None
        orphan = int(parent.stdout.readline())
        try:
            parent.kill()
            parent.wait()
            os.kill(orphan, 0)
            with Pool(path) as pool:  # `PoolBusy` if it held it
                save(pool, 1)
        finally:
            os.kill(orphan, signal.SIGKILL)


def test_status_needs_no_lock_and_no_key(path: Path) -> None:
    code = """
import sys, numpy
from plinius import Key, Mirror, Pool
mirror = Mirror(Pool(sys.argv[1]), Key.generate(), name="m", array=[numpy.zeros(2000)])
for step in range(1, 10**9):
    mirror.save(step)
    if step == 1:
        print("saving", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=-1, text=True) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "saving\n"
            seen = [status(path) for _ in range(500)]
        finally:
            writer.kill()
    commits = [one.commits for one in seen]
    assert commits == sorted(commits)
    assert commits[-1] > commits[0]
    assert all([entry.name for entry in one.entries] == ["mirror/m"] for one in seen)
    assert len({one.pool_id for one in seen}) == 1


def test_a_damaged_pool_is_corrupt_and_stays_as_it_is(path: Path) -> None:
    with Pool(path) as pool:
        save(pool, 1)
    whole = path.read_bytes()
    for damaged in (whole[:-4096], whole[:8192] + b"\xff" + whole[8193:], whole[:12290] + b"\x77" + whole[12291:]):
        path.write_bytes(damaged)
        with pytest.raises(PoolCorrupt, match="restore it from a copy"):
            Pool(path)
        with pytest.raises(PoolCorrupt):
            status(path)
        assert path.read_bytes() == damaged


def test_a_pool_that_is_cut_while_it_is_open_is_an_error_and_not_a_dead_process(path: Path) -> None:
    with Pool(path) as pool:
        os.truncate(path, 8192)
        with pytest.raises(PoolCorrupt, match="truncated"):
            save(pool, 1)
