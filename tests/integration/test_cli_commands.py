"""Each command as a user gives it, in real processes, and what it prints for people and for machines."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from inside import Command
from jobs import Job, Running, must, pictures
from plinius import doctor
from plinius.darknet import Network, parse, weights
from plinius.inspection import describe
from plinius.seal import Key
from safetensors.torch import load

RECORDS = 256


@pytest.fixture(scope="module")
def finished(files: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, list[str]]:
    """A job that was trained to its end, and the lines that a person saw."""
    pool = tmp_path_factory.mktemp("finished") / "job.pool"
    job = Job(files / "net.cfg", files / "data.sealed", files / "job.key", pool)
    return job, must(*job.train()).out.splitlines()


def test_train_tells_a_person_where_the_pool_is_and_what_it_survives(finished: tuple[Job, list[str]]) -> None:
    job, lines = finished
    assert lines[0].startswith(f"pool {job.pool} on ")
    assert "survives" in lines[0]
    assert "simulated TEE, no hardware protection" in lines[0]
    assert f"started: {RECORDS} records, 6 steps, mirrored every 1" in lines
    assert lines[-1] == f"done: step 6 of 6 is durable in {job.pool}"


def test_train_tells_a_machine_each_step(job: Job) -> None:
    done = must(*job.train("--steps", 3, "--reveal", "loss", "--json"))
    kinds = [message["type"] for message in done.messages if message["type"] != "Notice"]
    assert kinds == ["PoolOpened", "Loading", "Started", "Progress", "Progress", "Progress", "Trained"]
    assert done.of("Loading")[-1] == {"type": "Loading", "done": RECORDS, "total": RECORDS}
    (started,) = done.of("Started")
    assert started == {"type": "Started", "step": 0, "steps": 3, "every": 1, "resumed": False, "records": RECORDS}
    for number, message in enumerate(done.of("Progress"), start=1):
        assert (message["step"], message["durable_step"]) == (number, number)
        assert 0 < message["save_s"] < message["step_s"]
        assert 0 < message["loss"] < 100


def test_the_loss_is_not_revealed_unless_the_user_says_so(inside: Command, job: Job) -> None:
    assert [message["loss"] for message in inside(*job.train("--steps", 1, "--json")).of("Progress")] == [None]


def test_infer_counts_what_the_exported_model_gets_right(
    inside: Command, finished: tuple[Job, list[str]], tmp_path: Path
) -> None:
    job, _ = finished
    result = json.loads(must(*job.infer("--json")).out)
    output = tmp_path / "net.weights"
    assert json.loads(must(*job.export(output), "--json").out) == {"path": str(output), "step": 6}
    network = exported_network(job, output)
    images, labels = pictures(RECORDS, seed=1)
    with torch.inference_mode():
        predictions = network(torch.from_numpy(images[:, None].astype(np.float32) / 255)).numpy().argmax(axis=1)
    correct = int((predictions == labels).sum())
    assert 0 < correct < RECORDS
    assert (result["step"], result["records"], result["correct"]) == (6, RECORDS, correct)
    assert result["accuracy"] == correct / RECORDS
    assert result["images_per_s"] > 0
    assert f"accuracy {correct / RECORDS:.2%}: {correct} of {RECORDS} right, after step 6" in inside(*job.infer()).out


def exported_network(job: Job, file: Path) -> Network:
    network = Network(parse(job.cfg.read_bytes(), "cfg"), torch.Generator())
    assert weights.read(network, file.read_bytes(), "weights") == 6 * 8  # images seen: steps times batch
    return network.eval()


def test_each_kept_generation_can_be_exported(
    inside: Command, job: Job, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    must(*job.train("--steps", "5", "--keep", "3"))
    must(*job.train("--steps", "6"))  # which keeps as many
    exported = set()
    for step in (4, 5, 6):
        output = tmp_path / f"{step}.weights"
        done = inside(*job.export(output), "--step", step)
        assert (done.err, done.out) == ("", f"wrote {output}: the model after step {step}\n")
        exported.add(output.read_bytes())
    assert len(exported) == 3
    line = refusal(3, *job.export(tmp_path / "3.weights"), "--step", "3")
    assert line.endswith("the mirror 'training' keeps no generation of step 3; it has 6, 5, 4")
    assert not (tmp_path / "3.weights").exists()


def test_both_formats_of_export_hold_the_same_model(
    inside: Command, finished: tuple[Job, list[str]], tmp_path: Path
) -> None:
    job, _ = finished
    darknet, safetensors = tmp_path / "net.weights", tmp_path / "net.safetensors"
    for output in (darknet, safetensors):
        assert inside(*job.export(output)).out == f"wrote {output}: the model after step 6\n"
        assert stat.S_IMODE(output.stat().st_mode) == 0o600
    tensors = load(safetensors.read_bytes())
    network = exported_network(job, darknet)
    assert {name: tensor.numpy().tobytes() for name, tensor in tensors.items()} == {
        name: tensor.numpy().tobytes() for name, tensor in network.state_dict().items()
    }


def test_status_shows_what_is_public(finished: tuple[Job, list[str]]) -> None:
    job, _ = finished
    facts = json.loads(must("status", job.pool, "--json").out)
    (mirror,) = facts["mirrors"]
    (data,) = facts["data_sets"]
    key = Key.load(job.key)
    assert (mirror["name"], mirror["step"], mirror["cipher"], mirror["key_id"]) == ("training", 6, key.cipher, key.id)
    assert (data["records"], data["key_id"]) == (RECORDS, key.id)
    assert facts["state"] == "Idle"
    assert facts["bytes"] == job.pool.stat().st_size
    assert 0 < facts["occupied_bytes"] < facts["bytes"]
    lines = must("status", job.pool).out.splitlines()
    assert f"survives a {facts['durability']}" in lines[0]
    assert "mirror training: durable step 6" in lines[2]
    assert "the next save needs as much again" in lines[2]


def test_status_reads_a_pool_while_it_is_written(job: Job) -> None:
    with Running(*job.train("--steps", 100_000)) as running:
        running.until("Progress")
        steps = [describe(str(job.pool))["mirrors"][0]["step"] for _ in range(300)]
        assert json.loads(must("status", job.pool, "--json").out)["mirrors"][0]["step"] > steps[0]
        assert steps == sorted(steps)
        assert steps[-1] > steps[0]


def test_doctor_shows_the_machine_and_the_medium(folder: Path) -> None:
    facts = json.loads(must("doctor", folder, "--json").out)
    assert facts["cores"] >= 1
    assert facts["write_back"] in ("clwb", "clflushopt", "clflush")
    assert facts["durability"] in ("process crash", "power failure")
    assert list(folder.iterdir()) == []
    text = must("doctor", folder).out
    assert f"a pool at {folder} lies on {facts['medium']}" in text
    assert "TEE: " in text
    kept = facts["sandbox"]
    assert (f"sandbox: Landlock {kept['landlock']}, seccomp yes" in text) == bool(kept["landlock"] and kept["seccomp"])
    assert facts["key_custody"] in ("memfd_secret", "locked", "plain")
    assert "\nkeys: " in text


def test_doctor_says_when_an_enclave_would_not_start(folder: Path) -> None:
    facts = doctor.describe(str(folder))
    for landlock, seccomp, words in ((0, True, "Landlock missing, seccomp yes"), (7, False, "seccomp missing")):
        lines = doctor.explain({**facts, "sandbox": {"landlock": landlock, "seccomp": seccomp}})
        (line,) = [line for line in lines if line.startswith("sandbox: ")]
        assert words in line
        assert line.endswith("; an enclave does not start without both")


def test_keygen_makes_a_private_key_of_each_cipher(tmp_path: Path) -> None:
    for cipher in ("aes-128-gcm", "aes-192-gcm", "aes-256-gcm"):
        path = tmp_path / f"{cipher}.key"
        assert must("keygen", path, "--cipher", cipher).out == f"wrote {path}: {cipher}, key id {Key.load(path).id}\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_seal_tells_what_it_made(files: Path, tmp_path: Path) -> None:
    idx = ["--images", files / "images.idx", "--labels", files / "labels.idx"]
    facts = json.loads(must("seal", "--key", files / "job.key", *idx, "--output", tmp_path / "d", "--json").out)
    assert facts["records"] == RECORDS
    assert facts["key_id"] == Key.load(files / "job.key").id
    text = must("seal", "--key", files / "job.key", *idx, "--output", tmp_path / "e").out
    assert text.startswith(f"wrote {tmp_path / 'e'}: {RECORDS} records, data set ")
