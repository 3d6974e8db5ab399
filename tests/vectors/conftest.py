"""How many published vectors were tried is said at the end of the run."""

from __future__ import annotations

import pytest

_COUNTS = pytest.StashKey[list[str]]()


@pytest.fixture
def counted(request: pytest.FixtureRequest) -> list[str]:
    """Lines for the summary."""
    return request.config.stash.setdefault(_COUNTS, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in terminalreporter.config.stash.get(_COUNTS, []):
        terminalreporter.write_line(f"vectors: {line}")
