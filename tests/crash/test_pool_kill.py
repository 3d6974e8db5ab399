"""SIGKILL at random moments of transactions that follow each other without a pause."""

from __future__ import annotations

import os
import random
import signal
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
from plinius import Pool

KILLS = 40
WORD = struct.Struct("<Q")


def item(step: int) -> np.ndarray[Any, Any]:
    return np.full(step % 200, step)


def change(items: Any, step: int) -> None:
    """One step of a list that grows and shrinks, in a Python list or in the pool."""
    if step % 50 == 0:
        del items[5:]
    elif step % 3 == 0:
        items.pop(step % len(items))
    elif step % 7 == 0:
        items[step % len(items)] = item(step)
    else:
        items.insert(step % (len(items) + 1), item(step))


def work_until_killed(path: Path, report: int) -> None:
    pool = Pool(path)
    while True:
        with pool.transaction() as tx:
            if "step" not in tx:
                tx["step"], tx["counts"], tx["items"], tx["table"] = 0, np.zeros(3000, "u4"), [], np.zeros((50, 40))
            step = int(tx["step"][()]) + 1
            tx["step"] = step
            tx["counts"][:] = step
            tx["table"][:, step % 40] = step
            change(tx["items"], step)
            # Of another type each time: replaced, not stored in place.
            tx["moving"] = np.full(step % 1000, step)
        os.write(report, WORD.pack(step))


def killed_after(path: Path, delay_s: float) -> int:
    """Runs a child for so long after its first commit, and returns the last step that it reported as durable."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            work_until_killed(path, writer)
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


def check(pool: Pool, step: int, items: list[Any]) -> None:
    """All that the pool holds is what the steps up to this one have made."""
    assert pool.verify() == []
    found = pool.read()
    assert (found["counts"] == step).all()
    assert found["moving"].tolist() == [step] * (step % 1000)
    columns = [max((one for one in range(step + 1) if one % 40 == column), default=0) for column in range(40)]
    assert found["table"].tolist() == [columns] * 50
    assert [array.tolist() for array in found["items"]] == [array.tolist() for array in items]


def test_a_kill_leaves_every_transaction_whole_or_undone(folder: Path) -> None:
    moments, path = random.Random(5), folder / "pool"  # noqa: S311
    items: list[Any] = []
    done = one_more = 0
    for _ in range(KILLS):
        reported = killed_after(path, moments.uniform(0, 0.02))
        with Pool(path) as pool:
            step = int(pool["step"])
            assert step in {reported, reported + 1}
            one_more += step - reported
            for each in range(done + 1, step + 1):
                change(items, each)
            check(pool, step, items)
        done = step
    assert done > KILLS, "the children hardly did anything"
