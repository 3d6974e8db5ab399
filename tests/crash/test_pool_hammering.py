"""Eight threads and two processes at one pool: no update is lost, nobody waits for ever, and the refusal names who."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plinius import Pool

THREADS, ROUNDS = 8, 150

PROGRAM = """
import json, random, sys, threading
import numpy as np
from plinius import Pool
from plinius.errors import PoolBusy, PoolError

path, threads, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
faults = []

def opened():
    while True:
        try:
            return Pool(path)
        except PoolBusy as error:
            print(json.dumps({"refused": str(error)}), flush=True)

def hammer(pool, number):
    chance = random.Random(number)
    try:
        for _ in range(rounds):
            with pool.transaction() as tx:
                tx["total"][()] += 1
                tx["counts"][number] += 1
                tx["log"].append(np.full(chance.randrange(50), number))
                if len(tx["log"]) > 40:
                    tx["dropped"][()] += len(tx["log"]) - 3
                    del tx["log"][3:]
            try:
                with pool.transaction() as tx:
                    tx["total"][()] += 1000
                    tx["log"].clear()
                    raise ZeroDivisionError
            except ZeroDivisionError:
                pass
            found = pool.read("total", "counts", "dropped", "log")
            if not found["total"] == found["counts"].sum() == found["dropped"] + len(found["log"]):
                faults.append(f"torn: {found}")
    except BaseException as error:
        faults.append(repr(error))

with opened() as pool:
    print(json.dumps({"opened": True}), flush=True)
    all_ = [threading.Thread(target=hammer, args=(pool, number)) for number in range(threads)]
    [thread.start() for thread in all_]
    [thread.join() for thread in all_]
    sys.stdin.readline()
    print(json.dumps({"faults": faults, "problems": pool.verify()}), flush=True)
"""


class Process:
    """One of the two, which tells what it meets, a line at a time."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-c", PROGRAM, path, str(THREADS), str(ROUNDS)]
        self.process = subprocess.Popen(command, stdin=-1, stdout=-1, text=True)

    def said(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def end(self) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.close()
        said = self.said()
        assert self.process.wait(60) == 0
        return said


@pytest.mark.timeout(120)
def test_eight_threads_and_two_processes(folder: Path) -> None:
    path = folder / "pool"
    with Pool(path) as pool, pool.transaction() as tx:
        tx["total"], tx["counts"], tx["dropped"], tx["log"] = 0, np.zeros(THREADS, int), 0, []
    first = Process(path)
    assert first.said() == {"opened": True}
    second = Process(path)
    try:
        refusal = second.said()["refused"]
        assert refusal.startswith(f"{path}: the pool is open in process {first.process.pid}")
        assert first.end() == {"faults": [], "problems": []}
        while "refused" in (said := second.said()):
            pass
        assert said == {"opened": True}
        assert second.end() == {"faults": [], "problems": []}
    finally:
        for one in (first, second):
            one.process.kill()
            one.process.wait()
    with Pool(path) as pool:
        assert pool["total"] == 2 * THREADS * ROUNDS
        assert pool["counts"].tolist() == [2 * ROUNDS] * THREADS
        assert pool["dropped"] + len(pool["log"]) == pool["total"]
