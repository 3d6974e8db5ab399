"""Figure 10: training on spot instances, as a real trace says when one ran."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np

from plinius.bench import spot, spot_plot
from plinius.bench.experiment import Plan, Result, Row
from plinius.bench.trace import Span, Trace, made, read

_HOUR_S: Final = 3600


PREEMPTIONS: Final = 5
QUICK_PREEMPTIONS: Final = 1


@dataclass(frozen=True)
class SpotInstances:
    """The experiment."""

    name: str = "fig10"
    title: str = "Fig. 10: training on a spot instance that is taken away and given back as a real trace says"

    def measure(self, plan: Plan) -> Result:
        """Plays a part of the first trace that is there."""
        part = _trace(plan.data).part(QUICK_PREEMPTIONS if plan.quick else PREEMPTIONS)
        places = spot.Places(plan.memory, plan.disk, plan.data)
        return spot.measure(part, None, places, lambda text: plan.tell(f"{self.name}: {text}"))

    def draw(self, result: Result, path: Path) -> None:
        """Draws loss curves and state curve."""
        spot_plot.draw(result, path)

    def rows(self, result: Result) -> list[Row]:
        """Goodput of each way."""
        return spot.rows(result)

    def meaning(self, result: Result) -> str:
        """What it means."""
        return spot.meaning(result)


def _trace(data: Path | None) -> Trace:
    """The first trace of the data; where there is none, one that is made."""
    found = sorted((data / "spot").glob("*.json")) if data is not None else []
    if found:
        trace = read(str(found[0]))
        return Trace(found[0].name, trace.spans)
    generator = np.random.default_rng(1)
    edges = np.cumsum([0, *generator.uniform(1, 6, 20)]) * _HOUR_S
    spans = [Span(float(a), float(b), n % 2 == 0, None) for n, (a, b) in enumerate(pairwise(edges))]
    return made("a trace made by the experiment (spot/ is not here)", spans)


EXPERIMENT = SpotInstances()
