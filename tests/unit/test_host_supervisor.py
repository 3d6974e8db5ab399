"""A clean stop that is asked for at an awkward moment."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from plinius.host.files import Files
from plinius.host.supervisor import Supervisor


def test_a_stop_may_come_before_all_handlers_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    before, set_handler = signal.getsignal(signal.SIGINT), signal.signal

    def interrupted(number: signal.Signals, handler: Any) -> object:
        replaced = set_handler(number, handler)
        if handler is not before and number == signal.SIGINT:
            signal.raise_signal(number)
        return replaced

    supervisor = Supervisor(Files(-1, -1), lambda: pytest.fail("nobody is started"), lambda _: None, restarts=0)
    with supervisor._wake_pipe(), monkeypatch.context() as patched:
        patched.setattr(signal, "signal", interrupted)
        with supervisor._clean_stop():
            assert supervisor.stopped_by == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is before
