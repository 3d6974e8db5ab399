"""Secure inference in miniature."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from plinius.bench import inference, workload
from plinius.bench.experiment import Plan
from plinius.bench.inference import Inference, Size
from plinius.bench.workload import FASHION_CFG, made_up, network, pictures
from plinius.errors import PliniusError

CFG = """\
[net]
batch=50
height=28
width=28
channels=1
learning_rate=0.1
momentum=0.9
max_batches=300

[connected]
output=10
activation=linear

[softmax]
groups=1
"""
TINY = Inference(quick=Size(steps=60, train_images=2000, test_images=520, rounds=2, small=True))


@pytest.fixture
def plan(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A network that learns in a second."""
    monkeypatch.setattr(workload, "FASHION_CFG", CFG)
    return Plan(quick=True, memory=folder, disk=tmp_path, data=None, tell=lambda _: None)


def test_a_model_is_trained_and_classifies(plan: Plan, tmp_path: Path) -> None:
    result = json.loads(json.dumps(TINY.measure(plan)))
    assert len(result["losses"]) == 60
    assert result["losses"][-1] < result["losses"][0]
    assert result["accuracy"] > 0.2  # by chance: 0.1
    assert result["images"] == 520
    # Two whole batches, twice.
    assert (len(result["sealed_per_s"]), len(result["plain_per_s"])) == (4, 4)
    TINY.draw(result, tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    accuracy, *_ = TINY.rows(result)
    assert accuracy.ours == f"{result['accuracy'] * 100:.2f} %"
    assert "other pictures and another network here, so not to be compared" in accuracy.paper
    alike, *_ = TINY.rows({**result, "real": True, "papers_network": True})
    assert "compared" not in alike.paper
    assert "no MNIST here" in TINY.meaning(result)
    assert not list(plan.memory.iterdir())


def test_sealed_pictures_that_are_others_are_seen(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "as_input", lambda images: 1 - images.astype(np.float32) / 255)
    with pytest.raises(PliniusError, match="not what was sealed"):
        TINY.measure(plan)


def test_real_pictures_are_used_where_they_are(tmp_path: Path) -> None:
    made = made_up(20, seed=3)
    (tmp_path / "mnist").mkdir()
    for name, array in (("images-idx3", made.images[:, 0]), ("labels-idx1", made.labels.astype(np.uint8))):
        content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
        (tmp_path / "mnist" / f"t10k-{name}-ubyte.gz").write_bytes(gzip.compress(content))
    found = pictures(tmp_path, "t10k", 10)
    assert found.real
    assert np.array_equal(found.images, made.images[:10])
    assert np.array_equal(found.labels, made.labels[:10])
    assert not pictures(tmp_path, "train", 10).real
    assert not pictures(None, "t10k", 10).real


def test_the_network_is_the_papers_where_it_is(tmp_path: Path) -> None:
    ours = network(None)
    example = Path(__file__).parents[2] / "examples" / "fashion.cfg"
    assert FASHION_CFG in example.read_text()
    assert network(tmp_path).cfg == ours.cfg
    (tmp_path / "cfg").mkdir()
    (tmp_path / "cfg" / "plinius-mnist.cfg").write_text(CFG.replace("max_batches=", "max_batches = "))
    assert network(tmp_path).name == "plinius-mnist.cfg"
    assert (network(tmp_path).papers, ours.papers) == (True, False)
    assert network(tmp_path, 7).config.net.max_batches == 7
    assert network(None, 7).config.net.max_batches == 7
