"""What all reports are printed with."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

_WIDTH = 120


@dataclass(frozen=True)
class Page:
    """Lines and tables that become one text."""

    console: Console

    @classmethod
    def empty(cls) -> Page:
        """A page on which nothing is written."""
        return cls(Console(file=io.StringIO(), width=_WIDTH))

    def text(self) -> str:
        """All of it."""
        assert isinstance(self.console.file, io.StringIO)  # noqa: S101 (for mypy)
        return "\n".join(line.rstrip() for line in self.console.file.getvalue().splitlines())


def table(first: str, *columns: str) -> Table:
    """A table whose first column is text, and whose others are numbers."""
    made = Table(box=box.SIMPLE_HEAD)
    made.add_column(first)
    for name in columns:
        made.add_column(name, justify="right", no_wrap="(" in name)
    return made


def busy(load: float, cores: int) -> str | None:
    """What a reader has to know of other work on the machine."""
    if load <= cores:
        return None
    return f"the machine is busy with other work (load {load:.1f} on {cores} cores): expect noise"


def cpu() -> str:
    """The name of this CPU."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown CPU"
