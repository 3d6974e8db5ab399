"""The plot of a spot trace, in the form of the paper's figure 10: loss curve, and below it the state curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from plinius.bench.experiment import Result

_HOUR_S: Final = 3600


def draw(result: Result, path: Path) -> None:
    """Draws loss, step of the model, and whether the instance ran, over the hours of the trace."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(9, 7), layout="constrained")
    priced = any(span[3] is not None for span in result["state"])
    loss, step, state = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": (3, 3, 1.2)})
    for number, way in enumerate(result["ways"].values()):
        curve = way["curve"]
        hours = [at_s * result["factor"] / _HOUR_S for at_s in curve["at_s"]]
        # Dots, not lines: nothing is known of a loss while nothing runs.
        loss.plot(hours, curve["loss"], ".", markersize=3, color=f"C{number}", label=way["name"])
        step.plot(hours, curve["step"], ".", markersize=3, color=f"C{number}", label=way["name"])
    loss.set_ylabel("loss")
    loss.set_ylim(bottom=0)
    step.set_ylabel("step of the model")
    for axes in (loss, step):
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", markerscale=3)
    _draw_state(state, result, priced=priced)
    words = (
        f"{result['trace_s'] / _HOUR_S:.1f} hours of {Path(result['trace']).name}, {result['factor']:.0f} times as fast"
    )
    figure.suptitle(f"{words}; {result['pictures']}", fontsize="medium")
    figure.savefig(path, dpi=150)


def _draw_state(axes: Any, result: Result, *, priced: bool) -> None:
    edges = [result["state"][0][0], *(span[1] for span in result["state"])]
    hours = [edge / _HOUR_S for edge in edges]
    axes.stairs([int(span[2]) for span in result["state"]], hours, fill=True, color="0.8", label="running")
    axes.set_yticks([0, 1], ["stopped", "running"])
    axes.set_xlabel("hours of the trace")
    if priced:
        other = axes.twinx()
        other.stairs([span[3] or 0 for span in result["state"]], hours, baseline=None, color="C3")
        other.set_ylabel("$ an hour", color="C3")
