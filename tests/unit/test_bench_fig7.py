"""Figure 7 of the report in miniature."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from plinius.bench import fig7, methods, private_memory
from plinius.bench.clock import Turns
from plinius.bench.experiment import Plan
from plinius.errors import PliniusError
from plinius.mirror import Mirror

SMALL = replace(fig7.EXPERIMENT, sizes_mb=(0.5, 2), turns=Turns(seconds=0.001, at_least=2, at_most=2))


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    # Each measurement of it is a process that imports torch; the two last tests here make the real one.
    monkeypatch.setattr(fig7.private_memory, "beyond_model_bytes", lambda *_: 1 << 20)
    return Plan(quick=True, memory=tmp_path, disk=tmp_path, data=None, tell=lambda _: None)


def test_it_measures_both_ways_and_draws(plan: Plan, tmp_path: Path) -> None:
    result = json.loads(json.dumps(SMALL.measure(plan)))
    SMALL.draw(result, tmp_path / "fig7.png")
    assert (tmp_path / "fig7.png").read_bytes().startswith(b"\x89PNG")
    rows = SMALL.rows(result)
    for what, said in (("save", "3.2x (abstract)"), ("restore", "3.7x (abstract)")):
        assert [row.paper for row in rows if row.what.startswith(f"{what} of 0.5 to 2 MB, times as fast")] == [said]
        for size in ("0.5", "2"):
            assert any(row.what.startswith(f"{what} of {size} MB, times as fast") for row in rows)
    assert len(result["shares"]) == 8
    assert all(0 < share["crypto"] <= 1 for share in result["shares"])
    [fits] = [row.ours for row in rows if row.paper == "78 MB (Fig. 7)"]
    assert fits == "92.5 MB"
    assert "as fast as an encrypted file" in SMALL.meaning(result)
    assert [row.what for row in rows if "its bound" in row.what] == [
        f"{bound} of {size} MB / its bound, {way} in cache + copying"
        for bound, way in (("save", "sealing"), ("restore", "opening"))
        for size in ("0.5", "2")
    ]


def test_other_ways_stand_beside_the_largest_of_the_papers_models(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fig7, "_PAPERS_LARGEST_MB", 0.5)
    rows = SMALL.rows(SMALL.measure(replace(plan, quick=False)))
    others = [
        row.what.partition(" as fast as ")[2] for row in rows if " as fast as " in row.what and "disk" in row.what
    ]
    names = [method.name for method in methods.durable_methods() if method.name != "AES-GCM"]
    assert others == [f"{name} on the disk" for name in names for _ in ("save", "restore")]
    assert all("of 0.5 MB" in row.what for row in rows if "on the disk" in row.what and "as fast" in row.what)


def test_a_slow_encryption_is_seen_in_the_shares(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        def __init__(self, aead: Any) -> None:
            self._aead = aead

        def encrypt(self, *arguments: Any) -> bytes:
            time.sleep(0.002)
            sealed: bytes = self._aead.encrypt(*arguments)
            return sealed

        def decrypt(self, *arguments: Any) -> bytes:
            opened: bytes = self._aead.decrypt(*arguments)
            return opened

    real = methods.AESGCM
    monkeypatch.setattr(methods, "AESGCM", lambda key: Slow(real(key)))
    result = replace(SMALL, sizes_mb=(0.5,)).measure(plan)
    share = {share["what"]: share["crypto"] for share in result["shares"] if share["system"] == "AES-GCM"}
    assert 0.8 < share["save"] <= 1


def test_private_memory_beyond_the_model_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save that copies its model has that copy; ours has not."""
    assert private_memory.beyond_model_bytes("plinius", 20, tmp_path) < 8 << 20
    save = Mirror.save

    def copying(self: Mirror, step: int) -> None:
        copy = bytearray(64 << 20)
        time.sleep(0.05)
        save(self, step)
        assert copy

    monkeypatch.setattr(Mirror, "save", copying)
    (tmp_path / "again").mkdir()
    from plinius.bench.tensors import transformer  # noqa: PLC0415

    run = private_memory._mirror(transformer(1 << 20), tmp_path / "again" / "pool")
    before = private_memory._private_bytes()
    with private_memory._peak() as peak:
        run()
    assert peak[0] - before > 60 << 20


def test_a_failed_measurement_of_memory_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PliniusError, match="private memory failed"):
        private_memory.beyond_model_bytes("plinius", 1, tmp_path / "missing")
