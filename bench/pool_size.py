"""What a pool costs when it is large: opening it, and a transaction on it, beside the same on a small one.

    .venv/bin/python bench/pool_size.py --folder /dev/shm

The small pool is 10 MB, the large one 8 GiB, and both are full of arrays of 1 MiB in a heap, which the file has twice.
Pools take turns; times are medians, with the fastest and the slowest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from plinius import Pool
from rich.progress import track

MIB = 1 << 20
HEAPS = {"10 MB": 5 * MIB, "8 GiB": 4096 * MIB}


def fill(path: Path, heap_bytes: int) -> None:
    """A pool full of arrays of 1 MiB."""
    block = np.arange(MIB // 8, dtype=np.int64)
    with Pool(path, heap_bytes=heap_bytes) as pool:
        with pool.transaction() as tx:
            tx["counter"] = np.zeros(8, np.int64)
        for number in track(range(heap_bytes // MIB - 1), description=path.name, transient=True):
            with pool.transaction() as tx:
                tx[f"array {number:05}"] = block


def opening(path: Path) -> float:
    began = time.perf_counter()
    pool = Pool(path)
    taken = time.perf_counter() - began
    pool.close()
    return taken


def transacting(path: Path, rounds: int) -> float:
    """Seconds for a transaction that adds one to an element."""
    with Pool(path) as pool:
        began = time.perf_counter()
        for _ in range(rounds):
            with pool.transaction() as tx:
                tx["counter"][3] += 1
        return (time.perf_counter() - began) / rounds


def spread(times: list[float], unit: float) -> dict[str, float]:
    return {"median": statistics.median(times) * unit, "min": min(times) * unit, "max": max(times) * unit}


def measure(pools: dict[str, Path], what: Callable[[Path], float], rounds: int, unit: float) -> dict[str, object]:
    """Each pool in turn, so many times."""
    times: dict[str, list[float]] = {name: [] for name in pools}
    for _ in range(rounds):
        for name, path in pools.items():
            times[name].append(what(path))
    return {name: spread(list_, unit) for name, list_ in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="where the pools are made (8 GiB)")  # noqa: S108
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        pools = {name: Path(folder, name.replace(" ", "-")) for name in HEAPS}
        for name, path in pools.items():
            fill(path, HEAPS[name])
        found = {
            "pool_bytes": {name: path.stat().st_size for name, path in pools.items()},
            "open_ms": measure(pools, opening, options.rounds, 1e3),
            "transaction_us": measure(pools, lambda path: transacting(path, 2000), options.rounds, 1e6),
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
