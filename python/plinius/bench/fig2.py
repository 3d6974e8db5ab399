"""Figure 2: sequential and random reads and writes of 4 KiB on a disk, on memory, and on PM where there is some."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from plinius import pool
from plinius.bench.experiment import Experiment, Plan, Result, Row
from plinius.bench.folders import new_folder
from plinius.bench.storage import BLOCK_BYTES, LOOP, PATTERNS, Load, Pattern, bytes_per_s, can_be_direct, lay_out, tool
from plinius.bench.tables import cpu
from plinius.bench.words import rounded

_MEGABYTE: Final = 10**6
_MOUNTS: Final = Path("/proc/self/mounts")
DISK: Final = "disk"
MEMORY: Final = "tmpfs"
FSDAX: Final = "fsdax"
_ROOM: Final = 2
_STYLES: Final = {DISK: ":", MEMORY: "--", FSDAX: "-"}


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        threads: How many threads work at a time.
        file_bytes: The size of each thread's file.
        seconds: Of each point.
    """

    threads: tuple[int, ...]
    file_bytes: int
    seconds: float


@dataclass(frozen=True)
class Place:
    """Where something is measured.

    Attributes:
        kind: `DISK`, `MEMORY` or `FSDAX`.
        medium: What lies there, in words.
        folder: A folder in it.
        direct: Its reads pass the page cache by. There is none above memory and fsdax.
    """

    kind: str
    medium: str
    folder: Path
    direct: bool


@dataclass(frozen=True)
class Fig2:
    """Megabytes a second, against the number of threads."""

    quick: Size = Size((1, 2, 4, 8), 16 << 20, 0.15)
    full: Size = Size((1, 2, 3, 4, 5, 6, 7, 8), 64 << 20, 1.0)
    name: str = "fig2"
    title: str = "Fig. 2: reads and writes of 4 KiB, an fsync after each write"

    def measure(self, plan: Plan) -> Result:
        """Measures every pattern in every place, with every number of threads.

        Raises:
            PliniusError: A folder cannot be used, or fio failed.
        """
        size = self.quick if plan.quick else self.full
        measured_with = tool()
        points = []
        with ExitStack() as stack:
            places = list(_places(plan, stack, max(size.threads), size.file_bytes))
            # The places take turns, so that a slow moment of the machine does not strike one of them only.
            for pattern in PATTERNS:
                for threads in size.threads:
                    plan.tell(f"fig2: {pattern.name}, {threads} threads")
                    points += [_point(place, pattern, threads, size, measured_with) for place in places]
            found = [{"kind": one.kind, "medium": one.medium, "direct_reads": one.direct} for one in places]
        return {
            "cpu": cpu(),
            "cores": len(os.sched_getaffinity(0)),
            "tool": measured_with,
            "block_bytes": BLOCK_BYTES,
            "size": asdict(size),
            "places": found,
            "points": points,
        }

    def draw(self, result: Result, path: Path) -> None:
        """Draws a panel for each of the four patterns, a line for each place."""
        from matplotlib.figure import Figure  # noqa: PLC0415

        figure = Figure(figsize=(10, 7), layout="constrained")
        for axes, pattern in zip(figure.subplots(2, 2).flat, PATTERNS, strict=True):
            for place in result["places"]:
                line = [
                    (point["threads"], point["mb_per_s"])
                    for point in result["points"]
                    if (point["pattern"], point["kind"]) == (pattern.name, place["kind"])
                ]
                axes.plot(*zip(*line, strict=True), label=place["kind"], marker="o", linestyle=_STYLES[place["kind"]])
            axes.set_yscale("log")
            axes.set_xticks(result["size"]["threads"])
            axes.set_xlabel("threads")
            axes.set_ylabel("MB/s")
            axes.set_title(f"{pattern.name}{', fsync after each' if pattern.writes else ''}", fontsize="medium")
            axes.grid(which="both", alpha=0.3)
            axes.legend(fontsize="small")
        figure.suptitle(f"{result['block_bytes']} bytes at a time, measured with {_tool(result)}", fontsize="medium")
        figure.savefig(path, dpi=150)

    def rows(self, result: Result) -> list[Row]:
        """Each pattern in each place, with one thread and with the most."""
        most = max(result["size"]["threads"])
        return [
            Row(
                f"{pattern.name}, {place['kind']}{_how(place, pattern)}",
                f"{rounded(_mb_per_s(result, pattern.name, place['kind'], 1))} MB/s with 1 thread, "
                f"{rounded(_mb_per_s(result, pattern.name, place['kind'], most))} MB/s with {most}",
            )
            for pattern in PATTERNS
            for place in result["places"]
        ]

    def meaning(self, result: Result) -> str:
        """How far memory is from the disk, and how far what was measured with can be trusted."""
        write = Pattern(writes=True, random=True).name
        kinds = [place["kind"] for place in result["places"]]
        disk = _mb_per_s(result, write, DISK, 1)
        times = {kind: rounded(_mb_per_s(result, write, kind, 1) / disk) for kind in kinds if kind != DISK}
        others = [f"{found} times as many on {kind}" for kind, found in times.items()]
        on_pm = ": tmpfs keeps nothing when the machine stops, and no fsdax is mounted here, so no PM was measured"
        if FSDAX in kinds:
            on_pm = ""
        limit = ""
        if result["tool"] == LOOP:
            limit = (
                "; fio is not installed, and the Python loop that took its place lets only one thread compute at a "
                "time: its own cost is part of what it shows of memory, and it says little of more threads there"
            )
        cached = "" if _disk(result)["direct_reads"] else "; the disk's reads came from the page cache"
        compared = f", and {' and '.join(others)}" if others else ""
        return (
            f"With an fsync after each, one thread writes {rounded(disk)} MB/s at random places of the disk{compared}"
            f"{on_pm}{cached}{limit}."
        )


EXPERIMENT: Final[Experiment] = Fig2()


def _places(plan: Plan, stack: ExitStack, threads: int, file_bytes: int) -> Iterator[Place]:
    """The folders of the plan, and what else there is; one of each kind, its files laid out."""
    seen = set()
    for kind, where in ((DISK, plan.disk), (_kind(plan.memory), plan.memory), *_others(threads * file_bytes)):
        if kind in seen:
            continue
        seen.add(kind)
        folder = stack.enter_context(new_folder(str(where)))
        plan.tell(f"fig2: laying out files on {kind}")
        lay_out(folder, threads, file_bytes)
        yield Place(kind, pool.medium_at(folder)[0], folder, kind == DISK and can_be_direct(folder))


def _others(needed_bytes: int) -> Iterator[tuple[str, Path]]:
    """Where else fsdax or tmpfs is mounted, with room, and we may write."""
    for _, folder, file_system, options, *_ in map(str.split, _MOUNTS.read_text().splitlines()):
        dax = not {"dax", "dax=always"}.isdisjoint(options.split(","))
        if not (dax or file_system == MEMORY) or not os.access(folder, os.W_OK | os.X_OK):
            continue
        if shutil.disk_usage(folder).free > _ROOM * needed_bytes:
            yield (FSDAX if dax else MEMORY), Path(folder)


def _kind(folder: Path) -> str:
    """What the plan's memory is, from the words for its medium."""
    words = pool.medium_at(folder)[0].lower()
    return FSDAX if "dax" in words else MEMORY if "tmpfs" in words else DISK


def _point(place: Place, pattern: Pattern, threads: int, size: Size, measured_with: str) -> dict[str, object]:
    direct = place.direct and not pattern.writes
    load = Load(place.folder, pattern, threads, size.file_bytes, size.seconds, direct)
    mb_per_s = bytes_per_s(load, measured_with) / _MEGABYTE
    return {"kind": place.kind, "pattern": pattern.name, "threads": threads, "mb_per_s": mb_per_s}


def _mb_per_s(result: Result, pattern: str, kind: str, threads: int) -> float:
    [found] = [
        point["mb_per_s"]
        for point in result["points"]
        if (point["pattern"], point["kind"], point["threads"]) == (pattern, kind, threads)
    ]
    return float(found)


def _disk(result: Result) -> Result:
    [found] = [place for place in result["places"] if place["kind"] == DISK]
    return dict(found)


def _how(place: Result, pattern: Pattern) -> str:
    if pattern.writes or place["kind"] != DISK:
        return ""
    return " (O_DIRECT)" if place["direct_reads"] else " (page cache)"


def _tool(result: Result) -> str:
    return "a loop of Python's, since fio is not installed" if result["tool"] == LOOP else str(result["tool"])
