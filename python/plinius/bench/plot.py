"""The plot of `plinius bench sps`, in the form of the paper's figure 6."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plinius.errors import ConfigError

if TYPE_CHECKING:
    from plinius.bench.report import Report

_MARKERS: Final = {"clwb": ("o", "-"), "clflushopt": ("s", "--"), "clflush": ("^", "-."), "none": ("x", ":")}


def check_can_plot() -> None:
    """Says so before anything is measured, if there is nothing to plot with.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401, PLC0415
    except ImportError:
        raise ConfigError("the plot needs matplotlib: pip install 'plinius[bench]', or leave --output out") from None


def plot(report: Report, path: str) -> None:
    """Draws swaps per second against swaps in a transaction, a line for each system (colour) and pwb (style)."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    systems = list(dict.fromkeys(rate.system for rate in report.rates))
    for number, system in enumerate(systems):
        for pwb in dict.fromkeys(rate.pwb for rate in report.rates):
            line = [rate for rate in report.rates if (rate.system, rate.pwb) == (system, pwb)]
            sizes = [rate.swaps_per_transaction for rate in line]
            marker, style = _MARKERS[pwb]
            rates = [rate.swaps_per_s for rate in line]
            name = f"{system}, {pwb}"
            axes.plot(sizes, rates, label=name, color=f"C{number}", marker=marker, linestyle=style, markersize=4)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xlabel("swaps in a transaction")
    axes.set_ylabel("swaps per second")
    axes.set_title(f"{report.array_bytes >> 20} MiB array, one thread, {report.medium}", fontsize="medium")
    axes.grid(which="both", alpha=0.3)
    figure.legend(fontsize="small", ncols=2 * len(systems), loc="outside lower center")
    figure.savefig(path, dpi=150)
