"""Figure 6 of the report in miniature."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from plinius.bench import fig6, peers, sps
from plinius.bench.experiment import Plan
from plinius.bench.peers import Peer

SLOW_PEER = "import json; print(json.dumps({'swaps': 1, 'seconds': 1.0, 'checksum_ok': True}))"
FAST_PEER = SLOW_PEER.replace("'swaps': 1,", "'swaps': 10**12,")
Program = Callable[[str], Peer]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    def make(text: str) -> Peer:
        path = tmp_path / "peer.py"
        path.write_text(text)
        return Peer("libpmemobj", (sys.executable, str(path)))

    return make


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(quick=True, memory=tmp_path, disk=tmp_path, data=None, tell=lambda _: None)


def small(*peers: Peer) -> fig6.SwapsPerSecond:
    return replace(fig6.EXPERIMENT, peers=peers, sizes=(2, 16), seconds=0.005, rounds=1)


def test_it_measures_every_write_back_and_draws(program: Program, plan: Plan, tmp_path: Path) -> None:
    experiment = small(program(SLOW_PEER))
    result = json.loads(json.dumps(experiment.measure(plan)))
    measured = {(rate["system"], rate["pwb"], rate["swaps_per_transaction"]) for rate in result["rates"]}
    assert measured == {(who, pwb, n) for who in ("plinius", "libpmemobj") for pwb in sps.pwbs() for n in (2, 16)}
    assert all(rate["swaps_per_s"] > 0 for rate in result["rates"])
    experiment.draw(result, tmp_path / "fig6.png")
    assert (tmp_path / "fig6.png").read_bytes().startswith(b"\x89PNG")
    rows = experiment.rows(result)
    assert rows[0].paper == "2 to 2,048 swaps (Fig. 6)"
    ratios = {row.what: float(row.ours.split()[0]) for row in rows if "ratio to libpmemobj" in row.what}
    assert 1 < ratios["smallest ratio to libpmemobj"] < ratios["largest ratio to libpmemobj"]
    assert "above libpmemobj at every size" in experiment.meaning(result)


def test_a_faster_peer_is_told(program: Program, plan: Plan) -> None:
    experiment = small(program(FAST_PEER))
    assert "not above libpmemobj everywhere" in experiment.meaning(experiment.measure(plan))


def test_without_a_peer_it_says_so(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "source_tree", lambda: None)
    told: list[str] = []
    experiment = small()
    result = experiment.measure(replace(plan, tell=told.append))
    assert "make target/pmemobj_sps" in told[0]
    assert "No other system" in experiment.meaning(result)


def test_what_the_tree_has_built_is_measured_beside_a_named_peer(
    program: Program, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = tmp_path / "target" / "pmemobj_sps"
    built.parent.mkdir()
    built.write_text(f"#!{sys.executable}\n{SLOW_PEER}\n")
    built.chmod(0o755)
    monkeypatch.setattr(peers, "source_tree", lambda: tmp_path)
    named = replace(program(SLOW_PEER), name="another")
    result = small(named).measure(plan)
    assert [least["peer"] for least in result["smallest"]] == ["libpmemobj", "another"]
