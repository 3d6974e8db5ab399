"""The plots of `plinius bench mirror`, in the form of the paper's figure 7."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plinius.bench import mirror
from plinius.bench.mirror import OURS, PM
from plinius.bench.mirror_report import Bounded, Report


def plot_bounds(report: Report, path: str) -> None:
    """Draws our save and restore and their bounds: above the seconds, below the ratio with its interval."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(9, 7), layout="constrained")
    grid = figure.subplots(2, 2, sharex=True)
    for column, what in enumerate((mirror.SAVE, mirror.RESTORE)):
        rows = [row for row in report.bounded if row.what == what]
        _draw_seconds(grid[0][column], rows)
        _draw_ratio(grid[1][column], rows)
        grid[0][column].set_title(what, fontsize="medium")
    figure.suptitle(f"{report.pm}; {report.threads} threads", fontsize="medium")
    figure.savefig(path, dpi=150)


def plot_methods(report: Report, path: str) -> None:
    """Draws the seconds of all ways to save and restore, a line for each system (colour) and place (style)."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(12, 6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    systems = [OURS, *dict.fromkeys(row.system for row in report.compared if row.system != OURS)]
    for column, what in enumerate((mirror.SAVE, mirror.RESTORE)):
        ours = [(row.size_mb, row.seconds) for row in report.bounded if row.what == what]
        axes[column].plot(*zip(*ours, strict=True), label=f"{OURS}, {PM}", color="C0", marker="o", linewidth=2.5)
        for system, place in dict.fromkeys((row.system, row.place) for row in report.compared):
            rows = [row for row in report.compared if (row.system, row.place) == (system, place)]
            seconds = [row.save_s if what == mirror.SAVE else row.restore_s for row in rows]
            style = "--" if place == mirror.DISK else "-"
            look: dict[str, Any] = {
                "color": f"C{systems.index(system)}",
                "linestyle": style,
                "marker": ".",
                "alpha": 0.8,
            }
            axes[column].plot([row.size_mb for row in rows], seconds, label=f"{system}, {place}", **look)
        _scale(axes[column], f"seconds to {what}")
    axes[0].legend(fontsize="x-small", ncols=2, handlelength=4)
    figure.savefig(path, dpi=150)


def _draw_seconds(axes: Any, rows: Sequence[Bounded]) -> None:
    sizes = [row.size_mb for row in rows]
    axes.plot(sizes, [row.seconds for row in rows], label=OURS, marker="o")
    axes.plot(sizes, [row.crypto_s + row.copy_s for row in rows], label="bound", marker="x", linestyle="--")
    axes.plot(sizes, [row.crypto_s for row in rows], label="in cache", linestyle=":")
    axes.plot(sizes, [row.copy_s for row in rows], label="copied", linestyle="-.")
    axes.legend(fontsize="small")
    _scale(axes, "seconds")


def _draw_ratio(axes: Any, rows: Sequence[Bounded]) -> None:
    sizes = [row.size_mb for row in rows]
    errors = [
        [row.ratio.median - row.ratio.low for row in rows],
        [row.ratio.high - row.ratio.median for row in rows],
    ]
    axes.errorbar(sizes, [row.ratio.median for row in rows], yerr=errors, marker="o", capsize=3)
    axes.axhline(1, color="grey", linestyle="--", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("state, MB")
    axes.set_ylabel("ratio to the bound")
    axes.grid(visible=True, which="both", alpha=0.3)


def _scale(axes: Any, label: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("state, MB")
    axes.set_ylabel(label)
    axes.grid(visible=True, which="both", alpha=0.3)
