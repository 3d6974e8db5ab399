"""An owner's desk for the experiments with a broker: a key, jobs, and a broker on loopback that serves them."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from plinius.bench.runs import PLINIUS, complaint, plinius
from plinius.dataset import seal_dataset
from plinius.errors import PliniusError
from plinius.seal import Key

_SIDE = 28
_CLASSES = 10
_PATIENCE_S = 120.0


@contextmanager
def patience(give_up: Callable[[], None]) -> Iterator[None]:
    """Calls `give_up` if this takes far longer than it ever does: a host asks a broker that has died for ever."""
    timer = threading.Timer(_PATIENCE_S, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Desk:
    """The files of an owner who believes a simulated enclave; what is trained on is noise."""

    def __init__(self, place: Path, records: int) -> None:
        """Makes a key, an identity and a data set.

        Args:
            place: An empty folder.
            records: In the data set.
        """
        self._place = place
        self.key = Key.generate()
        generator = np.random.default_rng(1)
        images = generator.integers(0, 256, (records, 1, _SIDE, _SIDE), np.uint8)
        seal_dataset(images, generator.integers(0, _CLASSES, records), self.key, self.data)
        plinius("keygen", "--signing", self._identity)

    @property
    def data(self) -> Path:
        """The sealed data set."""
        return self._place / "data.sealed"

    @property
    def certificate(self) -> Path:
        """Of the broker, once it has run."""
        return self._place / "state" / "broker.crt"

    @property
    def _identity(self) -> Path:
        return self._place / "owner.identity"

    def add(self, job: str, cfg: str, anchor_every: int = 1) -> None:
        """Signs a job that trains without end; before the broker starts."""
        own = self._place / "jobs" / job
        own.mkdir(parents=True)
        self.key.save(own / "job.key")
        network = self._place / f"{job}.cfg"
        network.write_text(cfg)
        policy = own / "policy.toml"
        plinius("policy", "--tee", "simulated-insecure", "--output", policy)
        policy.write_text(policy.read_text().replace("anchor_every = 1 ", f"anchor_every = {anchor_every} "))
        files: list[str | Path] = ["--data", self.data, "--identity", self._identity, "--output", own / "manifest"]
        plinius("manifest", network, "--job", job, "--steps", str(1 << 30), *files)

    @contextmanager
    def broker(self) -> Iterator[str]:
        """Runs the broker; its address.

        Raises:
            PliniusError: It did not start.
        """
        named = ["--jobs", self._place / "jobs", "--identity", self._identity, "--state", self._place / "state"]
        command = [*PLINIUS, "broker", *map(str, named), "--listen", "127.0.0.1:0"]
        with subprocess.Popen(  # noqa: S603 (ours)
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout  # noqa: S101 (for mypy)
            assert process.stderr  # noqa: S101 (for mypy)
            try:
                _, at, address = process.stdout.readline().partition(" at ")
                if not at:
                    raise PliniusError(complaint(process.stderr.read()))
                yield address.strip()
            finally:
                process.kill()
