"""What an anchor costs, and how long a restart takes, in miniature: with a real broker, and a real kill."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from plinius.bench import desk, restart
from plinius.bench.anchor import Anchor
from plinius.bench.desk import Desk
from plinius.bench.experiment import Plan
from plinius.bench.restart import Restart, Size
from plinius.enclave.anchoring import BrokerAnchor
from plinius.errors import PliniusError

ANCHOR = Anchor(state_bytes=4000, quick=1)
RESTART = Restart(quick=Size(hidden=8, kills=1))


def plan(folder: Path, disk: Path) -> Plan:
    return Plan(quick=True, memory=folder, disk=disk, data=None, tell=lambda _: None)


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[str]]:
    """The brokers that are started, to be killed."""
    started: list[subprocess.Popen[str]] = []
    popen = subprocess.Popen

    def noted(*args: Any, **options: Any) -> subprocess.Popen[str]:
        started.append(popen(*args, **options))
        return started[-1]

    monkeypatch.setattr(desk.subprocess, "Popen", noted)
    return started


def test_saves_with_and_without_an_anchor_take_turns(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brokers: list[subprocess.Popen[str]]
) -> None:
    advanced: Counter[int] = Counter()

    def counted(anchor: BrokerAnchor, *args: Any, **options: Any) -> None:
        advanced[anchor.every] += 1
        advance(anchor, *args, **options)

    advance = BrokerAnchor.advance
    monkeypatch.setattr(BrokerAnchor, "advance", counted)
    (tmp_path / "disk").mkdir()
    result = json.loads(json.dumps(ANCHOR.measure(plan(folder, tmp_path / "disk"))))
    assert result["saves"] == 10
    # Ten saves before, that do not count.
    assert advanced == {1: 20, 10: 2}
    _, every, seldom = result["ways"].values()
    assert every["added_ms"]["count"] == 1
    ANCHOR.draw(result, tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert [row.what for row in ANCHOR.rows(result)][1] == "a save of 0.0 MB, broker, every save"
    assert f"every tenth {seldom['added_ms']['median']:.2f} (" in ANCHOR.meaning(result)
    assert brokers[-1].returncode == -signal.SIGKILL
    assert not list(folder.iterdir()) + list((tmp_path / "disk").iterdir())


def test_a_killed_enclave_comes_back(folder: Path, tmp_path: Path) -> None:
    result = json.loads(json.dumps(RESTART.measure(plan(folder, tmp_path))))
    assert result["kills"] == 1
    assert result["back_s"]["median"] > result["rehearsal_s"]
    assert 0 < result["sandbox_s"] < result["rehearsal_s"] < result["bare_s"]
    RESTART.draw(result, tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert len(RESTART.rows(result)) == 4
    assert RESTART.meaning(result).startswith(
        f"A killed enclave is back at its first step after {result['back_s']['median']:.2f}"
    )
    assert not list(folder.iterdir())


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    given_up = threading.Event()
    with desk.patience(given_up.set):
        pass
    monkeypatch.setattr(desk, "_PATIENCE_S", 0.01)
    with desk.patience(given_up.set):
        assert given_up.wait(60)


def test_a_broker_that_dies_ends_saves_with_an_anchor(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brokers: list[subprocess.Popen[str]]
) -> None:
    advance = BrokerAnchor.advance

    def bereft(*args: Any, **options: Any) -> None:
        brokers[-1].kill()
        monkeypatch.setattr(BrokerAnchor, "advance", advance)
        advance(*args, **options)

    monkeypatch.setattr(BrokerAnchor, "advance", bereft)
    monkeypatch.setattr(desk, "_PATIENCE_S", 3)
    with pytest.raises(PliniusError):
        ANCHOR.measure(plan(folder, tmp_path))
    assert not list(folder.iterdir())


def test_a_broker_that_dies_ends_restarts(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brokers: list[subprocess.Popen[str]]
) -> None:
    kill = restart._kill

    def bereft(enclave: int) -> float:
        broker = next(it for it in brokers if "broker" in it.args)
        broker.kill()
        monkeypatch.setattr(desk, "_PATIENCE_S", 3)
        return kill(enclave)

    monkeypatch.setattr(restart, "_kill", bereft)
    with pytest.raises(PliniusError):
        RESTART.measure(plan(folder, tmp_path))
    assert not list(folder.iterdir())


def test_a_broker_that_does_not_start_says_why(tmp_path: Path) -> None:
    made = Desk(tmp_path, records=1)
    with pytest.raises(PliniusError, match="jobs"), made.broker():
        pytest.fail("there is no job")
