"""The mirroring frequency in miniature; what is trained is a stand-in, the kills are real."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from plinius.bench import frequency, lives
from plinius.bench.experiment import Plan
from plinius.bench.frequency import Costs, Failures, Frequency, Size, daly_s, expected_share, young_s


def plan(folder: Path) -> Plan:
    return Plan(quick=True, memory=folder, disk=folder, data=None, tell=lambda _: None)


def test_both_optima() -> None:
    assert young_s(2, 100) == 20
    assert daly_s(2, 100) == pytest.approx(20 * (1 + 0.1 / 3 + 0.01 / 9) - 2)
    assert daly_s(200, 100) == 100
    costs = Costs(step_s=1, save_s=2, restart_s=5, between_failures_s=100)
    shares = {every: expected_share(every, costs) for every in range(1, 100)}
    best = max(shares, key=shares.__getitem__)
    assert best == pytest.approx(daly_s(2, 100), abs=1)
    assert expected_share(1, Costs(1, 0, 0, 1e9)) == pytest.approx(1)


def test_seldom_mirrored_is_much_lost(
    stand_in: None, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lives, "start_s", lambda _: 0.1)
    experiment = Frequency(quick=Size((1, 10_000), (Failures(8, kills=2),)))
    result = experiment.measure(plan(folder))
    [rate] = result["rates"]
    often, seldom = rate["points"]
    assert often["useful"] > 20
    assert (seldom["useful"], seldom["share"]) == (0, 0)
    assert seldom["expected"] < often["expected"]
    assert rate["between_failures_s"] == pytest.approx(rate["seconds"] / 3)
    assert rate["young_every"] == pytest.approx(math.sqrt(2 * 0.001 * rate["between_failures_s"]) / 0.004)
    experiment.draw(result, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert all(isinstance(text, str) for row in experiment.rows(result) for text in row)
    assert "Daly" in experiment.meaning(result)


def test_as_many_trainings_run_side_by_side_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, together in ((1, 1), (2, 2), (3, 2), (4, 4), (64, 4)):
        monkeypatch.setattr(frequency.os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert frequency._at_once(frequency.FULL) == together


def test_the_moments_are_the_same_each_time_and_of_that_mean() -> None:
    lengths = [span.ends_s - span.begins_s for span in frequency._timetable(5, 4000)]
    assert sum(lengths) / len(lengths) == pytest.approx(5, rel=0.05)
    assert frequency._timetable(5, 3) == frequency._timetable(5, 3)
    assert [span.begins_s for span in frequency._timetable(5, 3)][1:] == [
        span.ends_s for span in frequency._timetable(5, 3)
    ][:-1]
