"""A training that saves in the background, killed with SIGKILL again and again: overlapped.py FOLDER KILLS SEED.

This process forks each life of the training, so that none of them has to import torch. It prints what came of it, as
JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import sys
import time
import warnings
from pathlib import Path

import torch
from plinius import Key, Mirror, Pool
from plinius.mirror import RollbackWarning

WORD = struct.Struct("<QQ")
STEPS_A_KILL = 12


class Job:
    """Two layers of 1 MB, batch normalization, an average, dropout: everything that a step may change."""

    def __init__(self, pool: Path, key: Key) -> None:
        torch.manual_seed(1)
        layers = [torch.nn.Linear(16, 512), torch.nn.BatchNorm1d(512), torch.nn.ReLU(), torch.nn.Dropout(0.1)]
        self.model = torch.nn.Sequential(*layers, torch.nn.Linear(512, 512), torch.nn.Linear(512, 2))
        self.average = torch.optim.swa_utils.AveragedModel(self.model)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        state = {"model": self.model, "optimizer": self.optimizer, "average": self.average}
        self.mirror = Mirror(Pool(pool), key, name="net", **state)

    def restore(self) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RollbackWarning)
            return self.mirror.restore() or 0

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.model(torch.randn(8, 16)).square().mean().backward()
        self.optimizer.step()
        self.average.update_parameters(self.model)

    def bytes(self) -> bytes:
        tensors = [*self.model.state_dict().values(), *self.average.state_dict().values()]
        tensors += [it for state in self.optimizer.state.values() for it in state.values()]
        return b"".join(tensor.detach().numpy().tobytes() for tensor in tensors)


def live(pool: Path, key: Key, steps: int, report: int) -> None:
    """Trains to the end, and reports after each step what is durable and where it began."""
    job = Job(pool, key)
    begun = job.restore()
    for step in range(begun + 1, steps + 1):
        job.step()
        job.mirror.save(step, wait=False)
        os.write(report, WORD.pack(begun, job.mirror.latest_step() or 0))
    job.mirror.wait()
    os.write(report, WORD.pack(begun, job.mirror.latest_step() or 0))


def life(pool: Path, key: Key, steps: int, delay_s: float | None) -> tuple[int, int]:
    """One life, killed so long after its first report; returns where it began, and what it last reported as durable."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        code = 1
        try:
            live(pool, key, steps, writer)
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as reports:
        begun, durable = WORD.unpack(reports.read(WORD.size))
        if delay_s is not None:
            time.sleep(delay_s)
            os.kill(child, signal.SIGKILL)
        while report := reports.read(WORD.size):
            begun, durable = WORD.unpack(report)
    _, status = os.waitpid(child, 0)
    if delay_s is None and status != 0:
        raise SystemExit("a life that was not killed has failed")
    return begun, durable


def main() -> None:
    """Trains once with kills and once without."""
    torch.set_num_threads(1)
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    chance, key = random.Random(seed), Key.generate()  # noqa: S311 (moments, not secrets)
    steps = kills * STEPS_A_KILL
    durable, lost, ahead, done = 0, 0, 0, 0
    for _ in range(kills):
        begun, now = life(folder / "killed.pool", key, steps, chance.uniform(0, 0.06))
        lost += begun < durable
        ahead += begun > durable
        durable = max(now, begun)
        done += 1
    begun, _ = life(folder / "killed.pool", key, steps, None)
    lost += begun < durable
    life(folder / "whole.pool", key, steps, None)
    ends = []
    for name in ("killed.pool", "whole.pool"):
        job = Job(folder / name, key)
        if job.restore() != steps:
            raise SystemExit(f"{name} does not end with step {steps}")
        ends.append(job.bytes())
    told = {
        "kills": done,
        "lost": lost,
        "resumed beyond the report": ahead,
        "equal": ends[0] == ends[1],
        "steps": steps,
    }
    print(json.dumps({**told, "last begun": begun}))


if __name__ == "__main__":
    main()
