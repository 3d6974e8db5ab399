"""The model of SGX in miniature: what it counts, and what it makes of that."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from plinius.bench import calls, private_memory, sgx
from plinius.bench.calls import count_calls
from plinius.bench.experiment import Plan
from plinius.bench.sgx import Machine, clock_hz
from plinius.bench.sgxmodel import SgxModel, Size
from plinius.enclave.trainer import train
from plinius.errors import PliniusError
from plinius.wire import Notice

TINY = SgxModel(quick=Size((0.2, 1), 2))
PAGE = 4096
MACHINE = Machine(hz=1e9, epc_bytes=100 * PAGE, transition_cycles=1000, swap_cycles=2000)


def plan(folder: Path) -> Plan:
    return Plan(quick=True, memory=folder, disk=folder, data=None, tell=lambda _: None)


def test_nothing_is_swapped_while_it_fits_and_then_what_does_not() -> None:
    assert MACHINE.swaps(100 * PAGE) == (0, 0)
    assert MACHINE.swaps(130 * PAGE) == (30, 130)
    assert MACHINE.swaps_s(130 * PAGE) == pytest.approx((60e-6, 260e-6))
    assert MACHINE.transitions_s(3) == pytest.approx(6e-6)


def test_the_numbers_are_those_of_the_literature() -> None:
    machine = Machine.of(2e9)
    assert (machine.epc_bytes, machine.transition_cycles, machine.swap_cycles) == (93_500_000, 13_100, 40_000)


def test_a_processor_without_a_clock_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text("cpu MHz\t\t: 1000.5\ncpu MHz\t\t: 2000.5\n")
    monkeypatch.setattr(sgx, "_CPU", tmp_path / "cpuinfo")
    assert clock_hz() == 2_000_500_000
    (tmp_path / "cpuinfo").write_text("processor: 0\n")
    with pytest.raises(PliniusError, match="clock rate"):
        clock_hz()


def test_calls_are_counted_where_they_are_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = count_calls(folder)
    assert 1 <= found.save <= 3
    assert 1 <= found.restore <= 4

    def chatty(job: object, pool: object, key: object, data: int, report: Callable[..., None], stop: object) -> None:
        def twice(message: object) -> None:
            report(Notice("one more"))
            report(message)

        train(job, pool, key, data, twice, stop)  # type: ignore[arg-type]

    monkeypatch.setattr(calls, "train", chatty)
    (folder / "more").mkdir()
    assert count_calls(folder / "more").save == found.save + 1


def test_measured_and_modelled(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an EPC so small that one of two sizes does not fit."""
    monkeypatch.setattr(Machine, "of", lambda hz: MACHINE._replace(hz=hz, epc_bytes=400_000))
    monkeypatch.setattr(private_memory, "beyond_model_bytes", lambda *_: 4096)
    result = json.loads(json.dumps(TINY.measure(plan(folder))))
    small, large = result["points"]
    for what in ("save", "restore"):
        assert small[what]["most_s"] == 0
        assert 0 < large[what]["least_s"] < large[what]["most_s"]
        assert large[what]["swaps"][1] == -(-(large["state_bytes"] + 4096) // PAGE)
    TINY.draw(result, tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    text = "\n".join(f"{row.what}: {row.ours}" for row in TINY.rows(result))
    assert "save of 0 MB: measured" in text
    assert "no page swaps" in text
    meaning = TINY.meaning(result)
    assert meaning.startswith("A model and no measurement")
    assert "times as long" in meaning
    assert not list(folder.iterdir())


def test_sizes_that_all_fit_say_so(folder: Path) -> None:
    result = TINY.measure(plan(folder))
    assert "which none of the sizes that were measured does" in TINY.meaning(result)
