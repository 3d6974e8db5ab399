"""What each figure and table of the paper is here: something that measures, draws, and says what came out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

Result: TypeAlias = dict[str, Any]
"""What was measured, as it is written to JSON."""


@dataclass(frozen=True)
class Plan:
    """How an experiment is to run.

    Attributes:
        quick: All experiments together take about 3 minutes, not 30: fewer points and rounds, the same shape.
        memory: A folder on emulated PM (or on PM).
        disk: A folder on a disk.
        data: A folder with mnist/ and spot/ (real data); None: what needs it says so, or makes pictures of its own.
        tell: Shows a line to the user.
    """

    quick: bool
    memory: Path
    disk: Path
    data: Path | None
    tell: Callable[[str], None]


class Row(NamedTuple):
    """One line of a result beside the paper's.

    Attributes:
        what: What is compared.
        ours: Measured here, with its unit.
        paper: The paper's, with its unit and place; empty where the paper has none.
    """

    what: str
    ours: str
    paper: str = ""


class Experiment(Protocol):
    """One figure or table."""

    @property
    def name(self) -> str:
        """Such as ``fig7``: names its files."""

    @property
    def title(self) -> str:
        """A line for people."""

    def measure(self, plan: Plan) -> Result:
        """Measures.

        Raises:
            PliniusError: This machine lacks something; the message says what.
        """

    def draw(self, result: Result, path: Path) -> None:
        """Draws the figure in the paper's form, as PNG."""

    def rows(self, result: Result) -> list[Row]:
        """The result in numbers, beside the paper's."""

    def meaning(self, result: Result) -> str:
        """What it means, in one sentence."""
