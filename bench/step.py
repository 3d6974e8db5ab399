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
import statistics
import tempfile
from dataclasses import astuple
from pathlib import Path

import plinius
import torch
from plinius.bench.intervals import ratio
from plinius.bench.passive import wait_passively
from plinius.bench.sealed_step import Steps
from plinius.darknet import parse

DEFAULT_CFG = Path(__file__).parent.parent / "examples" / "fashion.cfg"


def main() -> None:
    """Measures and prints."""
    wait_passively()
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
    """Runs the steps in turn and compares neighbours."""
    config = parse(cfg.read_bytes(), str(cfg))
    batch = config.net.batch
    with plinius.Pool(place / "pool") as pool:
        steps = Steps(config, pool, place)
        ways = (steps.plain_s, steps.saved_s, steps.sealed_s)
        for way in ways:  # warm everything up
            way(batch)
        steps.saves_s.clear()
        plain_s, saved_s, sealed_s = zip(*([way(batch) for way in ways] for _ in range(pairs)), strict=True)
        _, _, extents = pool.core.entry("mirror/bench") or ("", b"", [])
    return {
        "cfg": cfg.name,
        "batch": batch,
        "threads": torch.get_num_threads(),
        "pairs": pairs,
        "plain_step_ms": statistics.median(plain_s) * 1e3,
        "save_ms": statistics.median(steps.saves_s) * 1e3,
        "state_mb": sum(length for _, length in extents) / 1e6,
        "save_ratio": astuple(ratio(saved_s, plain_s)),
        "sealed_data_ratio": astuple(ratio(sealed_s, plain_s)),
    }


if __name__ == "__main__":
    main()
