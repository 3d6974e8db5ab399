"""An owner's desk made by the commands of the README, and hosts that work for it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jobs import PLINIUS, Job, Running, must

JOB = "small"


@dataclass(frozen=True)
class Desk:
    """What the owner has.

    Attributes:
        folder: With jobs/, the identity and the broker's state.
        job: The files of the same job; its key is the owner's.
        address: Where her broker listens.
        wrapper: What commands of this side are started by, such as nsenter.
    """

    folder: Path
    job: Job
    address: str
    wrapper: Sequence[str] = ()

    @property
    def certificate(self) -> Path:
        return self.folder / "state" / "broker.crt"

    @property
    def own(self) -> Path:
        """The folder of the job."""
        return self.folder / "jobs" / JOB

    def manifest(self, *options: object) -> None:
        """Signs the manifest anew."""
        (self.own / "manifest").unlink(missing_ok=True)
        named = ["--job", JOB, "--data", self.job.data, "--identity", self.folder / "owner.identity"]
        must("manifest", self.job.cfg, *named, "--threads", 1, "--output", self.own / "manifest", *options)

    def start_broker(self) -> tuple[subprocess.Popen[str], str]:
        """Starts a broker; returns it, and the address at which it listens, when it does."""
        options = ["--jobs", self.folder / "jobs", "--identity", self.folder / "owner.identity"]
        command = [
            *self.wrapper,
            PLINIUS,
            "broker",
            *options,
            "--state",
            self.folder / "state",
            "--listen",
            self.address,
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith(f"broker for {JOB} at "), line
        return process, line.split(" at ")[1].split(",")[0].strip()

    @contextmanager
    def broker(self) -> Iterator[str]:
        """A broker; its address."""
        process, address = self.start_broker()
        try:
            yield address
        finally:
            process.kill()
            process.wait()

    def host(self, address: str, pool: Path, *options: object) -> list[str]:
        """The arguments of `plinius host` on this pool."""
        certificate = [] if address.startswith("insecure") else ["--broker-cert", self.certificate]
        named = ["--broker", address, *certificate, "--job", JOB, "--pool", pool, "--data", self.job.data]
        return ["host", *map(str, [*named, *options])]


def made(folder: Path, job: Job, address: str = "127.0.0.1:0", **options: object) -> Desk:
    """Makes a desk for a job."""
    desk = Desk(folder, job, address)
    desk.own.mkdir(parents=True)
    (desk.own / "job.key").write_bytes(job.key.read_bytes())
    (desk.own / "job.key").chmod(0o600)
    must("keygen", "--signing", folder / "owner.identity")
    must("policy", "--tee", "simulated-insecure", "--output", desk.own / "policy.toml")
    desk.manifest(*(f"--{name}={value}" for name, value in options.items()))
    return desk


def running(arguments: Sequence[str]) -> Running:
    """A host that runs."""
    return Running(*arguments)
