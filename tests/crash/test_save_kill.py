"""SIGKILL at random moments of saves that follow each other without a pause."""

from __future__ import annotations

import os
import random
import signal
import struct
import time
import warnings
from pathlib import Path

import numpy as np
from plinius import Key, Mirror, Pool
from plinius.mirror import RollbackWarning

KILLS = 40
WORD = struct.Struct("<Q")


class Job:
    """State that tells its step in every element: a small array, one of several chunks, and one that grows."""

    def __init__(self, path: Path, key: Key) -> None:
        self.arrays = {"small": np.zeros(5), "chunks": np.zeros(90_001), "bytes": np.zeros(1000, np.uint16)}
        self.history: list[int] = []
        self.pool = Pool(path)
        self.mirror = Mirror(self.pool, key, name="m", arrays=self.arrays, history={"steps": self.history})

    def restore(self) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RollbackWarning)
            return self.mirror.restore() or 0

    def save(self, step: int) -> None:
        for array in self.arrays.values():
            array[:] = step % 60_000
        self.history.append(step)
        self.mirror.save(step)

    def check(self, step: int) -> None:
        for name, array in self.arrays.items():
            assert (array == step % 60_000).all(), f"{name} at step {step}"
        assert self.history == list(range(1, step + 1))


def save_until_killed(path: Path, key: Key, report: int) -> None:
    job = Job(path, key)
    step = job.restore()
    while True:
        step += 1
        job.save(step)
        os.write(report, WORD.pack(step))


def killed_after(path: Path, key: Key, delay_s: float) -> int:
    """Runs a child for so long after its first save, and returns the last step that it reported as durable."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            save_until_killed(path, key, writer)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as reports:
        last = reports.read(WORD.size)
        time.sleep(delay_s)
        os.kill(child, signal.SIGKILL)
        _, outcome = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(outcome) == -signal.SIGKILL
        while more := reports.read(1 << 16):
            last += more
    assert len(last) % WORD.size == 0
    return int(WORD.unpack(last[-WORD.size :])[0])


def test_a_kill_loses_nothing_that_was_reported(folder: Path) -> None:
    moments, key, path = random.Random(11), Key.generate(), folder / "job.pool"  # noqa: S311
    one_more = 0
    for _ in range(KILLS):
        reported = killed_after(path, key, moments.uniform(0, 0.02))
        job = Job(path, key)
        step = job.restore()
        assert step in {reported, reported + 1}
        one_more += step - reported
        job.check(step)
        job.pool.close()
    assert step > KILLS, "the children hardly saved anything"


def test_a_pool_of_many_kills_has_not_grown(folder: Path) -> None:
    key, path = Key.generate(), folder / "job.pool"
    killed_after(path, key, 0.01)
    size = path.stat().st_size
    for _ in range(10):
        killed_after(path, key, 0.003)
    assert path.stat().st_size <= size + (64 << 10)
