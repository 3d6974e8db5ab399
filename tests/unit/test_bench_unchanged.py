"""What saving nothing costs, in miniature."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from plinius import Mirror
from plinius.bench import unchanged
from plinius.bench.experiment import Plan
from plinius.bench.unchanged import Size, Unchanged

TINY = Unchanged(quick=Size(megabytes=1, tensors=4, warm_up=1, rounds=2))


def test_every_way_is_compared_with_a_read(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sums = []
    save = Mirror.save

    def seen(mirror: Mirror, step: int) -> None:
        save(mirror, step)
        sums.append(sum(float(tensor.sum()) for tensor in ways[len(sums) % 4].weights))

    ways: list[unchanged._Way] = []
    make = unchanged._Way.__init__
    monkeypatch.setattr(unchanged._Way, "__init__", lambda way, *args: (ways.append(way), make(way, *args))[1])
    monkeypatch.setattr(Mirror, "save", seen)
    plan = Plan(quick=True, memory=folder, disk=tmp_path, data=None, tell=lambda _: None)
    result = json.loads(json.dumps(TINY.measure(plan)))
    # All, half, none, none: what is said to change does, and nothing else.
    items = 1_000_000 // 4
    grown = [round(after - before) for before, after in zip(sums[:4], sums[8:], strict=True)]
    assert grown == pytest.approx([2 * items, items, 0, 0], abs=items // 100)
    assert list(result["ways"]) == ["all changed", "half changed", "none changed", "all of them frozen"]
    assert all(way["reads"]["low"] <= way["reads"]["median"] for way in result["ways"].values())
    TINY.draw(result, tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    first, second, *_ = TINY.rows(result)
    assert f"{torch.get_num_threads()} threads" in first.ours
    assert second.what == "a save of 1 MB in 4 tensors, all changed"
    assert TINY.meaning(result).endswith("once in 64 saves.")
    assert not list(folder.iterdir())
