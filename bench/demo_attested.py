"""The paper's figure 5, as a stranger sees it: an owner's desk, a machine that she does not trust, and what goes wrong.

Everything in `desk` is the owner's; in `machine` lies only what the untrusted side ever has. The TEE is simulated.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo import CFG, say, seal
from runs import PLINIUS, plinius

JOB = "fashion"
STEPS = 60
ADDRESS = "127.0.0.1:7655"


class Desk:
    """The owner's: keys, policy, manifest, broker."""

    def __init__(self, folder: Path, images: Path) -> None:
        self.folder = folder
        self.job = folder / "jobs" / JOB
        self.job.mkdir(parents=True)
        self.identity, self.key = folder / "owner.identity", self.job / "job.key"
        say("keygen:", plinius("keygen", self.key))
        say("keygen:", plinius("keygen", "--signing", self.identity))
        self.data = seal(images, folder, self.key, "t10k")
        say("policy:", plinius("policy", "--tee", "simulated-insecure", "--output", self.job / "policy.toml"))
        options = ["--steps", str(STEPS), "--reveal", "loss", "--output", self.job / "manifest"]
        named = ["--job", JOB, "--data", self.data, "--identity", self.identity]
        say("manifest:", plinius("manifest", CFG, *named, *options))

    def broker(self) -> subprocess.Popen[str]:
        """Starts the broker, and returns when it listens."""
        options = ["--jobs", self.folder / "jobs", "--identity", self.identity, "--state", self.folder / "state"]
        command = [*PLINIUS, "broker", *options, "--listen", ADDRESS]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        say(process.stdout.readline())
        return process

    @contextmanager
    def serving(self) -> Iterator[list[subprocess.Popen[str]]]:
        """A broker that is there in the block; the list holds the one that runs."""
        running = [self.broker()]
        try:
            yield running
        finally:
            running[0].kill()
            running[0].wait()


class Machine:
    """The untrusted machine: a pool, the sealed data, the broker's address and certificate."""

    def __init__(self, folder: Path, desk: Desk) -> None:
        folder.mkdir()
        self.data = Path(shutil.copy(desk.data, folder / "data.sealed"))
        self.certificate = Path(shutil.copy(desk.folder / "state" / "broker.crt", folder / "broker.crt"))

    def host(self, pool: Path) -> subprocess.Popen[str]:
        """Starts the host."""
        named = ["--broker", ADDRESS, "--broker-cert", self.certificate, "--job", JOB]
        command = [*PLINIUS, "host", *named, "--pool", pool, "--data", self.data, "--restarts", "0", "--json"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run_until(self, pool: Path, step: int) -> tuple[subprocess.Popen[str], int]:
        """Starts the host, and returns it when that step is durable, with the step that it began after."""
        host = self.host(pool)
        assert host.stdout
        began = next((it["step"] for it in map(json.loads, host.stdout) if it["type"] == "Started"), 0)
        follow(host, step)
        return host, began

    def refused(self, pool: Path) -> str:
        """Runs the host on a pool that must be refused, and returns what it says."""
        host = self.host(pool)
        _, text = host.communicate(timeout=120)
        if not host.returncode:
            raise SystemExit(f"the demo FAILED: {pool} was accepted")
        return text


def main() -> None:
    """Runs the demo and prints what happens, a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of IDX files (Fashion-MNIST or MNIST)")
    parser.add_argument("--output", type=Path, default=Path("demo-attested-out"), help="where everything is put")
    options = parser.parse_args()
    shutil.rmtree(options.output, ignore_errors=True)
    options.output.mkdir(parents=True)
    say("1. The owner's desk: keys, sealed data, policy, signed manifest, broker")
    desk = Desk(options.output / "desk", options.data)
    with desk.serving() as running:
        machine = Machine(options.output / "machine", desk)
        pool = options.output / "machine" / "job.pool"
        yesterday = train_through_trouble(desk, machine, pool, running)
        say("3. A machine that lies")
        say("  yesterday's pool put back:", machine.refused(yesterday))
        say("  an empty pool in its place:", machine.refused(pool.with_suffix(".empty")))
        calm = options.output / "calm.pool"
    say("4. Home again: the owner checks the log and exports the model")
    log = plinius("audit", "--state", desk.folder / "state").splitlines()
    for line in (it for it in log if ": advanced: " not in it):
        say("  audit:", line)
    weights = options.output / "desk" / "fashion.weights"
    say("  ", plinius("export", CFG, "--pool", pool, "--key", desk.key, "--output", weights))
    check_equal(desk, calm, weights)


def follow(host: subprocess.Popen[str], step: int) -> int:
    """Reads what a host reports until that step is durable."""
    assert host.stdout
    for message in map(json.loads, host.stdout):
        if message["type"] == "Progress" and message["durable_step"] >= step:
            return int(message["durable_step"])
    raise SystemExit(host.communicate()[1])


def train_through_trouble(desk: Desk, machine: Machine, pool: Path, running: list[subprocess.Popen[str]]) -> Path:
    """Trains to the end while the host is killed twice and the broker once; returns a copy of an older pool."""
    say("2. The untrusted machine trains; kill -9 strikes")
    host, _ = machine.run_until(pool, STEPS // 4)
    host.kill()
    host.wait()
    say(f"  kill -9 of the host after durable step {STEPS // 4}; a new enclave proves itself and gets the key again")
    yesterday = Path(shutil.copy(pool, pool.with_suffix(".yesterday")))
    host, began = machine.run_until(pool, STEPS // 2)
    say(f"  it went on after step {began}; kill -9 of the broker, and the enclave waits for the next one ...")
    running[0].kill()
    running[0].wait()
    running[0] = desk.broker()
    durable = follow(host, 3 * STEPS // 4)
    host.kill()
    host.wait()
    say(f"  the same enclave went on to step {durable}; kill -9 of the host once more")
    host, began = machine.run_until(pool, STEPS)
    say(f"  it went on after step {began}, to the end: step {STEPS}")
    host.communicate()
    if host.returncode:
        raise SystemExit("the demo FAILED: the last run did not end well")
    return yesterday


def check_equal(desk: Desk, calm: Path, weights: Path) -> None:
    """Compares with a run of the same job that nobody disturbed, on one machine and without a broker."""
    options = ["--data", desk.data, "--key", desk.key, "--pool", calm, "--steps", str(STEPS), "--json"]
    plinius("train", CFG, *options)
    target = weights.with_suffix(".calm.weights")
    plinius("export", CFG, "--pool", calm, "--key", desk.key, "--output", target)
    equal = target.read_bytes() == weights.read_bytes()
    say("  weights of an undisturbed run, byte for byte:", "EQUAL" if equal else "DIFFERENT")
    if not equal:
        sys.exit("the demo FAILED")


if __name__ == "__main__":
    main()
