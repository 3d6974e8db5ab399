"""A pool that several threads, forked children and signal handlers use: who sees what, and who waits."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from plinius import Pool
from plinius.errors import PoolError
from plinius.pool import pooling


def elsewhere(work: Callable[[], Any]) -> Any:
    """What comes of some work in another thread."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(work).result(20)


def test_a_transaction_reads_its_own_changes_and_the_pool_what_is_committed(pool: Pool) -> None:
    pool["w"] = np.zeros(4)
    with pool.transaction() as tx:
        tx["w"][1:3] = [5, 6]
        tx["w"][-1] += 7
        tx["new"] = 1
        assert tx["w"][...].tolist() == [0, 5, 6, 7]
        for look in (lambda: pool["w"], lambda: elsewhere(lambda: pool["w"]), lambda: pool.read()["w"]):
            assert look().tolist() == [0, 0, 0, 0]
        assert "new" not in pool
    assert pool["w"].tolist() == [0, 5, 6, 7]


def test_a_transaction_belongs_to_its_thread(pool: Pool) -> None:
    with pool.transaction() as tx:
        tx["w"] = np.zeros(3)
        w = tx["w"]
        for use in (lambda: tx["w"], lambda: tx.__setitem__("w", 1), lambda: w.__setitem__(0, 1)):
            with pytest.raises(PoolError, match="belongs to the thread that began it; begin one here"):
                elsewhere(use)
    assert pool["w"].tolist() == [0, 0, 0]
    tx = pool.transaction().__enter__()
    tx["w"] = 1
    with pytest.raises(PoolError, match="belongs to the thread"):
        elsewhere(lambda: tx.__exit__(None, None, None))
    assert pool["w"].tolist() == [0, 0, 0]
    pool["w"] = 2


def test_a_second_thread_waits_for_the_first(pool: Pool) -> None:
    with ThreadPoolExecutor(1) as threads:
        with pool.transaction() as tx:
            tx["w"] = 1
            waiting = threads.submit(lambda: pool.__setitem__("w", 2))
            with pytest.raises(TimeoutError):
                waiting.result(0.2)
        waiting.result(20)
    assert pool["w"] == 2


def test_who_waits_for_another_threads_transaction_can_be_interrupted(pool: Pool) -> None:
    begun, end = threading.Event(), threading.Event()

    def hold() -> None:
        with pool.transaction():
            begun.set()
            end.wait(60)

    with ThreadPoolExecutor(1) as threads:
        holding = threads.submit(hold)
        begun.wait()
        threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
        try:
            with pytest.raises(KeyboardInterrupt):
                pool["a"] = 1
            assert not holding.done()
        finally:
            end.set()
    assert "a" not in pool


def test_several_values_of_one_commit(pool: Pool) -> None:
    with pool.transaction() as tx:
        tx["a"], tx["b"], tx["l"] = 0, 0, [0]
    stop = threading.Event()

    def count() -> None:
        step = 0
        while not stop.is_set():
            step += 1
            with pool.transaction() as tx:
                tx["a"], tx["b"] = step, -step
                tx["l"][0] = step

    with ThreadPoolExecutor(1) as threads:
        counting = threads.submit(count)
        try:
            seen = [pool.read() for _ in range(300)]
        finally:
            stop.set()
        counting.result(20)
    assert all(one["a"] == -one["b"] == one["l"][0] for one in seen)
    assert len({int(one["a"]) for one in seen}) > 1


def test_a_forked_child_cannot_touch_its_parents_transaction(pool: Pool) -> None:
    pool["w"] = np.zeros(1000)
    with pool.transaction() as tx:
        tx["w"][:] = 1
        child = os.fork()
        if child == 0:
            try:
                with pytest.raises(PoolError):
                    tx["w"][:] = 2
                with pytest.raises(PoolError):
                    tx.__exit__(None, None, None)
                del tx
            except BaseException:
                os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert tx["w"][...].sum() == 1000
        tx["w"][0] = 5
    assert pool["w"].sum() == 1004
    assert pool.verify() == []


def test_a_signal_handler_that_writes_in_the_middle_of_a_read_is_refused(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait for ever for the read that it interrupts."""
    pool["w"], pool["n"] = np.zeros(1000), 0

    def write(*_: object) -> None:
        pool["n"] = 1

    before = signal.signal(signal.SIGALRM, write)
    find = pooling.find

    def interrupted(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGALRM)
        return find(*arguments)

    try:
        with monkeypatch.context() as patched:
            patched.setattr(pooling, "find", interrupted)
            with pytest.raises(PoolError, match="this thread is reading the pool"):
                pool["w"]
        assert pool["n"] == 0
        signal.raise_signal(signal.SIGALRM)
        assert pool["n"] == 1
    finally:
        signal.signal(signal.SIGALRM, before)
