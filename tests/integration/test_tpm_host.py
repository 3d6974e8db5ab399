"""A host whose enclave proves itself with a (software) TPM, anchors in it, and keeps its key in it."""

from __future__ import annotations

import re
import shutil
import signal
from contextlib import nullcontext
from pathlib import Path

import pytest
from desks import Desk, made, running
from jobs import Job, must, plinius, refused
from tpms import SoftwareTpm

POLICY = """
[[accept]]
tee = "tpm2"
trust_os = true
measurements.ek = ["EK"]
measurements.pcr0 = ["PCR0"]

[freshness]
anchor = "tpm"
anchor_every = 4
anchor_gap_s = 0
"""


@pytest.fixture
def desk(job: Job, tmp_path: Path) -> Desk:
    return made(tmp_path / "desk", job, steps=10)


def host(desk: Desk, address: str, job: Job, tpm: SoftwareTpm, *options: object) -> list[str]:
    named = ["--tee", "tpm2", "--tpm", tpm.path, "--restarts", 0]
    return desk.host(address, job.pool, *named, *options)


_known: dict[Path, str] = {}


def learn(desk: Desk, job: Job, tpm: SoftwareTpm, more: str = "") -> None:
    """Writes a policy that accepts this TPM: once, what was refused is read from what the broker says."""
    if tpm.path not in _known:
        _known[tpm.path] = refused_ek(desk, job, tpm)
    text = POLICY.replace("EK", _known[tpm.path]).replace("PCR0", "00" * 32)
    (desk.own / "policy.toml").write_text(text + more)


def refused_ek(desk: Desk, job: Job, tpm: SoftwareTpm) -> str:
    policy = desk.own / "policy.toml"
    policy.write_text(POLICY.replace("EK", "00" * 32).replace("PCR0", "00" * 32))
    with desk.broker() as address:
        said = refused(11, *host(desk, address, job, tpm))
    assert "measurements.ek" in said
    (ek,) = re.findall("found ([0-9a-f]{64})", said)
    return str(ek)


def test_a_job_is_anchored_in_the_tpm(desk: Desk, job: Job, software_tpm: SoftwareTpm) -> None:
    learn(desk, job, software_tpm)
    with desk.broker() as address:
        older = job.pool.with_suffix(".older")
        must(*host(desk, address, job, software_tpm, "--json"))
        shutil.copy(job.pool, older)
        earlier = desk.folder / "earlier"
        shutil.move(desk.own / "manifest", earlier)
    desk.manifest("--steps", 20, "--continues", earlier)
    with desk.broker() as address:
        done = must(*host(desk, address, job, software_tpm, "--json"))
        assert done.of("Started")[0]["step"] == 10
        shutil.move(older, job.pool)
        assert "anchor" in refused(10, *host(desk, address, job, software_tpm))
    events = must("audit", "--state", desk.folder / "state").out
    assert events.count(": advanced: ") == 1, "the broker is told once that the TPM has an anchor"


def test_another_tpm_is_refused(
    desk: Desk, job: Job, software_tpm: SoftwareTpm, other_software_tpm: SoftwareTpm
) -> None:
    learn(desk, job, software_tpm)
    with desk.broker() as address:
        assert "measurements.ek" in refused(11, *host(desk, address, job, other_software_tpm))


def test_without_trust_in_the_system_nothing_is_released(desk: Desk, job: Job, software_tpm: SoftwareTpm) -> None:
    learn(desk, job, software_tpm)
    policy = desk.own / "policy.toml"
    policy.write_text(policy.read_text().replace("trust_os = true", "trust_os = false"))
    with desk.broker() as address:
        assert "trust_os" in refused(11, *host(desk, address, job, software_tpm))


def test_a_restart_needs_no_broker(desk: Desk, job: Job, software_tpm: SoftwareTpm, tmp_path: Path) -> None:
    learn(desk, job, software_tpm, "\n[sealing]\npcrs = [0, 7]\n")
    kept = tmp_path / "kept.key"
    with desk.broker() as address:
        must(*host(desk, address, job, software_tpm, "--json", "--kept-key", kept))
    assert job.key.read_text().split()[3].encode() not in kept.read_bytes()
    done = must(*host(desk, address, job, software_tpm, "--json", "--kept-key", kept))
    assert done.of("Started")[0]["step"] == 10
    content = bytearray(kept.read_bytes())
    content[-1] ^= 1
    kept.write_bytes(content)
    said = refused(11, *host(desk, address, job, software_tpm, "--kept-key", kept))
    assert "does not open" in said
    assert f"remove {kept}" in said


def test_a_tpm_that_is_not_named(desk: Desk, job: Job) -> None:
    with desk.broker() as address:
        done = plinius(*desk.host(address, job.pool, "--tee", "tpm2"))
    assert done.code == 3
    assert "--tpm" in done.err


def test_ctrl_c_stops_cleanly_with_and_without_the_broker(job: Job, software_tpm: SoftwareTpm, tmp_path: Path) -> None:
    """A kept key is no answer of a broker's that the host could wait for before it passes on a stop."""
    desk = made(tmp_path / "desk", job, steps=1_000_000)
    learn(desk, job, software_tpm, "\n[sealing]\npcrs = [0, 7]\n")
    kept = tmp_path / "kept.key"
    step = 0
    for broker in (desk.broker(), nullcontext("127.0.0.1:1")):
        with broker as address, running(host(desk, address, job, software_tpm, "--kept-key", kept)) as training:
            assert training.until("Started")["step"] == step
            training.until("Progress")
            training.host.send_signal(signal.SIGINT)
            (trained,) = [message for message in training.messages() if message["type"] == "Trained"]
            done = training.end()
        assert done.code == 128 + signal.SIGINT, done
        step = trained["step"]
        assert kept.exists()
