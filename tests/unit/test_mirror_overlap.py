"""Saves in the background: which state they hold, in which order they end, and how a failure is told."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from averaged import Job
from holding import Held
from plinius import Key, Mirror, Pool
from plinius.errors import PliniusError, PoolBusy, PoolFull
from plinius.mirror import saving

pytestmark = pytest.mark.filterwarnings("ignore::plinius.mirror.RollbackWarning")


def test_a_save_in_the_background_holds_the_state_of_its_moment(pool: Pool, key: Key, held: Held) -> None:
    job = Job(pool, key)
    job.step()
    job.mirror.save(1)
    job.step()
    then = job.state()
    assert job.mirror.save(2, wait=False)
    assert held.reached.wait(60)
    job.backward()  # changes the batch norm's running averages
    job.average.update_parameters(job.model)
    assert job.mirror.latest_step() == 1, "it is not durable yet"
    held.go_on.set()
    job.mirror.wait()
    assert job.mirror.latest_step() == 2
    other = Job(pool, key, seed=2)
    other.step()
    assert other.mirror.restore() == 2
    assert other.state() == then


def test_a_save_in_the_background_is_finished_though_its_pool_is_closed(folder: Path, key: Key, held: Held) -> None:
    path = folder / "job.pool"
    with Pool(path) as pool:
        job = Job(pool, key)
        job.step()
        job.mirror.save(1)
        job.step()
        then = job.state()
        job.mirror.save(2, wait=False)
        assert held.reached.wait(60)
    with pytest.raises(PoolBusy):
        Pool(path)
    held.go_on.set()
    with opened_at_last(path) as pool:
        other = Job(pool, key, seed=2)
        other.step()
        assert other.mirror.restore() == 2
        assert other.state() == then


def opened_at_last(path: Path) -> Pool:
    for _ in range(600):
        with suppress(PoolBusy):
            return Pool(path)
        time.sleep(0.1)
    raise AssertionError("the save is not finished")


def test_one_save_is_in_flight(pool: Pool, key: Key, held: Held) -> None:
    job = Job(pool, key)
    job.step()
    job.mirror.save(1, wait=False)
    assert held.reached.wait(60)
    threading.Timer(0.3, held.go_on.set).start()
    job.mirror.save(2, wait=False)
    assert job.mirror.latest_step() in (1, 2), "the first has ended before the second began"
    job.mirror.wait()
    assert job.mirror.latest_step() == 2


def test_a_full_pool_surfaces_at_the_next_call(folder: Path, key: Key) -> None:
    with Pool(folder / "small.pool", max_bytes=5 << 20) as pool:
        big = np.zeros(100_000)
        mirror = Mirror(pool, key, name="net", big=[big])
        mirror.save(1, wait=False)
        mirror.wait()
        big[:] = 1
        mirror.save(2, wait=False)
        with pytest.raises(PoolFull):
            mirror.save(3)
        assert mirror.latest_step() == 1


def test_a_failure_that_is_not_ours_is_told_too(pool: Pool, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror(pool, key, name="net", a=np.zeros(5))
    monkeypatch.setattr(saving, "encode", lambda _: 1 / 0)
    mirror.save(1, wait=False)
    with pytest.raises(PliniusError, match="ZeroDivisionError"):
        mirror.wait()
