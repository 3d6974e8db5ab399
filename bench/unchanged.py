"""What a save costs when nothing has changed, when half has, and when all is declared frozen, beside one parallel read.

    .venv/bin/python bench/unchanged.py

100 MB in 24 tensors that no optimizer owns, on emulated PM. The read is torch's sum over the same bytes, with all
threads. The ways take turns; medians, and ratios in pairs. At the end: how far a save of 1 GB raises the peak of
private memory.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from pathlib import Path

import torch
from plinius import Key, Mirror, Pool

TENSORS, MEGABYTES = 24, 100
WARM_UP, ROUNDS = 10, 30
CHANGED = {"changed": TENSORS, "half": TENSORS // 2, "unchanged": 0, "frozen": 0}


class Way:
    """A mirror of tensors of its own, so many of which change before each save."""

    def __init__(self, pool: Pool, name: str) -> None:
        self.weights = tensors(MEGABYTES)
        self.changed = self.weights[: CHANGED[name]]
        frozen = [self.weights] if name == "frozen" else []
        self.mirror = Mirror(pool, Key.generate(), name=name, frozen=frozen, weights=self.weights)

    def save(self, step: int) -> float:
        """Seconds that a save takes."""
        for tensor in self.changed:
            tensor.add_(1)
        began = time.perf_counter()
        self.mirror.save(step)
        return time.perf_counter() - began


def tensors(megabytes: int) -> list[torch.Tensor]:
    return [torch.randn(megabytes * 250_000 // TENSORS) for _ in range(TENSORS)]


def read(weights: list[torch.Tensor]) -> float:
    began = time.perf_counter()
    for tensor in weights:
        tensor.sum()
    return time.perf_counter() - began


def measure(pool: Pool) -> None:
    ways = {name: Way(pool, name) for name in CHANGED}
    times: dict[str, list[float]] = {name: [] for name in ("read", *ways)}
    for step in range(1, WARM_UP + ROUNDS + 1):
        taken = {"read": read(ways["unchanged"].weights)}
        taken |= {name: way.save(step) for name, way in ways.items()}
        for name, one in taken.items():
            times[name].append(one)
    seen = {name: list_[WARM_UP:] for name, list_ in times.items()}
    for name, list_ in seen.items():
        ratio = statistics.median(one / base for one, base in zip(list_, seen["read"], strict=True))
        print(f"{name:10} {statistics.median(list_) * 1e3:7.2f} ms, {ratio:6.2f} of the read")


def peak_mib(pool: Pool) -> float:
    """How much more private memory a save of 1 GB has at its peak."""
    mirror = Mirror(pool, Key.generate(), name="large", weights=tensors(1000))
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    before = status("RssAnon")
    mirror.save(1)
    # Of the pool's memory, which is shared, all is resident at the end.
    return (status("VmHWM") - status("RssShmem") - status("RssFile") - before) / 1024


def status(name: str) -> int:
    """A line of this process's status, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        with Pool(Path(folder, "pool")) as pool:
            measure(pool)
        with Pool(Path(folder, "large")) as pool:
            print(f"a save of 1 GB: at its peak {peak_mib(pool):.1f} MiB of private memory more")


if __name__ == "__main__":
    main()
