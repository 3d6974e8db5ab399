"""What a freshness anchor costs a save: none, a broker on loopback (TLS, its database on this disk), every 10 saves.

.venv/bin/python bench/anchor.py                # a state of 3.1 MB, 300 saves of each kind, interleaved
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from plinius.attest.simulated import SimulatedAttester
from plinius.dataset import seal_dataset
from plinius.enclave.anchoring import BrokerAnchor
from plinius.enclave.provisioning import Ordered, request_ordered_key
from plinius.endpoint import Endpoint
from plinius.host.broker_link import BrokerLink
from plinius.mirror import Mirror
from plinius.pool import Pool
from plinius.seal import Key

PLINIUS = Path(sys.executable).with_name("plinius")
CFG = Path(__file__).parent.parent / "examples" / "fashion.cfg"
EVERY = {"no anchor": 0, "broker, every save": 1, "broker, every 10 saves": 10}
BYTES = 3_100_000


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as disk, tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        key = made(Path(disk))
        with broker(Path(disk)) as address, Pool(Path(memory) / "pool") as pool:
            weights = np.zeros(BYTES // 4, np.float32)
            mirrors = {
                name: mirror(name, every, Path(disk), address, pool, key, weights) for name, every in EVERY.items()
            }
            spent: dict[str, list[float]] = {name: [] for name in mirrors}
            for step in range(1, rounds + 1):
                weights += 1
                for name, each in mirrors.items():
                    began_s = time.perf_counter()
                    each.save(step)
                    spent[name].append(time.perf_counter() - began_s)
    plain_s = statistics.median(spent["no anchor"])
    for name, each in spent.items():
        took_s = statistics.fmean(sorted(each)[: -len(each) // 20 or None])  # without the slowest twentieth
        print(
            f"{name}: {1000 * statistics.median(each):.2f} ms a save (median), {1000 * took_s:.2f} ms (mean), "
            f"{1000 * (took_s - plain_s):+.2f} ms"
        )


def made(desk: Path) -> Key:
    """A desk with a job for each kind of anchor; their key."""
    key = Key.generate()
    run("keygen", "--signing", desk / "identity")
    for every in EVERY.values():
        own = desk / "jobs" / str(every)
        own.mkdir(parents=True)
        key.save(own / "job.key")
        run("policy", "--tee", "simulated-insecure", "--output", own / "policy.toml")
        policy = own / "policy.toml"
        policy.write_text(policy.read_text().replace("anchor_every = 1 ", f"anchor_every = {max(every, 1)} "))
        data = desk / f"{every}.sealed"  # of one picture: the manifest names a data set
        seal_dataset(np.zeros((1, 1, 28, 28), np.uint8), np.zeros(1, np.int64), key, os.fspath(data))
        named = ["--job", every, "--data", data, "--identity", desk / "identity"]
        run("manifest", CFG, *named, "--output", own / "manifest")
    return key


def run(*arguments: object) -> None:
    subprocess.run([PLINIUS, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


@contextmanager
def broker(desk: Path) -> Iterator[str]:
    """A broker; its address."""
    named = ["--jobs", desk / "jobs", "--identity", desk / "identity", "--state", desk / "state"]
    command = [PLINIUS, "broker", *map(str, named), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().split(" at ")[1].strip()
        process.kill()


def mirror(name: str, every: int, desk: Path, address: str, pool: Pool, key: Key, weights: object) -> Mirror:
    """A mirror with its anchor, over a line of its own."""
    if not every:
        return Mirror(pool, key, name=name, weights=weights)
    link = BrokerLink(Endpoint.parse(address), str(desk / "state" / "broker.crt"), print)
    ordered = Ordered.read(link.manifest(str(every)))
    grant, anchor = request_ordered_key(link.relay(), SimulatedAttester(), ordered)
    assert isinstance(anchor, BrokerAnchor)
    return Mirror(pool, grant.key, name=name, anchor=anchor, weights=weights)


if __name__ == "__main__":
    main()
