"""Figure 9 in miniature, so that it cannot rot; what is trained is a stand-in, the kills are real."""

from __future__ import annotations

from pathlib import Path

import pytest
from plinius.bench.experiment import Plan
from plinius.bench.fig9 import CrashAndResume, Size
from plinius.bench.runs import plinius, train
from plinius.bench.small_job import LAYERS, SmallJob
from plinius.darknet import parse
from plinius.darknet.sections import Convolutional
from plinius.errors import PliniusError

SIZE = Size(steps=40, kills=3)


def plan(folder: Path) -> Plan:
    return Plan(quick=True, memory=folder, disk=folder, data=None, tell=lambda _: None)


def test_the_mirrored_curve_goes_on_and_the_other_begins_anew(stand_in: None, folder: Path, tmp_path: Path) -> None:
    experiment = CrashAndResume(quick=SIZE)
    result = experiment.measure(plan(folder))
    assert result["equal"]
    curves = result["curves"]
    assert [len(curves[name]["starts"]) for name in ("alone", "mirrored", "without")] == [0, 3, 3]
    assert all(d <= r for d, r in zip(result["durable"], result["resumed"], strict=True))
    # Each kill of the training without a mirror costs all that its life made.
    assert result["again"]["without"] == curves["without"]["starts"][-1] > 2
    assert result["again"]["mirrored"] <= SIZE.kills
    assert curves["without"]["loss"][curves["without"]["starts"][0]] == 1  # the first step's again
    experiment.draw(result, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert all(isinstance(text, str) for row in experiment.rows(result) for text in row)
    assert f"needed {SIZE.steps + result['again']['mirrored']} steps" in experiment.meaning(result)
    assert list(folder.iterdir()) == []


def test_a_curve_that_differs_is_said(stand_in: None, folder: Path) -> None:
    experiment = CrashAndResume(quick=SIZE)
    result = experiment.measure(plan(folder)) | {"equal": False}
    assert "DIFFERENT" in {row.ours for row in experiment.rows(result)}
    assert "ANOTHER" in experiment.meaning(result)


def test_a_start_that_begins_anew_is_a_loss(stand_in: None, folder: Path) -> None:
    never = SmallJob(folder, "none").run(folder / "pool", every=1000)
    record = train(never, 30, [(5, "host"), (8, "host")])
    assert record.resumed == [0, 0]
    shown = {"kills": 2, "steps": 30, "layers": LAYERS, "equal": True, "again": {"mirrored": 0, "without": 0}}
    rows = CrashAndResume().rows({**shown, "durable": [5, 9], "resumed": [5, 0]})
    assert next(row.ours for row in rows if row.what.startswith("durable steps lost")) == "9"


def test_the_job_is_one_that_the_real_command_trains(folder: Path) -> None:
    job = SmallJob.make(folder, None)
    config = parse((folder / "net.cfg").read_bytes(), "net.cfg")
    assert sum(isinstance(section, Convolutional) for section in config.sections) == LAYERS
    assert "made by the experiment" in job.pictures
    record = train(job.run(folder / "pool"), 2)
    assert sorted(record.losses) == [1, 2]


def test_what_a_command_complains_of_is_passed_on() -> None:
    with pytest.raises(PliniusError, match=r"^/no/such"):
        plinius("status", "/no/such")
