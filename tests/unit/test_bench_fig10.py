"""Figure 10 and `plinius bench spot` in miniature; what is trained is a stand-in, the kills are real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from inside import Command
from jobs import line_of
from plinius.bench import fig10, lives, spot, trace
from plinius.bench.experiment import Plan
from plinius.bench.lives import Life, Lived, Step
from plinius.bench.small_job import SmallJob
from plinius.bench.trace import Span
from plinius.errors import ConfigError

SPEED = 150  # seconds of a trace in one: lives have time for steps on a busy machine, and curves all of their points
TICKS = {"metadata": {"gap_seconds": 600}, "data": [0, 1, 1, 0, 2, 1, 0, 1]}
QUOTE = {"AvailabilityZone": "us-east-1a", "InstanceType": "m5.large", "ProductDescription": "Linux/UNIX"}
PRICES = {
    "SpotPriceHistory": [
        QUOTE | {"SpotPrice": price, "Timestamp": f"2024-05-01T{hour:02}:00:00+00:00"}
        for hour, price in ((3, "0.30"), (0, "0.10"), (1, "0.50"), (2, "0.20"))
    ]
}


def plan(folder: Path) -> Plan:
    return Plan(quick=True, memory=folder, disk=folder, data=None, tell=lambda _: None)


def written(folder: Path, content: object) -> str:
    path = folder / "trace"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_ticks_become_spans(tmp_path: Path) -> None:
    found = trace.read(written(tmp_path, TICKS))
    assert found.lives == [(600, 1800), (2400, 3600), (4200, 4800)]
    assert (found.seconds, found.running_s, found.cost) == (4800, 3000, None)
    assert found.spans[0] == Span(0, 600, False, None)
    # The last life is half as long, so it is left out.
    part = found.part(1)
    assert part.lives == [(0, 1200), (1800, 3000)]
    assert part.seconds == 3000
    assert found.part(9).lives[-1] == (3600, 4200)


def test_a_trace_that_never_stops_is_one_life(tmp_path: Path) -> None:
    found = trace.read(written(tmp_path, TICKS | {"data": [1, 2, 3], "prices": [1, 2, 3]}))
    assert found.lives == found.part(3).lives == [(0, 1800)]
    assert found.cost == pytest.approx((1 + 2 + 3) / 6)


def test_prices_and_a_bid_become_spans(tmp_path: Path) -> None:
    rows = [
        ["SPOTPRICEHISTORY", *QUOTE.values(), it["SpotPrice"], it["Timestamp"]] for it in PRICES["SpotPriceHistory"]
    ]
    tabs = "".join("\t".join(row) + "\n" for row in rows)
    for content in (PRICES, tabs):
        found = trace.read(written(tmp_path, content), bid=0.2)
        assert found.spans == [Span(0, 3600, True, 0.1), Span(3600, 7200, False, 0.5), Span(7200, 10800, True, 0.2)]
        assert found.cost == pytest.approx(0.3)
        assert trace.read(written(tmp_path, content), bid=1).lives == [(0, 10800)]


BAD = {
    "empty": ("", None, "no trace"),
    "no JSON": ("hello", None, "no trace"),
    "another JSON": ({"a": 1}, None, "no trace"),
    "a list": ([1], None, "no trace"),
    "no ticks": (TICKS | {"data": []}, None, "no trace"),
    "a tick that is no number": (TICKS | {"data": ["x"]}, None, r"no trace .*\$.data\[0\]"),
    "less than none": (TICKS | {"data": [-1]}, None, r">= 0 .*\$.data\[0\]"),
    "no time": (TICKS | {"metadata": {"gap_seconds": 0}}, None, "gap_seconds"),
    "endless": (TICKS | {"metadata": {"gap_seconds": 1e300}}, None, "gap_seconds"),
    "never": (TICKS | {"data": [0, 0]}, None, "never possible"),
    "fewer prices": (TICKS | {"prices": [1]}, None, "8 ticks and 1 prices"),
    "a bid without prices": (TICKS, 1, "leave --bid out"),
    "no bid": (PRICES, None, "--bid"),
    "a bid that is too low": (PRICES, 0.01, "never possible"),
    "one price": ({"SpotPriceHistory": PRICES["SpotPriceHistory"][:1]}, 1, "two moments"),
    "a price that is none": ({"SpotPriceHistory": [QUOTE | {"SpotPrice": "nan", "Timestamp": "x"}]}, 1, "no trace"),
    "no time zone": (
        {"SpotPriceHistory": [QUOTE | {"SpotPrice": "1", "Timestamp": "2024-05-01T00:00:00"}]},
        1,
        "no trace",
    ),
    "two markets": (
        {"SpotPriceHistory": [PRICES["SpotPriceHistory"][0], PRICES["SpotPriceHistory"][1] | {"InstanceType": "x"}]},
        1,
        "2 markets",
    ),
    "a row that is cut": ("SPOTPRICEHISTORY\tus-east-1a\tm5.large\n", 1, "no trace"),
    "deep": ("[" * 100_000, None, "no trace"),
}


@pytest.mark.parametrize(("content", "bid", "words"), BAD.values(), ids=BAD)
def test_a_bad_trace_is_refused_in_one_line(tmp_path: Path, content: object, bid: float | None, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        trace.read(written(tmp_path, content), bid)
    assert "\n" not in str(raised.value)


def test_a_trace_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_MAX_BYTES", 10)
    with pytest.raises(ConfigError, match="at most"):
        trace.read(written(tmp_path, TICKS))
    with pytest.raises(ConfigError, match="/no/such: cannot be read"):
        trace.read("/no/such")


def step(number: int, durable: int) -> Step:
    return Step(at_s=number, step=number, durable_step=durable, step_s=0.5, save_s=0.1, loss=1)


def test_what_is_useful_is_what_the_last_life_stands_at() -> None:
    first, last = Life(0, [step(1, 0), step(2, 2), step(3, 2)]), Life(5, [step(3, 2)])
    assert (Lived([first, last]).useful, Lived([first, last]).executed) == (3, 4)
    assert Lived([first, Life(5)]).useful == Lived([first, Life(5)]).durable == 2
    assert Lived([first]).restart_s() == 0.5
    assert Lived([first]).save_s() == 0.1
    assert (Lived([]).useful, Lived([]).restart_s()) == (0, None)
    # A timetable that ends with a kill leaves what is durable.
    assert Lived([first, last], ended_by_kill=True).useful == 2


def test_a_training_that_fails_by_itself_is_an_error(folder: Path) -> None:
    job = SmallJob(folder, "none").run(folder / "pool")
    with pytest.raises(Exception, match=r"net\.cfg") as raised:
        lives.live([lives.Way("a", job)], [lives.Span(0, 60)])
    assert str(raised.value).startswith("a: ")


def test_the_mirrored_training_loses_least(stand_in: None, folder: Path, tmp_path: Path) -> None:
    found = trace.Trace("t", [Span(0, 300, True, 1), Span(300, 400, False, 1), Span(400, 700, True, 1)])
    result = spot.measure(found, SPEED, spot.Places(folder, folder, None), lambda _: None)
    ways: dict[str, Any] = result["ways"]
    mirrored, checkpoint, nothing = (ways[name] for name in (spot.MIRRORED, spot.CHECKPOINT, spot.NOTHING))
    assert mirrored["useful"] - mirrored["executed"] in (0, 1)  # a step may be durable and not yet reported
    assert 0 < nothing["useful"] < nothing["executed"] - 10
    # What the checkpoint had when it was killed is what its second life goes on from.
    curve = checkpoint["curve"]
    resumed = next(step for at_s, step in zip(curve["at_s"], curve["step"], strict=True) if at_s > 400 / SPEED) - 1
    assert resumed % spot.CHECKPOINT_EVERY == 0
    assert checkpoint["useful"] > resumed
    assert mirrored["dollars_per_1000"] == pytest.approx(1000 * (600 / 3600) / mirrored["useful"])
    # Nothing ran while the trace says so.
    assert not [at_s for at_s in mirrored["curve"]["at_s"] if 340 / SPEED < at_s < 400 / SPEED]
    assert spot.meaning(result).startswith("After 1 preemption of t ")
    assert "mirrored after each step: cost" in [row.what for row in spot.rows(result)]


def test_a_trace_that_ends_with_a_preemption_leaves_what_is_durable(stand_in: None, folder: Path) -> None:
    found = trace.Trace("t", [Span(0, 150, True, None), Span(150, 200, False, None)])
    result = spot.measure(found, SPEED, spot.Places(folder, folder, None), lambda _: None)
    assert (result["starts"], result["preemptions"]) == (1, 1)
    nothing = result["ways"][spot.NOTHING]
    assert nothing["executed"] > 10
    assert nothing["useful"] == 0
    assert spot.meaning(result).startswith("After 1 preemption of t ")


def test_what_was_played_and_what_is_weak_is_said(stand_in: None, folder: Path) -> None:
    played = trace.Trace("t", [Span(0, 150, True, None)], chosen=True)
    result = spot.measure(played, SPEED, spot.Places(folder, folder, None), lambda _: None)
    assert "largest share" in spot.rows(result)[0].ours
    assert "largest share" not in spot.rows(result | {"chosen": False})[0].ours
    assert "weak" not in spot.meaning(result)
    result["ways"][spot.MIRRORED]["stillborn"] = 1
    assert "1 of the 3 lives ended before a first step" in spot.meaning(result)
    assert Lived([Life(0), Life(1, [step(1, 0)])]).stillborn == 1


def test_a_start_is_measured_and_leaves_nothing(stand_in: None, folder: Path) -> None:
    ways = [lives.Way("a", SmallJob(folder, "none").run(folder / f"pool{number}")) for number in range(2)]
    assert 0 < lives.start_s(ways) <= 8
    assert list(folder.iterdir()) == []


def test_figure_10(stand_in: None, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lives, "start_s", lambda _: 0.5)
    result = fig10.EXPERIMENT.measure(plan(folder))
    assert result["starts"] == fig10.QUICK_PREEMPTIONS + 1
    assert set(result["ways"]) == {"mirrored", "checkpoint", "nothing"}
    fig10.EXPERIMENT.draw(result, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert all(isinstance(text, str) for row in fig10.EXPERIMENT.rows(result) for text in row)
    assert "a trace made by the experiment" in fig10.EXPERIMENT.meaning(result)
    assert list(folder.iterdir()) == []


def test_the_command_plays_a_whole_trace(stand_in: None, inside: Command, folder: Path) -> None:
    places = ["--pool", folder, "--disk", folder, "--output", folder / "out"]
    prices = written(folder, PRICES)
    done = inside("bench", "spot", "--trace", prices, "--bid", 0.3, "--factor", 9000, *places, "--json")
    assert done.code == 0, done
    [facts] = done.messages
    assert (facts["starts"], facts["factor"], facts["trace_s"]) == (2, 9000, 10800)
    assert json.loads((folder / "out" / "spot.json").read_text()) == facts
    assert (folder / "out" / "spot.png").read_bytes().startswith(b"\x89PNG")
    assert "--bid" in line_of(3, inside("bench", "spot", "--trace", prices, *places))
