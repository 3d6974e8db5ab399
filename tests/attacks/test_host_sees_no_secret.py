"""Neither the host, nor what it stores, passes on or starts, ever holds the key, the images or the weights."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from inside import Command
from jobs import CFG, Job, Running, child_of, pictures, wait_for
from plinius import wire
from plinius.darknet import parse
from plinius.darknet.training import Training
from plinius.dataset import batch_indices
from plinius.enclave.main import _as_notices
from plinius.inspection import describe
from plinius.mirror import RollbackWarning
from plinius.wire import Notice
from scanning import WINDOW_BYTES, Needles, found, in_memory, of_key


@pytest.fixture(scope="module")
def secrets_of(still_job: Job) -> Needles:
    """What nobody but enclave and owner may hold, by kind."""
    images, _ = pictures(256, seed=1)
    floats = images.astype(np.float32) / 255
    config = parse(still_job.cfg.read_bytes(), "cfg")
    tensors = Training.start(config, seed=1).network.state_dict().values()
    weights = [tensor.numpy().tobytes() for tensor in tensors if tensor.unique().numel() > WINDOW_BYTES]
    assert len(weights) >= 3  # the others hold zeros or ones
    return {
        **of_key(still_job.key.read_text()),
        "the images": [image.tobytes()[:WINDOW_BYTES] for image in images],
        "the images as floats": [image.tobytes()[: 2 * WINDOW_BYTES] for image in floats],
        "the weights": [tensor[at : at + WINDOW_BYTES] for tensor in weights for at in (0, len(tensor) // 2)],
    }


@pytest.fixture(scope="module")
def still_job(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """It does not learn, so that its weights are known at every step: those that its seed gives."""
    folder = tmp_path_factory.mktemp("still")
    (folder / "net.cfg").write_text(CFG.format(batch=8, learning_rate=0, filters=8))
    return Job(folder / "net.cfg", files / "data.sealed", files / "job.key", folder / "job.pool")


@dataclass(frozen=True)
class Living:
    """A training that runs: its host and its enclave, both held still."""

    job: Job
    host: int
    enclave: int


@pytest.fixture(scope="module")
def living(still_job: Job) -> Iterator[Living]:
    with Running(*still_job.train("--steps", 1 << 30, "--reveal", "loss")) as running:
        running.until("Progress", step=20)
        enclave = running.enclave()
        for each in (enclave, running.pid):
            os.kill(each, signal.SIGSTOP)
        yield Living(still_job, running.pid, enclave)


def test_the_memory_of_the_host(living: Living, secrets_of: Needles) -> None:
    public = {"a path": [str(living.job.data).encode()], "a message": [b'"type":"Progress"']}
    assert in_memory({**public, **secrets_of}, living.host) == set(public)


def test_the_same_search_finds_the_secrets_in_the_enclave(living: Living, secrets_of: Needles) -> None:
    """So that the test above looks in the right place, and for the right bytes. For the key: test_memory_scan."""
    step = describe(str(living.job.pool))["mirrors"][0]["step"]
    images = secrets_of["the images as floats"]
    held = {
        "the images as floats": [images[n] for ago in (0, 1) for n in batch_indices(len(images), 1, step - ago, 8)],
        "the weights": secrets_of["the weights"][:1],
    }
    try:
        assert in_memory(held, living.enclave) == set(held)
    except PermissionError:
        pytest.skip("the enclave cannot be read, as it should be; only root can make this positive control")


def test_what_the_host_starts_and_opens(living: Living, secrets_of: Needles) -> None:
    for process in (living.host, living.enclave):
        about = [Path(f"/proc/{process}/{name}").read_bytes() for name in ("cmdline", "environ")]
        assert found(secrets_of, about) == set()
        assert living.job.key not in opened(process)
    assert opened(living.enclave) - {Path("/dev/null")} == {living.job.pool, living.job.data, living.job.cfg}
    environment = Path(f"/proc/{living.enclave}/environ").read_bytes().split(b"\0")
    assert {variable.split(b"=")[0] for variable in environment if variable} == {b"LC_ALL", b"OMP_WAIT_POLICY", b"PATH"}


def opened(process: int) -> set[Path]:
    """The files that a process has open; sockets, pipes and the like are none."""
    descriptors = Path(f"/proc/{process}/fd").iterdir()
    return {path for path in (descriptor.readlink() for descriptor in descriptors) if path.is_absolute()}


def test_what_lies_in_the_files(living: Living, secrets_of: Needles) -> None:
    identity = bytes.fromhex(living.job.key.read_text().split()[2])
    for file in (living.job.pool, living.job.data):
        content = file.read_bytes()
        assert identity in content
        assert found(secrets_of, [content]) == set()


def test_what_an_exported_model_holds(inside: Command, living: Living, secrets_of: Needles, tmp_path: Path) -> None:
    """The needles are the weights: an exported model, which is in the clear, has them."""
    copy = living.job.but(pool=tmp_path / "copy.pool")
    copy.pool.write_bytes(living.job.pool.read_bytes())
    assert inside(*copy.export(tmp_path / "net.weights")).code == 0
    assert found(secrets_of, [(tmp_path / "net.weights").read_bytes()]) == {"the weights"}


def test_what_passes_through_the_host(
    inside: Command, still_job: Job, folder: Path, secrets_of: Needles, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []
    send = wire.Channel.send

    def recording(channel: wire.Channel, message: wire.Message) -> None:
        sent.append(msgspec.msgpack.encode(message))
        send(channel, message)

    monkeypatch.setattr(wire.Channel, "send", recording)
    job = still_job.but(pool=folder / "job.pool")
    done = inside(*job.train("--steps", 5, "--reveal", "loss", "--json"))
    assert len(done.of("Progress")) == 5
    public = {
        kind: [kind.encode()] for kind in ("Train", "KeyRequest", "Challenge", "Evidence", "KeyRelease", "Progress")
    }
    passed = [*sent, done.out.encode(), done.err.encode()]
    assert found({**public, **secrets_of}, passed) == set(public)


@pytest.mark.parametrize("module", ["plinius.enclave.main", "plinius.owner.main"])
def test_the_trusted_processes_leave_no_core(still_job: Job, folder: Path, module: str) -> None:
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    if most == 0:
        pytest.skip("this machine allows no core dumps at all")
    job = still_job.but(pool=folder / "job.pool")

    def core_limit(process: int) -> str:
        (line,) = [x for x in Path(f"/proc/{process}/limits").read_text().splitlines() if "core file" in x]
        return " ".join(line.split()[4:6])

    allow = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_CORE, (most, most))}
    with Running(*job.train(), **allow) as running:
        child = wait_for(lambda: child_of(running.pid, module))
        assert core_limit(running.pid) != "0 0"
        wait_for(lambda: core_limit(child) == "0 0", within_s=5)


def test_a_process_that_leaves_no_traces_is_not_dumpable() -> None:
    program = "import ctypes; from plinius import process; {}print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    for hardening, dumpable in (("", "1"), ("process.leave_no_traces(); ", "0")):
        command = [sys.executable, "-I", "-c", program.format(hardening)]
        assert subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip() == dumpable


def test_the_text_of_a_warning_that_is_not_ours_is_not_told() -> None:
    told: list[Notice] = []
    show = _as_notices(SimpleNamespace(send=told.append))  # type: ignore[arg-type]
    show(UserWarning("a secret"), UserWarning, "/lib/other.py", 7)
    show(RollbackWarning("no anchor"), RollbackWarning, "/lib/ours.py", 1)
    show(DeprecationWarning("old"), DeprecationWarning, "/lib/other.py", 8)
    assert told == [Notice("UserWarning in other.py, line 7"), Notice("no anchor")]
