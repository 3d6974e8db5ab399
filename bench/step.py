"""What mirroring and sealed data cost a training step, as ratios within one interleaved run.

    make bench-step            # examples/fashion.cfg on made-up images
    .venv/bin/python bench/step.py --cfg plinius-mnist.cfg --json

Single steps alternate between three ways: plain data without save, plain data with a save after each step,
sealed data without save. Each ratio is the median over pairs of neighbouring steps, with a 95 % interval from
bootstrap resampling of the pairs. Pool: emulated PM on /dev/shm. No freshness anchor.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import plinius
import torch
from plinius.darknet import parse
from plinius.darknet.training import Training

DEFAULT_CFG = Path(__file__).parent.parent / "examples" / "fashion.cfg"
RECORDS = 4096
BLOCK_STEPS = 1


def main() -> None:
    """Measures and prints."""
    _wait_passively()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", type=Path, default=DEFAULT_CFG)
    parser.add_argument("--pairs", type=int, default=100, help="steps of each way")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="plinius-") as place:
        report = measure(options.cfg, options.pairs, Path(place))
    if options.json:
        print(json.dumps(report))
        return
    print(f"{report['cfg']}: plain step {report['plain_step_ms']:.1f} ms (median), batch {report['batch']}")
    share = report["save_ms"] / report["plain_step_ms"]
    print(f"state {report['state_mb']:.1f} MB, save {report['save_ms']:.2f} ms (median), {share:.1%} of a plain step")
    for name in ("save_ratio", "sealed_data_ratio"):
        middle, low, high = report[name]
        print(f"{name}: {middle:.4f} (95 % interval {low:.4f} to {high:.4f})")


def measure(cfg: Path, pairs: int, place: Path) -> dict[str, object]:
    """Runs the blocks in turn and compares neighbours."""
    config = parse(cfg.read_bytes(), str(cfg))
    shape = (config.input_shape.channels, config.input_shape.height, config.input_shape.width)
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (RECORDS, *shape), np.uint8)
    labels = generator.integers(0, config.outputs, RECORDS).astype(np.int64)
    key = plinius.Key.generate()
    plinius.seal_dataset(images, labels, key, place / "data.sealed")
    training = Training.start(config, seed=1)
    with plinius.Pool(place / "pool") as pool:
        data = plinius.SealedDataset(pool, key, place / "data.sealed")
        mirror = plinius.Mirror(pool, key, name="bench", **training.state)
        count = 0
        saves_s: list[float] = []

        def plain(indices: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
            return images[indices].astype(np.float32) / np.float32(255), labels[indices]

        def block(batch: Callable[..., tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]], save: bool) -> float:
            nonlocal count
            began_s = time.perf_counter()
            for _ in range(BLOCK_STEPS):
                training.step(count, *batch(plinius.batch_indices(RECORDS, 1, count, config.net.batch)))
                count += 1
                if save:
                    save_began_s = time.perf_counter()
                    mirror.save(count)
                    saves_s.append(time.perf_counter() - save_began_s)
            return (time.perf_counter() - began_s) / BLOCK_STEPS

        for batch, save in ((plain, True), (data.batch, False)):  # warm everything up
            block(batch, save)
        saves_s.clear()
        rows = np.array([[block(plain, False), block(plain, True), block(data.batch, False)] for _ in range(pairs)])
        _, _, extents = pool.core.entry("mirror/bench") or ("", b"", [])
    return {
        "cfg": cfg.name,
        "batch": config.net.batch,
        "threads": torch.get_num_threads(),
        "pairs": pairs,
        "plain_step_ms": float(np.median(rows[:, 0])) * 1e3,
        "save_ms": float(np.median(saves_s)) * 1e3,
        "state_mb": sum(length for _, length in extents) / 1e6,
        "save_ratio": ratio(rows[:, 1], rows[:, 0]),
        "sealed_data_ratio": ratio(rows[:, 2], rows[:, 0]),
    }


def ratio(measured_s: npt.NDArray[np.float64], base_s: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """The median ratio of pairs, with the 95 % interval of that median from bootstrap resampling."""
    ratios = measured_s / base_s
    resampled = np.random.default_rng(1).choice(ratios, (10_000, len(ratios)))
    low, high = np.percentile(np.median(resampled, axis=1), [2.5, 97.5])
    return float(np.median(ratios)), float(low), float(high)


def _wait_passively() -> None:
    """Starts this program again with the OpenMP setting that the enclave has: it is read when torch is loaded."""
    if os.environ.get("OMP_WAIT_POLICY") != "PASSIVE":
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
        sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
