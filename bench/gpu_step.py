"""What mirroring costs a training step on a GPU: without saves, with a save after each, and with one in the background.

    .venv/bin/python bench/gpu_step.py

Six layers of 2048 x 2048 with Adam (a state of 302 MB), 4 micro-batches of 32768; blocks of three steps, the ways in
random order, ratios of blocks of one round. Pool: emulated PM on /dev/shm.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import torch
from plinius import Key, Mirror, Pool

WIDTH, LAYERS, BATCH, MICRO_BATCHES = 2048, 6, 32768, 4
BLOCK_STEPS, ROUNDS = 3, 12
WAYS = ("none", "wait=True", "wait=False")


def main() -> None:
    if not torch.cuda.is_available():
        raise SystemExit("gpu_step: there is no GPU here")
    warnings.simplefilter("ignore")
    torch.manual_seed(1)
    layers = [layer for _ in range(LAYERS) for layer in (torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU())]
    model = torch.nn.Sequential(*layers).cuda()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    inputs = torch.randn(BATCH, WIDTH, device="cuda")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, Pool(Path(folder, "pool")) as pool:
        mirror = Mirror(pool, Key.generate(), name="gpu", model=model, optimizer=optimizer)
        saved = 0

        def block(way: str) -> float:
            nonlocal saved
            torch.cuda.synchronize()
            began = time.perf_counter()
            for _ in range(BLOCK_STEPS):
                optimizer.zero_grad(set_to_none=True)
                for _ in range(MICRO_BATCHES):
                    model(inputs).square().mean().backward()
                optimizer.step()
                if way != "none":
                    saved += 1
                    mirror.save(saved, wait=way == "wait=True")
            torch.cuda.synchronize()
            taken = (time.perf_counter() - began) / BLOCK_STEPS
            mirror.wait()
            return taken

        for way in WAYS * 2:
            block(way)
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(ROUNDS):
            for way in random.sample(WAYS, len(WAYS)):
                times[way].append(block(way))
    print(f"{torch.cuda.get_device_name()}: plain step {statistics.median(times['none']) * 1e3:.1f} ms")
    for way in WAYS[1:]:
        ratios = sorted(one / plain for one, plain in zip(times[way], times["none"], strict=True))
        print(f"{way}: {statistics.median(ratios):.3f} of it ({ratios[1]:.3f} to {ratios[-2]:.3f})")


if __name__ == "__main__":
    main()
