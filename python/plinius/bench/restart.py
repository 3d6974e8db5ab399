"""How long a new enclave takes after a kill to its first step, and what of that every start costs whatever the job.

The enclave of an attested job is killed again and again, and the time is taken from the kill to the first step of the
one that the host starts in its place: it proves itself to a broker on loopback (TLS), gets the key, restores, and moves
the broker's freshness anchor. In between a bare process imports what an enclave imports, and rehearses. The broker's
database is on the disk.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from plinius.bench.desk import Desk, patience
from plinius.bench.experiment import Experiment, Plan, Result, Row
from plinius.bench.folders import new_folder
from plinius.bench.intervals import Interval, median
from plinius.bench.runs import PLINIUS, complaint, enclave_of, kill_all, messages
from plinius.bench.words import counted, rounded
from plinius.errors import PliniusError

_RECORDS: Final = 1024
_CFG: Final = """[net]
batch=32
height=28
width=28
channels=1
learning_rate=0.01
max_batches=1000
[connected]
output={hidden}
activation=leaky
[connected]
output={hidden}
activation=leaky
[connected]
output=10
activation=linear
[softmax]
"""
# What plinius.enclave.main does before it asks for the key.
_BARE: Final = """
import json, os, time
os.environ["OPENBLAS_NUM_THREADS"] = "1"
from plinius.enclave import sandbox, rehearsal
from plinius.attest import simulated
simulated.measurement()
measured = time.perf_counter()
rehearsal.rehearse()
rehearsed = time.perf_counter()
sandbox.enter()
entered = time.perf_counter()
print(json.dumps({"rehearsal_s": rehearsed - measured, "sandbox_s": entered - rehearsed}), flush=True)
"""


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        hidden: The width of the network.
        kills: How often its enclave is killed.
    """

    hidden: int
    kills: int


@dataclass(frozen=True)
class Restart:
    """An attested training whose enclave is killed and comes back."""

    quick: Size = Size(hidden=64, kills=1)
    full: Size = Size(hidden=4640, kills=7)  # 100 MB of weights
    name: str = "restart"
    title: str = "Beyond the paper: from the kill of an attested enclave to the next one's first step"

    def measure(self, plan: Plan) -> Result:
        """Measures.

        Raises:
            PliniusError: A folder cannot be used, or the training ended by itself.
        """
        size = self.quick if plan.quick else self.full
        plan.tell(f"{self.name}: {size.kills} kills")
        back_s: list[float] = []
        bare: list[dict[str, float]] = []
        with new_folder(str(plan.memory)) as memory, new_folder(str(plan.disk)) as disk:
            desk = Desk(disk, _RECORDS)
            desk.add(self.name, _CFG.format(hidden=size.hidden))
            with desk.broker() as address, _host(desk, address, memory / "pool", size.kills) as host:
                _await_step(host)
                for _ in range(size.kills):
                    with _held(host) as enclave:
                        bare.append(_bare_process())
                        began_s = _kill(enclave)
                    _await(host, "Started")  # what the host had to tell of the old one comes first
                    _await_step(host)
                    back_s.append(time.perf_counter() - began_s)
        return {
            "weights_bytes": 4 * (28 * 28 + size.hidden + 10 + 2) * size.hidden,
            "kills": size.kills,
            "back_s": asdict(median(back_s)),
            "beyond_s": asdict(median([back - one["bare_s"] for back, one in zip(back_s, bare, strict=True)])),
            **{name: statistics.median(one[name] for one in bare) for name in bare[0]},
        }

    def draw(self, result: Result, path: Path) -> None:
        """Draws the parts of the time, one after the other."""
        from matplotlib.figure import Figure  # noqa: PLC0415

        figure = Figure(figsize=(7.5, 2.4), layout="constrained")
        axes = figure.subplots()
        parts = {
            "import": result["bare_s"] - result["rehearsal_s"] - result["sandbox_s"],
            "dummy step": result["rehearsal_s"],
            "attest, restore, anchor, first step": result["beyond_s"]["median"],
        }
        left = 0.0
        for name, seconds in parts.items():
            axes.barh([""], [seconds], left=left, label=f"{name} ({seconds:.2f} s)", height=0.5)
            left += seconds
        axes.set_xlabel("seconds after the kill")
        axes.grid(axis="x", alpha=0.3)
        axes.legend(fontsize="small", ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.35))
        figure.savefig(path, dpi=150)

    def rows(self, result: Result) -> list[Row]:
        """The whole, and its parts."""
        of = f"{result['weights_bytes'] / 1e6:.0f} MB of weights and their momentum"
        return [
            Row(
                f"from the kill of an enclave to the next one's first step, {of}, {counted(result['kills'], 'kill')}",
                f"{Interval(**result['back_s']).text(2)} s",
            ),
            Row(
                "of that, beyond importing the framework and the dummy step",
                f"{Interval(**result['beyond_s']).text(2)} s",
            ),
            Row("importing the framework, and the dummy step, in a bare process", f"{result['bare_s']:.2f} s"),
            Row("entering the sandbox", f"{rounded(result['sandbox_s'] * 1e3)} ms"),
        ]

    def meaning(self, result: Result) -> str:
        """How long it takes, and what of it is ours."""
        return (
            f"A killed enclave is back at its first step after {result['back_s']['median']:.2f} s, of which "
            f"{result['beyond_s']['median']:.2f} s are beyond what a bare process takes to import PyTorch and to make "
            "a dummy step: noticing the kill, proving itself to the broker, getting the key, restoring, moving the "
            "anchor, and the first step with its save."
        )


EXPERIMENT: Final[Experiment] = Restart()


@contextmanager
def _host(desk: Desk, address: str, pool: Path, restarts: int) -> Iterator[subprocess.Popen[str]]:
    named = ["--broker", address, "--broker-cert", desk.certificate, "--job", Restart.name, "--restarts", restarts]
    command = [*PLINIUS, "host", *map(str, [*named, "--pool", pool, "--data", desk.data, "--json"])]
    with subprocess.Popen(  # noqa: S603 (ours)
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as host:
        try:
            yield host
        finally:
            kill_all(host)


def _await(host: subprocess.Popen[str], kind: str) -> dict[str, Any]:
    """Reads until the host tells of it."""
    with patience(lambda: kill_all(host)):
        for message in messages(host):
            if message["type"] == kind:
                return message
    raise PliniusError(complaint(host.stderr.read() if host.stderr else ""))


def _await_step(host: subprocess.Popen[str]) -> None:
    _await(host, "Progress")


@contextmanager
def _held(host: subprocess.Popen[str]) -> Iterator[int]:
    """Holds host and enclave still, so that what is measured meanwhile is not disturbed; the enclave's process."""
    os.kill(host.pid, signal.SIGSTOP)
    enclave = enclave_of(host.pid)
    os.kill(enclave, signal.SIGSTOP)
    try:
        yield enclave
    finally:
        os.kill(host.pid, signal.SIGCONT)


def _kill(enclave: int) -> float:
    """Kills it; when."""
    began_s = time.perf_counter()
    os.kill(enclave, signal.SIGKILL)
    return began_s


def _bare_process() -> dict[str, float]:
    """What every start costs."""
    began_s = time.perf_counter()
    with subprocess.Popen(  # noqa: S603 (ours)
        [sys.executable, "-P", "-c", _BARE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout  # noqa: S101 (for mypy)
        assert process.stderr  # noqa: S101 (for mypy)
        line = process.stdout.readline()
        seconds = time.perf_counter() - began_s
        if not line:
            raise PliniusError(complaint(process.stderr.read()))
        facts: dict[str, float] = json.loads(line)
    return {**facts, "bare_s": seconds}
