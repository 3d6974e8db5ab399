"""Figure 8 in miniature: steps on sealed and on plain data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from plinius.bench import fig8, sealed_step, workload
from plinius.bench.clock import Turns
from plinius.bench.experiment import Plan
from plinius.bench.fig8 import Fig8, Size
from plinius.bench.sealed_step import Steps
from plinius.darknet.training import Training
from plinius.pool import Pool

TINY = Fig8(quick=Size((1, 2), Turns(seconds=0.001, at_least=2, at_most=3)))


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_step, "_RECORDS", 16)


def test_each_batch_size_is_measured_in_pairs(folder: Path, tmp_path: Path) -> None:
    plan = Plan(quick=True, memory=folder, disk=tmp_path, data=None, tell=lambda _: None)
    result = json.loads(json.dumps(TINY.measure(plan)))
    assert [(point["batch"], point["pairs"]) for point in result["points"]] == [(1, 2), (2, 2)]
    assert all(point["ratio"]["low"] <= point["ratio"]["median"] for point in result["points"])
    TINY.draw(result, tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    first, _ = TINY.rows(result)
    assert "2 pairs" in first.ours
    assert "1.2" in first.paper
    assert TINY.meaning(result).endswith(".")
    assert not list(folder.iterdir())


def test_the_ratio_is_that_of_sealed_to_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        def plain_s(self, batch: int) -> float:
            return 2.0

        def sealed_s(self, batch: int) -> float:
            return 3.0

    point = fig8._point(Slow(), 4, TINY.quick.turns)  # type: ignore[arg-type]
    assert point["ratio"] == {"median": 1.5, "low": 1.5, "high": 1.5, "count": 3}
    result = {"points": [point], "network": "net"}
    assert "1.500 times" in TINY.meaning(result)
    assert "cannot be told" not in TINY.meaning(result)


def test_both_ways_train_on_the_same_pictures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(Training, "step", lambda _, count, images, labels: seen.append((count, images, labels)))
    with Pool(folder / "pool") as pool:
        ways = Steps(workload.network(None).config, pool, folder)
        ways.plain_s(16)
        ways.sealed_s(16)
        generation = pool.stats()
        ways.saved_s(4)
        assert pool.stats() != generation
    (_, plain, plain_labels), (_, sealed, sealed_labels), (count, saved, _) = seen
    # The whole data set, in the order of two epochs.
    assert (count, len(saved)) == (2, 4)
    assert np.array_equal(np.sort(plain.reshape(16, -1).sum(1)), np.sort(sealed.reshape(16, -1).sum(1)))
    assert (plain.dtype, plain.shape) == (sealed.dtype, sealed.shape)
    assert np.array_equal(np.sort(plain_labels), np.sort(sealed_labels))
    assert plain_labels.dtype == sealed_labels.dtype
    assert len(ways.saves_s) == 1
