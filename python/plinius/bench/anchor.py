"""What a freshness anchor costs a save: none, and a broker on loopback that is told of every save or of every tenth.

The broker has TLS, and its database on the disk. The mirrors take turns, and each of them is the first as often. What
an anchor adds is compared over ten saves at a time, of which the broker is told of one at least.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from plinius.attest.simulated import SimulatedAttester
from plinius.bench.clock import timed
from plinius.bench.desk import Desk, patience
from plinius.bench.experiment import Experiment, Plan, Result, Row
from plinius.bench.folders import new_folder
from plinius.bench.intervals import Interval, median
from plinius.bench.words import rounded
from plinius.bench.workload import FASHION_CFG
from plinius.enclave.anchoring import BrokerAnchor
from plinius.enclave.provisioning import Ordered, request_ordered_key
from plinius.endpoint import Endpoint
from plinius.errors import PliniusError
from plinius.host.broker_link import BrokerLink
from plinius.mirror import Mirror
from plinius.pool import Pool

_MS: Final = 1e3
_ITEM_BYTES: Final = 4
_GROUP: Final = 10
PLAIN: Final = "no anchor"
# How often the broker is told; 0: there is none.
_EVERY: Final[Mapping[str, int]] = {PLAIN: 0, "broker, every save": 1, f"broker, every {_GROUP} saves": _GROUP}


@dataclass(frozen=True)
class Anchor:
    """Saves of one state with different anchors.

    Attributes:
        state_bytes: Of the state: by default as much as the paper's network for MNIST has.
        quick: How many times ten saves.
        full: The same.
    """

    state_bytes: int = 3_100_000
    quick: int = 6
    full: int = 50
    name: str = "anchor"
    title: str = "Beyond the paper: what a freshness anchor adds to a save"

    def measure(self, plan: Plan) -> Result:
        """Measures.

        Raises:
            PliniusError: A folder cannot be used, or the broker did not start.
        """
        saves = _GROUP * (self.quick if plan.quick else self.full)
        plan.tell(f"{self.name}: {saves} saves of each kind")
        with new_folder(str(plan.memory)) as memory, new_folder(str(plan.disk)) as disk:
            desk = Desk(disk, records=1)  # a manifest names a data set
            for every in filter(None, _EVERY.values()):
                desk.add(str(every), FASHION_CFG, anchor_every=every)
            with desk.broker() as address, Pool(memory / "pool") as pool, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # one of them has no anchor
                spent = self._spent(desk, address, pool, saves)
        return {
            "state_bytes": self.state_bytes,
            "saves": saves,
            "ways": {
                name: {
                    "ms": asdict(median([seconds * _MS for seconds in each])),
                    "mean_ms": statistics.fmean(each) * _MS,
                    "added_ms": asdict(_added(each, spent[PLAIN]).scaled(_MS)),
                }
                for name, each in spent.items()
            },
        }

    def draw(self, result: Result, path: Path) -> None:
        """Draws a bar for each kind: median and mean."""
        from matplotlib.figure import Figure  # noqa: PLC0415

        figure = Figure(figsize=(7.5, 3), layout="constrained")
        axes = figure.subplots()
        ways = result["ways"]
        for offset, name, value in (
            (-0.2, "median", [way["ms"]["median"] for way in ways.values()]),
            (0.2, "mean", [way["mean_ms"] for way in ways.values()]),
        ):
            axes.barh([place + offset for place in range(len(ways))], value, height=0.4, label=name)
        axes.set_yticks(range(len(ways)), ways)
        axes.invert_yaxis()
        axes.set_xlabel(f"a save of {result['state_bytes'] / 1e6:.1f} MB, ms")
        axes.grid(axis="x", alpha=0.3)
        axes.legend(fontsize="small")
        figure.savefig(path, dpi=150)

    def rows(self, result: Result) -> list[Row]:
        """Each kind, and what the anchors add."""
        size = f"{result['state_bytes'] / 1e6:.1f} MB"
        ways = result["ways"]
        rows = [
            Row(
                f"a save of {size}, {name}",
                f"{Interval(**way['ms']).text(2)} ms (median), {rounded(way['mean_ms'])} ms in the mean",
            )
            for name, way in ways.items()
        ]
        return rows + [
            Row(f"what that adds to a save in the mean of ten, {name}", f"{Interval(**way['added_ms']).text(2)} ms")
            for name, way in ways.items()
            if name != PLAIN
        ]

    def meaning(self, result: Result) -> str:
        """What each kind adds."""
        _, every, seldom = (Interval(**way["added_ms"]) for way in result["ways"].values())
        return (
            f"To be told of every save, and so to see every rollback, a broker on loopback costs {every.text(2)} ms a "
            f"save; to be told of every tenth {seldom.text(2)} ms, and a rollback by fewer than ten saves is not seen; "
            "a broker elsewhere adds the round trip of its network."
        )

    def _spent(self, desk: Desk, address: str, pool: Pool, saves: int) -> dict[str, list[float]]:
        """Seconds of each save."""
        weights = np.zeros(self.state_bytes // _ITEM_BYTES, np.float32)
        links: list[BrokerLink] = []
        mirrors = {name: _mirror(name, every, desk, address, pool, weights, links) for name, every in _EVERY.items()}
        spent: dict[str, list[float]] = {name: [] for name in mirrors}

        def give_up() -> None:
            for link in links:
                link.close()

        with patience(give_up):
            for step in range(1, _GROUP + saves + 1):
                weights += 1
                names = [*mirrors, *mirrors][step % len(mirrors) :][: len(mirrors)]
                for name in names:
                    spent[name].append(timed(lambda mirror=mirrors[name], step=step: mirror.save(step)))  # type: ignore[misc]
        # The first ones take memory, space and a connection.
        return {name: each[_GROUP:] for name, each in spent.items()}


EXPERIMENT: Final[Experiment] = Anchor()


def _added(each: list[float], plain: list[float]) -> Interval:
    """What one adds to the other, in the mean of a group."""
    added = [one - other for one, other in zip(each, plain, strict=True)]
    return median([statistics.fmean(added[first : first + _GROUP]) for first in range(0, len(added), _GROUP)])


def _mirror(
    name: str, every: int, desk: Desk, address: str, pool: Pool, weights: object, links: list[BrokerLink]
) -> Mirror:
    """A mirror with its anchor, over a line of its own."""
    if not every:
        return Mirror(pool, desk.key, name=name, weights=weights)
    link = BrokerLink(Endpoint.parse(address), str(desk.certificate), lambda _: None)
    links.append(link)
    ordered = Ordered.read(link.manifest(str(every)))
    grant, anchor = request_ordered_key(link.relay(), SimulatedAttester(), ordered)
    if not isinstance(anchor, BrokerAnchor) or anchor.every != every:
        raise PliniusError(f"the broker's policy makes no anchor that is told of every {every} saves")
    return Mirror(pool, grant.key, name=name, anchor=anchor, weights=weights)
