"""SIGKILL in the middle of drains: the far end is always whole, and its newest generation restores."""

from __future__ import annotations

import functools
import itertools
import os
import random
import signal
import struct
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from plinius import Key, Mirror, Pool, _pm
from plinius.mirror import RollbackWarning, drained, farend
from plinius.mirror.draining import drain, fetch, newest_drained

KILLS = 40
NAME = "m"
WORD = struct.Struct("<Q")


class Job:
    """State that tells its step in every element: a small array and one of several megabytes."""

    def __init__(self, path: Path, key: Key) -> None:
        self.arrays = {"small": np.zeros(5), "large": np.zeros(400_000)}
        self.pool = Pool(path)
        self.mirror = Mirror(self.pool, key, name=NAME, arrays=self.arrays)

    def restore(self) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RollbackWarning)
            return self.mirror.restore() or 0

    def save(self, step: int) -> None:
        for array in self.arrays.values():
            array[:] = step
        self.mirror.save(step)


def killed(work: Callable[[int], None], delay_s: float | None = None) -> tuple[int, bool]:
    """Runs a child that reports steps, and kills it so long after its first report, unless it kills itself.

    Returns:
        The last step that it reported, and whether it was killed.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            work(writer)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as reports:
        last = reports.read(WORD.size)
        if delay_s is not None:
            time.sleep(delay_s)
            os.kill(child, signal.SIGKILL)
        _, outcome = os.waitpid(child, 0)
        while more := reports.read(1 << 16):
            last += more
    assert os.waitstatus_to_exitcode(outcome) in {0, -signal.SIGKILL}
    return int(WORD.unpack(last[-WORD.size :])[0]), outcome != 0


def check(url: str, folder: Path, key: Key, least: int) -> int:
    """Reads every file at the far end to its end, restores the newest, and returns its step."""
    far = farend.far_end(url)
    there, _ = drained.files_of(NAME, far.files())
    assert 1 <= len(there) <= 3, "the last two, and one that was to be removed"
    for one in there:
        with far.open(one.file) as (file, size):
            reader = drained.DrainedReader(file, size, one)
            for length in reader.lengths:
                reader.take(length)
            reader.finish()
    newest = newest_drained(url, NAME)
    assert newest is not None
    path = folder / "fetched.pool"
    path.unlink(missing_ok=True)
    with Pool(path) as pool:
        fetch(url, pool, NAME)
    job = Job(path, key)
    assert job.restore() == newest.step
    job.pool.close()
    assert all((array == newest.step).all() for array in job.arrays.values())
    assert newest.step >= least, "a drain that was reported is lost"
    return newest.step


@pytest.fixture(params=["{}", "local://{}"], ids=["folder", "fsspec"])
def url(request: pytest.FixtureRequest, folder: Path) -> str:
    return str(request.param).format(folder / "far")


def test_a_kill_in_a_drain_leaves_the_far_end_whole(folder: Path, url: str) -> None:
    moments, key, path = random.Random(5), Key.generate(), folder / "job.pool"  # noqa: S311

    def drain_until_killed(report: int) -> None:
        job = Job(path, key)
        step = job.restore()
        while True:
            step += 1
            job.save(step)
            drain(job.pool, NAME, url)
            os.write(report, WORD.pack(step))

    partial = more = 0
    for _ in range(KILLS):
        reported, _ = killed(drain_until_killed, moments.uniform(0, 0.04))
        partial += any(file.endswith(".part") for file in farend.far_end(url).files())
        more += check(url, folder, key, reported) > reported
    assert partial > KILLS // 5, "too few kills struck in the midst of a drain"
    print(f"{KILLS} kills, {partial} left half a file under another name, {more} a drain that was not reported")


def test_a_kill_before_each_call_of_a_drain(folder: Path, url: str) -> None:
    """Dies right before the n-th read of the pool, fsync, rename or removal, for every n that there is."""
    key, path = Key.generate(), folder / "job.pool"
    watched = [(_pm, "read_extent"), (os, "fsync"), (os, "rename"), (os, "unlink"), (os, "remove"), (Path, "rename")]
    watched += [(Path, "unlink"), (os, "replace"), (os, "open")]

    def die_before(call_number: int, report: int) -> None:
        job = Job(path, key)
        step = job.restore()
        for _ in range(2):  # so that there is an old one to be removed
            step += 1
            job.save(step)
            drain(job.pool, NAME, url)
        job.save(step + 1)
        os.write(report, WORD.pack(step))
        numbers = itertools.count()

        def counted(call: Callable[..., object]) -> Callable[..., object]:
            def before(*arguments: object, **options: object) -> object:
                if next(numbers) == call_number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*arguments, **options)

            return before

        for where, name in watched:
            setattr(where, name, counted(getattr(where, name)))
        drain(job.pool, NAME, url)
        os.write(report, WORD.pack(step + 1))

    outcomes = []
    for number in itertools.count():
        reported, was_killed = killed(functools.partial(die_before, number))
        more = check(url, folder, key, reported) - reported
        if not was_killed:
            break
        outcomes.append(more)
        with Pool(path) as pool:
            drain(pool, NAME, url)
    assert set(outcomes) == {0, 1}, "before the file had got its name, and after"
    assert sorted(outcomes) == outcomes
    print(f"died before each of {number} calls, {sum(outcomes)} times after the file had got its name")
