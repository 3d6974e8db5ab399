"""The plot of figure 7 in the report: seconds, time per byte, and Table I as bars; save on the left, restore right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plinius.bench.fig7 import Found
from plinius.bench.mirror import RESTORE, SAVE
from plinius.bench.private_memory import FILE, OURS


def plot(found: Found, path: Path) -> None:
    """Draws the figure."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(10, 10), layout="constrained")
    grid = figure.subplots(3, 2)
    for column, what in enumerate((SAVE, RESTORE)):
        _draw_seconds(grid[0][column], found, what)
        _draw_per_byte(grid[1][column], found, what)
        _draw_shares(grid[2][column], found, what)
        grid[0][column].set_title(what, fontsize="medium")
    figure.savefig(path, dpi=150)


def _draw_seconds(axes: Any, found: Found, what: str) -> None:
    ours, files = found.ours(what), found.files()
    axes.plot([one.size_mb for one in ours], [one.seconds for one in ours], marker="o", label=f"{OURS}, PM")
    seconds = [one.save_s if what == SAVE else one.restore_s for one in files]
    axes.plot([one.size_mb for one in files], seconds, marker="s", linestyle="--", label=f"{FILE}, disk")
    axes.set_yscale("log")
    axes.set_ylabel("seconds")
    _finish(axes, [one.size_mb for one in ours])


def _draw_per_byte(axes: Any, found: Found, what: str) -> None:
    ours = found.ours(what)
    sizes = [one.size_mb for one in ours]
    axes.plot(sizes, [one.seconds / one.state_bytes * 1e9 for one in ours], marker="o", label="measured")
    axes.set_ylabel("ns a byte")
    axes.set_ylim(bottom=0)
    _finish(axes, sizes)


def _draw_shares(axes: Any, found: Found, what: str) -> None:
    crypto = "encrypt" if what == SAVE else "decrypt"
    moved = "write" if what == SAVE else "read"
    sizes = [one.size_mb for one in found.ours(what)]
    for number, system in enumerate((OURS, FILE)):
        shares = [100 * one.crypto for one in found.shares if (one.system, one.what) == (system, what)]
        places = [place + 0.4 * number for place in range(len(sizes))]
        axes.bar(places, shares, 0.36, color=f"C{number}", label=f"{system}: {crypto}")
        rest = [100 - share for share in shares]
        axes.bar(places, rest, 0.36, bottom=shares, color=f"C{number}", alpha=0.35, label=f"{system}: {moved}")
    axes.set_xticks([place + 0.2 for place in range(len(sizes))], [f"{size:g}" for size in sizes])
    axes.set_xlabel("model, MB")
    axes.set_ylabel("percent")
    axes.set_ylim(0, 135)
    axes.set_yticks(range(0, 101, 25))
    axes.legend(fontsize="x-small", ncols=2, loc="upper center")


def _finish(axes: Any, sizes_mb: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(sizes_mb, [f"{size:g}" for size in sizes_mb], fontsize="small")
    axes.set_xticks([], minor=True)
    axes.set_xlabel("model, MB")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize="small")
