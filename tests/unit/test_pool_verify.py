"""Looking a pool over: what is whole is reported whole, and every kind of damage and leak is named."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plinius import Key, Mirror, Pool
from plinius.errors import PoolError
from plinius.pool import PoolStats
from plinius.pool.values import LIST_META


@pytest.fixture
def pool(folder: Path) -> Iterator[Pool]:
    with Pool(folder / "pool") as pool:
        with pool.transaction() as tx:
            tx["w"], tx["l"], tx["e"] = np.arange(100), [np.zeros(3), 1, "x"], np.zeros(0)
        yield pool


def test_a_whole_pool_has_no_problems(pool: Pool) -> None:
    Mirror(pool, Key.generate(), name="m", array=[np.zeros(1000)]).save(1)
    assert pool.verify() == []


def test_a_block_that_nobody_owns_is_a_leak(pool: Pool) -> None:
    tx = pool.core.transaction()
    tx.allocate(100)
    tx.create(b"lost")
    tx.commit()
    assert pool.verify() == ["2 blocks of the heap are in use and belong to nothing"]


def test_a_block_of_two_owners_is_named(pool: Pool) -> None:
    tx = pool.core.transaction()
    _, block = tx.entry("value/w") or (b"", 0)
    tx.set("value/l2", LIST_META, tx.create(np.array([1, block], "<u8").tobytes()))
    tx.commit()
    (problem, *_) = pool.verify()
    assert problem.startswith("value/l2: a value in the pool is damaged")
    tx = pool.core.transaction()
    _, directory = tx.entry("value/l") or (b"", 0)
    words = np.zeros(2, "<u8")
    tx.load(directory, np.array([8], np.uint64), 16, words.view(np.uint8))
    tx.set("value/l2", LIST_META, tx.create(np.array([1, words[0]], "<u8").tobytes()))
    tx.commit()
    assert f"the block at {words[0]} of the heap belongs to 2 values" in pool.verify()


def test_a_block_of_somebody_elses_entry_is_no_leak(pool: Pool) -> None:
    tx = pool.core.transaction()
    tx.set("other/x", b"", tx.allocate(100))
    tx.commit()
    assert pool.verify() == []


def test_a_byte_that_was_changed_on_the_medium_is_found(pool: Pool) -> None:
    """Main and back both hold every byte; the array's own are found by that alone."""
    marks = np.arange(0x1234567890, 0x1234567890 + 50)
    pool["marks"] = marks
    pool.close()
    image = bytearray(Path(pool.path).read_bytes())
    at = image.find(marks.tobytes())
    assert image.count(marks.tobytes()) == 2
    image[at + 100] ^= 1
    Path(pool.path).write_bytes(image)
    with Pool(pool.path) as damaged:
        assert any("its two heaps differ in 1 bytes" in problem for problem in damaged.verify())


def test_verify_while_others_write_raises_no_false_alarm(pool: Pool) -> None:
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            pool["churned"] = [np.zeros(5)] * 20
            pool["churned"] = 1

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        assert [pool.verify() for _ in range(60)] == [[]] * 60
    finally:
        stop.set()
        thread.join(20)


def test_nobody_writes_between_the_parts_of_verify(pool: Pool) -> None:
    core, threads = pool.core, []

    class Meddling:
        """The core, but somebody tries to write just when the blocks are counted."""

        def __getattr__(self, name: str) -> Any:
            return getattr(core, name)

        def stats(self) -> Any:
            pool.core = core
            threads.append(threading.Thread(target=lambda: pool.__setitem__("more", 1)))
            threads[0].start()
            threads[0].join(0.3)
            return core.stats()

    pool.core = Meddling()  # type: ignore[assignment]
    assert pool.verify() == []
    threads[0].join(20)
    assert pool["more"] == 1


def test_verify_within_a_transaction_is_refused(pool: Pool) -> None:
    with pool.transaction(), pytest.raises(PoolError, match="end it first"):
        pool.verify()


def test_stats_count_what_there_is(pool: Pool) -> None:
    Mirror(pool, Key.generate(), name="m", array=[np.zeros(1000)]).save(1)
    stats = pool.stats()
    assert isinstance(stats, PoolStats)
    assert (stats.arrays, stats.lists, stats.entries) == (2, 1, 4)
    assert stats.bytes == pool.bytes == Path(pool.path).stat().st_size
    assert stats.free_bytes == pool.free_bytes
    assert stats.heap_used_bytes + stats.heap_free_bytes == stats.heap_bytes == 2 << 20
    pool["more"] = np.zeros(1000)
    after = pool.stats()
    assert after.commits == stats.commits + 1
    assert 8000 <= after.heap_used_bytes - stats.heap_used_bytes <= 8300
    with pool.transaction() as tx:
        tx["more"] = np.zeros(100_000)
        assert pool.stats() == after
        tx.abort()
    assert pool.stats() == after
