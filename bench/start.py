"""How long a new enclave takes after a crash to its first step, and what of that is the framework and the sandbox.

    .venv/bin/python bench/start.py             # a state of 200 MB (100 MB of weights, and their momentum), 5 rounds
    .venv/bin/python bench/start.py --hidden 64 # a small one

A job is trained; its enclave is killed again and again, and the time is taken from the kill to the first step of the
one that the host starts in its place: it proves itself to a broker on loopback (TLS), gets the key, restores, and moves
the broker's freshness anchor. In between a bare process imports what an enclave imports and rehearses, which every
start costs whatever the job. Pool: emulated PM on /dev/shm.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
print(json.dumps({"rehearsal_s": rehearsed - measured, "sandbox_ms": 1000 * (entered - rehearsed)}), flush=True)
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
    bare: list[dict[str, float]] = []
    recovery_s: list[float] = []
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="plinius-") as place:
        desk = Desk(Path(place), options.hidden, options.plinius)
        with (
            desk.broker() as address,
            subprocess.Popen(
                [*desk.host(address), f"--restarts={options.rounds}"], stdout=subprocess.PIPE, text=True
            ) as host,
        ):
            wait_for_a_step(host)
            for _ in range(options.rounds):
                os.kill(host.pid, signal.SIGSTOP)
                os.kill(enclave_of(host.pid), signal.SIGSTOP)
                bare.append(in_a_bare_process())
                recovery_s.append(killed_and_back(host))
            host.terminate()
            host.communicate()
    report = {name: statistics.median(one[name] for one in bare) for name in bare[0]}
    report["recovery_s"] = statistics.median(recovery_s)
    print(f"import, rehearsal and sandbox in a bare process: {report['bare_s']:.2f} s")
    print(f"of that the rehearsal {report['rehearsal_s']:.2f} s, entering the sandbox {report['sandbox_ms']:.2f} ms")
    print(f"from the kill of an enclave to the first step of the next: {report['recovery_s']:.2f} s")
    print(f"beyond the bare process: {report['recovery_s'] - report['bare_s']:.2f} s (medians of {options.rounds})")


class Desk:
    """The files of a job that trains without end, and its broker's."""

    def __init__(self, place: Path, hidden: int, plinius: str) -> None:
        self._place, self._plinius = place, plinius
        own = place / "jobs" / "start"
        own.mkdir(parents=True)
        (place / "net.cfg").write_text(CFG.format(hidden=hidden))
        key = Key.generate()
        key.save(own / "job.key")
        generator = np.random.default_rng(1)
        images = generator.integers(0, 256, (1024, 1, SIDE, SIDE), np.uint8)
        seal_dataset(images, generator.integers(0, CLASSES, 1024), key, place / "data.sealed")
        self._run("keygen", "--signing", place / "owner.identity")
        self._run("policy", "--tee", "simulated-insecure", "--output", own / "policy.toml")
        named = ["--job", "start", "--data", place / "data.sealed", "--identity", place / "owner.identity"]
        self._run("manifest", place / "net.cfg", *named, "--steps", 1 << 30, "--output", own / "manifest")

    def _run(self, *arguments: object) -> None:
        subprocess.run([self._plinius, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)

    @contextmanager
    def broker(self) -> Iterator[str]:
        """A broker; its address."""
        named = ["--jobs", self._place / "jobs", "--identity", self._place / "owner.identity"]
        command = [self._plinius, "broker", *named, "--state", self._place / "state", "--listen", "127.0.0.1:0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            yield process.stdout.readline().split(" at ")[1].strip()
            process.kill()

    def host(self, address: str) -> list[str]:
        """The command of the host."""
        named = ["--broker", address, "--broker-cert", self._place / "state" / "broker.crt", "--job", "start"]
        files = ["--pool", self._place / "p", "--data", self._place / "data.sealed", "--json"]
        return [self._plinius, "host", *map(str, [*named, *files])]


def wait_for_a_step(host: subprocess.Popen[str]) -> None:
    """Reads until the host tells of a step."""
    assert host.stdout
    if not any(json.loads(line)["type"] == "Progress" for line in host.stdout):
        raise SystemExit("the training ended")


def enclave_of(host: int) -> int:
    """The process of the enclave, which a host starts last."""
    return int(Path(f"/proc/{host}/task/{host}/children").read_text().split()[-1])


def killed_and_back(host: subprocess.Popen[str]) -> float:
    """Kills the enclave of a host that is held still, and lets that go on; how long the next step takes, in seconds."""
    began_s = time.perf_counter()
    os.kill(enclave_of(host.pid), signal.SIGKILL)
    os.kill(host.pid, signal.SIGCONT)
    assert host.stdout
    for line in host.stdout:  # what it had told of the old one comes first
        if json.loads(line)["type"] == "Started":
            break
    wait_for_a_step(host)
    return time.perf_counter() - began_s


def in_a_bare_process() -> dict[str, float]:
    """What every start costs."""
    began_s = time.perf_counter()
    with subprocess.Popen([sys.executable, "-I", "-c", BARE], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        facts: dict[str, float] = json.loads(process.stdout.readline())
        return {**facts, "bare_s": time.perf_counter() - began_s}


if __name__ == "__main__":
    main()
