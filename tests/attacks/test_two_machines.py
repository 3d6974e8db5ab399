"""Owner and host in two network namespaces, with a wire between them: what goes over it holds no secret."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from desks import Desk, made
from jobs import CFG, PLINIUS, Job, pictures
from plinius.darknet import parse
from plinius.darknet.training import Training

UNSHARE = ["unshare", "--user", "--map-root-user", "--net", "--fork"]
HERE = Path(__file__).parent.parent


def namespaces() -> str | None:
    """Why there can be no second network namespace here; None when there can."""
    if not all(map(shutil.which, ("ip", "nsenter", "unshare"))):
        return "needs ip, nsenter and unshare: sudo apt install iproute2 util-linux"
    probe = [*UNSHARE, "ip", "link", "add", "wire0", "type", "veth", "peer", "name", "wire1"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        return "this kernel lets us make no network namespace with a wire in it"
    return None


@pytest.fixture
def still(files: Path, folder: Path) -> Job:
    """A job that does not learn, so that its weights are known."""
    (folder / "net.cfg").write_text(CFG.format(batch=8, learning_rate=0, filters=8))
    return Job(folder / "net.cfg", files / "data.sealed", files / "job.key", folder / "job.pool")


def secrets_of(job: Job) -> dict[str, list[bytes]]:
    secret = job.key.read_text().split()[3]
    images, _ = pictures(256, seed=1)
    tensors = Training.start(parse(job.cfg.read_bytes(), "cfg"), seed=1).network.state_dict().values()
    weights = [tensor.numpy().tobytes() for tensor in tensors if tensor.unique().numel() > 16]
    return {
        "key": [bytes.fromhex(secret)[at : at + 16] for at in (0, 16)],
        "text of the key": [secret[:32].encode()],
        "images": [image.tobytes()[:16] for image in images],
        "images as floats": [(image.astype(np.float32) / 255).tobytes()[:32] for image in images],
        "weights": [tensor[at : at + 16] for tensor in weights for at in range(0, len(tensor) - 16, 16)],
    }


@pytest.mark.parametrize("scheme", ["", "insecure-tcp://"], ids=["TLS", "no TLS"])
@pytest.mark.skipif((why := namespaces()) is not None, reason=why or "")
def test_no_secret_crosses_the_wire(still: Job, tmp_path: Path, scheme: str) -> None:
    """Without TLS too: what matters is sealed between enclave and broker, since TLS ends at the host."""
    desk: Desk = made(tmp_path / "desk", still, f"{scheme}10.99.0.1:7654", steps=5)
    if not scheme:
        with Desk(desk.folder, still, "127.0.0.1:0").broker():
            pass  # makes the certificate, which the host is given
    options = ["--jobs", desk.folder / "jobs", "--identity", desk.folder / "owner.identity"]
    broker = [PLINIUS, "broker", *options, "--state", desk.folder / "state", "--listen", desk.address]
    host = [PLINIUS, *desk.host(desk.address, still.pool, "--json")]
    capture = tmp_path / "capture"
    commands = [json.dumps(list(map(str, command))) for command in (broker, host)]
    done = subprocess.run(
        [*UNSHARE, sys.executable, HERE / "two_machines.py", capture, *commands],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    assert '"Trained"' in done.stdout
    seen = capture.read_bytes()
    # The capture sees what is there to be seen: the manifest is public, and only TLS hides it.
    assert (b"[convolutional]" in seen) == bool(scheme)
    assert len(seen) > 5_000
    assert [kind for kind, needles in secrets_of(still).items() if any(needle in seen for needle in needles)] == []
