"""What a save after every step adds, in miniature."""

from __future__ import annotations

import json
from pathlib import Path

from plinius.bench.clock import Turns
from plinius.bench.experiment import Plan
from plinius.bench.overhead import Overhead, Size
from plinius.bench.step import OURS, OURS_BEHIND, OURS_ON_DISK

ONCE = Turns(seconds=0.001, at_least=1, at_most=1)
TINY = Size(width=8, layers=1, step_s=0, papers=True, turns=ONCE)
CFG = "[net]\nbatch=2\nheight=8\nwidth=8\nchannels=1\nmax_batches=9\n[connected]\noutput=2\n[softmax]\n"


def test_each_way_stands_beside_steps_without_a_save(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cfg").mkdir()
    (tmp_path / "cfg" / "plinius-mnist.cfg").write_text(CFG)
    tiny = Overhead(quick=TINY)
    plan = Plan(quick=True, memory=folder, disk=tmp_path, data=tmp_path, tell=lambda _: None)
    result = json.loads(json.dumps(tiny.measure(plan)))
    papers, transformer = result["nets"]
    assert papers["name"] == "plinius-mnist.cfg"
    assert [one["way"] for one in papers["savings"]] == [one["way"] for one in transformer["savings"]]
    assert {one["way"] for one in papers["savings"]} > {OURS, OURS_BEHIND, OURS_ON_DISK, "AES-GCM", "torch.save"}
    tiny.draw(result, tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    rows = tiny.rows(result)
    assert len(rows) == 1 + 2 * len(papers["savings"])
    assert rows[1].what == f"step of plinius-mnist.cfg, batch 2, with a save after it / without: {OURS}"
    assert not list(folder.iterdir())


def test_the_others_are_named_by_what_they_cost() -> None:
    ours = {OURS: 1.01, OURS_BEHIND: 1.001, OURS_ON_DISK: 1.1}
    ratios = ours | {"slow": 1.9, "quick": 1.2, "middling": 1.5}
    named = {"every": 1, "pairs": 1, "blocked_s": 0.01}
    savings = [
        {"way": way, **named, "ratio": interval(ratio), "added_s": interval(ratio)} for way, ratio in ratios.items()
    ]
    net = {"name": "n", "batch": 1, "state_bytes": 10**6, "plain_step_s": 0.5, "bound_s": 0.1, "savings": savings}
    facts = {"cpu": "c", "cores": 1, "load": 0.0, "pm": "p", "disk": "d"}
    meaning = Overhead().meaning({**facts, "nets": [net]})
    assert "1.010 (1.010 to 1.010) times as long, 1.001 (1.001 to 1.001) times in the background, and 1.100" in meaning
    assert "quick is the quickest with 1.200 (1.200 to 1.200), and slow the slowest with 1.900" in meaning


def interval(median: float) -> dict[str, float]:
    return {"median": median, "low": median, "high": median, "count": 9}
