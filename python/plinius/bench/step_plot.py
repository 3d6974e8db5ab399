"""The plot of `plinius bench step`."""

from __future__ import annotations

from plinius.bench.step_report import Report


def plot(report: Report, path: str) -> None:
    """Draws for each network how much longer a step takes, by way to save and by how often."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(7 * len(report.nets), 5), layout="constrained")
    for axes, net in zip(figure.subplots(1, len(report.nets), squeeze=False)[0], report.nets, strict=True):
        ways = list(dict.fromkeys(one.way for one in net.savings))
        everies = sorted({one.every for one in net.savings})
        width = 0.8 / len(everies)
        for number, every in enumerate(everies):
            rows = [one for one in net.savings if one.every == every]
            places = [ways.index(one.way) + number * width for one in rows]
            middles = [one.ratio.median for one in rows]
            low = [one.ratio.median - one.ratio.low for one in rows]
            high = [one.ratio.high - one.ratio.median for one in rows]
            axes.errorbar(places, middles, yerr=[low, high], fmt="o", capsize=3, label=f"every {every}")
        axes.axhline(1, color="grey", linestyle="--", linewidth=1)
        axes.set_yscale("log")
        axes.set_xticks([place + 0.4 - width / 2 for place in range(len(ways))], ways, rotation=30, ha="right")
        axes.set_ylabel("step with saves / step without")
        axes.set_title(f"{net.name}\nbatch {net.batch}, plain step {net.plain_step_s * 1e3:.0f} ms", fontsize="small")
        axes.grid(axis="y", which="both", alpha=0.3)
        axes.legend(fontsize="small", title="save")
    figure.savefig(path, dpi=150)
