"""How a pool on an ordinary file is best written and made durable: four ways, on one disk.

    .venv/bin/python bench/file_media.py --folder /var/tmp

1. mapped stores, fdatasync
2. mapped stores, msync of the pages that were touched
3. positioned writes, fdatasync; heaps are read from a private copy of them
4. heaps as in 1, extents as in 3

What is written is what a pool writes: a Romulus commit (four barriers), and a save, which streams 3, 30 or 100 MB into
extents, makes them durable with one barrier, and commits. The floor is one page, written and made durable.

Each way has a file of its own, which is written once before anything is measured. The ways take turns in random order.
Each ratio is the median over rounds, with a 95 % interval from bootstrap resampling. CPU time is that of this process,
in user and in kernel mode: it depends less on what else the machine is doing.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from plinius.bench.intervals import Interval, ratio

PAGE = 4096
LINE = 64
STATE = 8192
HEAP_BYTES = 2 << 20
MAIN = 12288
BACK = MAIN + HEAP_BYTES
EXTENTS = BACK + HEAP_BYTES
SAVES_MB = (3, 30, 100)
POOL_BYTES = EXTENTS + SAVES_MB[-1] * 10**6
CHUNK_BYTES = 256 << 10
# The line of the heap's own words, and a line in each of seven other pages: an entry, its neighbours, free blocks.
DIRTY_LINES = (0, *range(5 * PAGE + 512, 61 * PAGE, 8 * PAGE))


class Mapped:
    """Mapped stores and fdatasync.

    Args:
        folder: Where the file is made.
    """

    def __init__(self, folder: Path) -> None:
        self.file = os.open(folder / type(self).__name__, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.posix_fallocate(self.file, 0, POOL_BYTES)
        self.map = mmap.mmap(self.file, POOL_BYTES)

    def store(self, at: int, data: memoryview) -> None:
        """Writes into the heaps or the state word."""
        self.map[at : at + len(data)] = data

    def stream(self, at: int, data: memoryview) -> None:
        """Writes into an extent."""
        self.map[at : at + len(data)] = data

    def barrier(self) -> None:
        """Makes all that was written durable."""
        os.fdatasync(self.file)


class Msync(Mapped):
    """One msync from the first to the last page that was touched: clean pages between them cost next to nothing."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.first, self.end = POOL_BYTES, 0

    def store(self, at: int, data: memoryview) -> None:
        """Remembers the range."""
        super().store(at, data)
        self.first, self.end = min(self.first, at), max(self.end, at + len(data))

    stream = store

    def barrier(self) -> None:
        """Python's flush is msync with MS_SYNC."""
        first = self.first // PAGE * PAGE
        self.map.flush(first, self.end - first)
        self.first, self.end = POOL_BYTES, 0


class PositionedExtents(Mapped):
    """Extents by pwrite: the mapping shows the same pages."""

    def stream(self, at: int, data: memoryview) -> None:
        """Writes without a page fault for each page."""
        written = os.pwrite(self.file, data, at)
        assert written == len(data)


class Positioned(PositionedExtents):
    """Everything by pwrite."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.heaps = bytearray(EXTENTS)

    def store(self, at: int, data: memoryview) -> None:
        """Keeps the private copy equal."""
        self.heaps[at : at + len(data)] = data
        self.stream(at, data)


WAYS = {
    "mapped stores + fdatasync": Mapped,
    "mapped stores + msync": Msync,
    "positioned writes + fdatasync": Positioned,
    "mapped heaps, positioned extents": PositionedExtents,
}
Work: TypeAlias = Callable[[Mapped, memoryview], None]


def commit(way: Mapped, data: memoryview) -> None:
    """A Romulus transaction; its last state word has no barrier."""
    for heap in (MAIN, BACK):
        way.store(STATE, data[:8])
        way.barrier()
        for line in DIRTY_LINES:
            way.store(heap + line, data[:LINE])
        way.barrier()
    way.store(STATE, data[8:16])


def save(length: int, way: Mapped, data: memoryview) -> None:
    """A bulk write, from a staging buffer that stays in the cache as that of the ciphertext does, and its commit."""
    for at in range(0, length, CHUNK_BYTES):
        way.stream(EXTENTS + at, data[: min(CHUNK_BYTES, length - at)])
    way.barrier()
    commit(way, data)


def touch(way: Mapped, data: memoryview) -> None:
    """The floor."""
    os.pwrite(way.file, data[:PAGE], EXTENTS)
    os.fdatasync(way.file)


def measure(ways: list[Mapped], work: Work, rounds: int) -> list[dict[str, Any]]:
    """For each way: medians, and the ratio to the first way."""
    wall_s, cpu_s = np.empty((2, rounds, len(ways)))
    for turn in range(rounds):
        for index in random.sample(range(len(ways)), len(ways)):
            data = memoryview(os.urandom(CHUNK_BYTES))
            wall_began_s, cpu_began_s = time.perf_counter(), time.process_time()
            work(ways[index], data)
            wall_s[turn, index] = time.perf_counter() - wall_began_s
            cpu_s[turn, index] = time.process_time() - cpu_began_s
    return [
        {
            "way": name,
            "median_ms": float(np.median(wall_s[:, index])) * 1e3,
            "ratio": asdict(ratio(wall_s[:, index], wall_s[:, 0])),
            "cpu_median_ms": float(np.median(cpu_s[:, index])) * 1e3,
            "cpu_ratio": asdict(ratio(cpu_s[:, index], cpu_s[:, 0])),
        }
        for index, name in enumerate(list(WAYS)[: len(ways)])
    ]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to measure; 420 MB are needed there")
    parser.add_argument("--rounds", type=int, default=300, help="of commits; of saves the fewer, the larger they are")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report = {}
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="plinius-") as folder:
        ways = [way(Path(folder)) for way in WAYS.values()]
        for way in ways:  # afterwards every block of the file has been written, and is in the page cache
            save(SAVES_MB[-1] * 10**6, way, memoryview(os.urandom(CHUNK_BYTES)))
        (floor,) = measure(ways[:1], touch, options.rounds)
        report["commit"] = measure(ways, commit, options.rounds)
        for megabytes in SAVES_MB:
            rounds = max(options.rounds // (1 + megabytes // 3), 20)
            report[f"save of {megabytes} MB"] = measure(ways, partial(save, megabytes * 10**6), rounds)
    if options.json:
        print(json.dumps({"floor_ms": floor["median_ms"], **report}))
        return
    print(f"floor (one page, written and made durable): {floor['median_ms']:.3f} ms")
    for what, results in report.items():
        print(f"{what}:")
        for result in results:
            wall, cpu = (Interval(**result[name]).text(2) for name in ("ratio", "cpu_ratio"))
            times = f"{result['median_ms']:8.2f} ms, ratio {wall}; CPU {result['cpu_median_ms']:7.2f} ms, ratio {cpu}"
            print(f"  {result['way']:<33} {times}")


if __name__ == "__main__":
    main()
