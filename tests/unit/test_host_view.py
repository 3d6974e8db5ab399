"""What a terminal shows of a running enclave, however narrow it is."""

from __future__ import annotations

import io
from typing import Any

import pytest
from plinius.host import view
from plinius.wire import Progress, Started
from rich.console import Console


@pytest.fixture(params=[20, 30, 80, 100])
def terminal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a terminal of some width gets."""
    written = io.StringIO()

    def screen(**options: Any) -> Console:
        return Console(width=request.param, file=written, force_terminal=True, color_system=None, **options)

    monkeypatch.setattr(view, "Screen", screen)
    return written


def test_the_count_of_steps_stays_whole(terminal: io.StringIO) -> None:
    with view.TerminalView("p") as shown:
        shown(Started(9000, 100_000, 1, True, 60_000))
        shown(Progress(12_345, 12_345, 0.012, 0.001, 0.1234))
    assert "12345/100000" in terminal.getvalue()


def test_what_takes_seconds_is_said_and_does_not_stay(terminal: io.StringIO) -> None:
    with view.TerminalView("p") as shown:
        assert "starting the e" in terminal.getvalue()
        shown(Started(0, 10, 1, False, 100))
        terminal.truncate(0)
        shown(Progress(1, 1, 0.012, 0.001, None))
    assert "starting" not in terminal.getvalue()


def test_a_start_that_fails_leaves_no_line(terminal: io.StringIO) -> None:
    with view.TerminalView("p"):
        terminal.truncate(0)
    assert "starting" not in terminal.getvalue()
