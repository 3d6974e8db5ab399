"""How long a new enclave takes from its start to its first step, and what of that is the framework and the sandbox.

    .venv/bin/python bench/start.py             # a state of 200 MB (100 MB of weights, and their momentum), 5 rounds
    .venv/bin/python bench/start.py --hidden 64 # a small one

A job is trained two steps; then the same command is started again and again, as after a crash, for one step more each
time, from the start of `plinius train` to the first `Progress` line. In between a bare process imports what an enclave
imports and rehearses, which every start costs whatever the job. Pool: emulated PM on /dev/shm. No freshness anchor.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from plinius.dataset import seal_dataset
from plinius.seal import Key

SIDE, CLASSES = 28, 10
CFG = f"""[net]
batch=32
height={SIDE}
width={SIDE}
channels=1
learning_rate=0.01
max_batches=1000
[connected]
output={{hidden}}
activation=leaky
[connected]
output={{hidden}}
activation=leaky
[connected]
output={CLASSES}
activation=linear
[softmax]
"""
BARE = """
import json, os, time
os.environ["OPENBLAS_NUM_THREADS"] = "1"
from plinius.enclave import sandbox, rehearsal
from plinius.attest import simulated
loaded = time.perf_counter()
simulated.measurement()
measured = time.perf_counter()
rehearsal.rehearse()
rehearsed = time.perf_counter()
sandbox.enter()
entered = time.perf_counter()
print(json.dumps({"rehearsal_s": rehearsed - measured, "sandbox_ms": 1000 * (entered - rehearsed)}))
"""


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--hidden", type=int, default=4640, help="width of the network; the default has 100 MB of weights"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--plinius", default=str(Path(sys.executable).with_name("plinius")), help="the command to start"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="plinius-") as place:
        train = job(Path(place), options.hidden, options.plinius)
        first_progress(train(2))
        bare: list[dict[str, float]] = []
        whole_s: list[float] = []
        for number in range(options.rounds):
            bare.append(in_a_bare_process())
            whole_s.append(first_progress(train(3 + number)))
    report = {name: statistics.median(one[name] for one in bare) for name in bare[0]}
    report["first_step_s"] = statistics.median(whole_s)
    print(f"import, rehearsal and sandbox in a bare process: {report['bare_s']:.2f} s")
    print(f"of that the rehearsal {report['rehearsal_s']:.2f} s, entering the sandbox {report['sandbox_ms']:.2f} ms")
    print(f"plinius train, from its start to its first step after a crash: {report['first_step_s']:.2f} s")
    print(f"beyond the bare process: {report['first_step_s'] - report['bare_s']:.2f} s (medians of {options.rounds})")


def job(place: Path, hidden: int, plinius: str) -> Callable[[int], list[str]]:
    """Makes the files of a job; what it returns gives the command for so many steps."""
    (place / "net.cfg").write_text(CFG.format(hidden=hidden))
    key = Key.generate()
    key.save(place / "job.key")
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (1024, 1, SIDE, SIDE), np.uint8)
    seal_dataset(images, generator.integers(0, CLASSES, 1024), key, place / "data.sealed")
    files = [f"--{name}={place / file}" for name, file in (("data", "data.sealed"), ("key", "job.key"), ("pool", "p"))]
    return lambda steps: [plinius, "train", str(place / "net.cfg"), *files, f"--steps={steps}", "--json"]


def first_progress(command: list[str]) -> float:
    """From the start of a command to its first step, in seconds; it is ended properly afterwards."""
    began_s = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as started:
        assert started.stdout
        for line in started.stdout:
            if json.loads(line)["type"] == "Progress":
                took_s = time.perf_counter() - began_s
                started.communicate()
                return took_s
    raise SystemExit(f"{' '.join(command)} made no step")


def in_a_bare_process() -> dict[str, float]:
    """What every start costs."""
    began_s = time.perf_counter()
    done = subprocess.run([sys.executable, "-I", "-c", BARE], stdout=subprocess.PIPE, text=True, check=True)
    facts: dict[str, float] = json.loads(done.stdout)
    return {**facts, "bare_s": time.perf_counter() - began_s}


if __name__ == "__main__":
    main()
