"""The plot of the trusted computing base: a bar for each side, made of its parts."""

from __future__ import annotations

from pathlib import Path

from plinius.bench.tcb import Found, Side


def plot(found: Found, path: Path) -> None:
    """Draws the figure."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.subplots()
    sides = [Side.TOOL, Side.OWNER, Side.USER, Side.UNTRUSTED, Side.TRUSTED]
    for row, side in enumerate(sides):
        left = 0
        parts = sorted((part for part in found.parts if part.side == side), key=lambda part: -part.lines)
        for number, part in enumerate(parts):
            axes.barh(row, part.lines, left=left, color=f"C{sides.index(side)}", alpha=0.9 - 0.35 * (number % 2))
            if part.lines > found.lines(Side.TRUSTED) / 25:
                axes.text(left + part.lines / 2, row, part.name, ha="center", va="center", rotation=90, fontsize=7)
            left += part.lines
        axes.text(left, row, f" {left:,}", va="center", fontsize="small")
    axes.set_yticks(range(len(sides)), [side.value for side in sides])
    axes.set_xlabel("our own lines of code, without blanks and comments")
    axes.margins(x=0.08)
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=150)
