"""`plinius bench all`: what is kept, what is measured anew, what the page says. Its experiments are made up."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from inside import Command
from plinius.bench import everything, machine, records, registry
from plinius.bench.everything import Run
from plinius.bench.experiment import Experiment, Plan, Result, Row
from plinius.bench.peers import Peer
from plinius.errors import ConfigError

PNG = b"\x89PNG\r\n\x1a\nno picture"


@pytest.fixture(autouse=True)
def passive(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command would start this program again, and look before and after each experiment what else runs."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setattr(everything, "busy_cores", lambda: 0.0)


@dataclass
class Fake:
    """An experiment that counts how often it is measured."""

    name: str
    fails: BaseException | None = None
    title: str = "A <title> & more"
    measured: int = 0
    drawn: list[Result] = field(default_factory=list)

    def measure(self, plan: Plan) -> Result:
        if self.fails is not None:
            raise self.fails
        self.measured += 1
        return {"count": self.measured, "quick": plan.quick}

    def draw(self, result: Result, path: Path) -> None:
        self.drawn.append(result)
        path.write_bytes(PNG)

    def rows(self, result: Result) -> list[Row]:
        return [Row(f"row {number}", f"<b>{result['count']}</b>", "3.2x" if number else "") for number in range(20)]

    def meaning(self, result: Result) -> str:
        return f"{self.name} was measured {result['count']} times <script>alert(1)</script>."


class Fakes:
    """Experiments by name; one that is not there is missing."""

    def __init__(self, tmp_path: Path, *names: str) -> None:
        self.made = {name: Fake(name) for name in names}
        self.told: list[str] = []
        plan = Plan(quick=True, memory=tmp_path, disk=tmp_path, data=None, tell=self.told.append)
        folder = tmp_path / "report"
        folder.mkdir()
        self.run = Run(plan, folder, only=names, load=self.load, names=names)

    def load(self, name: str) -> Experiment:
        if name not in self.made:
            raise ConfigError(f"this version has no {name}")
        return self.made[name]

    def page(self) -> str:
        return (self.run.folder / "index.html").read_text()

    def record(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.run.folder / f"{name}.json").read_text())
        return found

    def counts(self) -> list[int]:
        return [one.measured for one in self.made.values()]


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    return Fakes(tmp_path, "one", "two", "three")


def test_an_interrupted_run_goes_on_where_it_stopped(fakes: Fakes) -> None:
    fakes.made["two"].fails = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        fakes.run.go()
    assert fakes.record("one")["result"]["count"] == 1
    assert "one was measured 1 times" in fakes.page()
    assert "not measured yet" in fakes.page()
    fakes.made["two"].fails = None
    fakes.run.go()
    assert fakes.counts() == [1, 1, 1]
    assert any(line.startswith("one: kept from") for line in fakes.told)
    assert "not measured yet" not in fakes.page()
    replace(fakes.run, again=True, only=["two"]).go()
    assert fakes.counts() == [1, 2, 1]


def test_a_result_of_another_form_is_measured_anew(fakes: Fakes) -> None:
    fakes.run.go()
    path = fakes.run.folder / "two.json"
    path.write_text(path.read_text().replace('"count"', '"number"'))
    fakes.run.go()
    assert fakes.counts() == [1, 2, 1]
    assert any(line.startswith("two: what was measured cannot be shown: KeyError") for line in fakes.told)


def test_results_of_another_plan_or_machine_or_half_a_file_are_measured_anew(
    fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.run.go()
    replace(fakes.run, plan=replace(fakes.run.plan, quick=False)).go()
    assert fakes.counts() == [2, 2, 2]
    replace(fakes.run, plan=replace(fakes.run.plan, quick=False), peers=[Peer("x", ("y",))]).go()
    assert fakes.counts() == [3, 3, 3]
    fakes.run.go()
    path = fakes.run.folder / "two.json"
    path.write_text(path.read_text()[:-100])
    fakes.run.go()
    assert fakes.counts() == [4, 5, 4]
    here = everything.this_machine(fakes.run.plan)
    monkeypatch.setattr(everything, "this_machine", lambda _: replace(here, cpu="another"))
    fakes.run.go()
    assert fakes.counts() == [5, 6, 5]
    assert "another" in fakes.page()


def test_what_cannot_run_is_a_line_and_does_not_stop_the_others(fakes: Fakes) -> None:
    fakes.made["one"].fails = ConfigError("there is no fio: install <it>")
    fakes.made["two"].fails = ZeroDivisionError("division by zero")
    run = replace(fakes.run, names=("one", "two", "three", "four"), only=("one", "two", "three", "four"))
    records = run.go()
    reasons = [record.reason for record in records]
    assert reasons[0] == "there is no fio: install <it>"
    assert reasons[1] == "it failed: ZeroDivisionError: division by zero"
    assert reasons[2:] == [None, "this version has no four"]
    assert "there is no fio: install &lt;it&gt;" in fakes.page()
    assert "this version has no four" in fakes.page()
    assert "1 of 4 experiments" in fakes.page()
    # A page that is made anew says so still.
    replace(run, only=("three",)).go()
    assert "there is no fio: install &lt;it&gt;" in fakes.page()
    # It is tried again, and then it is a result.
    fakes.made["one"].fails = None
    run.go()
    assert fakes.made["one"].measured == 1
    assert fakes.made["three"].measured == 1
    assert "no fio" not in fakes.page()


def test_what_cannot_be_shown_is_no_result_and_does_not_stop_the_others(
    fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fakes.made["one"], "measure", lambda _: {"count": float("nan")})
    monkeypatch.setattr(fakes.made["two"], "draw", lambda *_: 1 // 0)
    reasons = [record.reason for record in fakes.run.go()]
    assert "JSON compliant" in str(reasons[0])
    assert "cannot be shown: ZeroDivisionError" in str(reasons[1])
    assert reasons[2] is None
    assert fakes.record("one")["result"] is None
    assert not (fakes.run.folder / "two.png").exists()
    assert "1 of 3 experiments" in fakes.page()


def test_what_is_measured_may_have_changed(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.run.go()
    monkeypatch.setattr(records.storage, "tool", lambda: "another")
    fakes.run.go()
    assert fakes.counts() == [2, 2, 2]
    monkeypatch.setattr(everything.simulated, "measurement", lambda: b"other code")
    fakes.run.go()
    assert fakes.counts() == [3, 3, 3]


class Page(HTMLParser):
    """What a page refers to, and its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.targets += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "style")]


def test_the_page_needs_nothing_else_and_escapes_everything(fakes: Fakes) -> None:
    fakes.run.go()
    text = fakes.page()
    page = Page()
    page.feed(text)
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert "link" not in page.tags
    assert all(target.startswith(("#", "data:image/png;base64,")) for target in page.targets)
    assert sum(target.startswith("data:") for target in page.targets) == 3
    assert not re.search(r"url\(|@import|https?://", text)
    assert "&lt;script&gt;" in text
    assert "A &lt;title&gt; &amp; more" in text
    assert "4 more rows" in text
    for said in ("no SGX and no Optane", "simulated TEE", "emulated", "CPU", "Kernel", "prefers-color-scheme: dark"):
        assert said in text


def test_a_busy_machine_is_told(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(everything, "busy_cores", lambda: 1.5)
    fakes.run.go()
    assert "Other programs kept 1.5 of" in fakes.page()


def test_what_keeps_a_core_busy_is_seen() -> None:
    program = "print(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-S", "-c", program], stdout=subprocess.PIPE) as busy:
        assert busy.stdout
        busy.stdout.readline()
        try:
            assert machine.busy_cores() > 0.5
        finally:
            busy.kill()


def test_peers_go_to_figure_6(fakes: Fakes) -> None:
    peer = Peer.parse("another='a b' c")
    assert Peer.parse(str(peer)) == peer
    found = replace(fakes.run, peers=[peer], load=registry.load)._experiment("fig6")
    assert found.peers == (peer,)  # type: ignore[attr-defined]


def test_what_is_missing_of_the_list_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"no plinius\.bench\.no_such"):
        registry.load("no_such")

    def missing(_: str) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(registry, "import_module", missing)
    with pytest.raises(ConfigError, match="fig7 needs the package torch"):
        registry.load("fig7")


def test_the_command_ends_in_order_when_it_is_told_to_stop(
    inside: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was started is ended by the ways out of `with`: SIGTERM takes them too."""
    monkeypatch.setattr(signal, "signal", lambda number, handler: handlers.update({number: handler}))
    monkeypatch.setattr(Run, "go", lambda *_: [])
    handlers: dict[int, Any] = {}
    assert inside("bench", "all", "--output", str(tmp_path / "report"), "--only", "tcb").code == 0
    with pytest.raises(SystemExit) as ended:
        handlers[signal.SIGTERM](signal.SIGTERM, None)
    assert ended.value.code == 128 + signal.SIGTERM


def test_the_command_refuses_before_it_measures(inside: Command, tmp_path: Path) -> None:
    for arguments, said in (
        (["--only", "fig7,fig99"], "--only fig99: there is no such experiment"),
        (["--data", str(tmp_path / "missing")], "there is no such folder"),
        (["--peer", "nothing"], "say NAME=COMMAND"),
    ):
        ran = inside("bench", "all", "--output", str(tmp_path / "report"), *arguments)
        assert ran.code == 3
        assert said in ran.err
    assert not list(tmp_path.glob("report/*"))
