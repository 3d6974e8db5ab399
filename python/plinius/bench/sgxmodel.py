"""What SGX would add to our save and restore: `plinius.bench.sgx` is the model, here is what it starts from."""

from __future__ import annotations

import os
import statistics
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from plinius.bench import paper, private_memory
from plinius.bench.calls import Calls, count_calls
from plinius.bench.clock import timed
from plinius.bench.experiment import Experiment, Plan, Result, Row
from plinius.bench.folders import new_folder
from plinius.bench.sgx import Machine, clock_hz
from plinius.bench.tables import cpu
from plinius.bench.tensors import bytes_of, change, transformer
from plinius.bench.words import rounded
from plinius.mirror import Mirror, RollbackWarning
from plinius.pool import Pool
from plinius.seal import Key

_MEGABYTE: Final = 10**6
_MS: Final = 1e3
_US: Final = 1e6
_GIGAHERTZ: Final = 10**9
_WARM_UP: Final = 3
_WHAT: Final = ("save", "restore")


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        sizes_mb: Of the model.
        rounds: How often each is saved and restored.
    """

    sizes_mb: tuple[float, ...]
    rounds: int


@dataclass(frozen=True)
class SgxModel:
    """Measured saves and restores, and what the model adds to them."""

    quick: Size = Size((10, 60, 90, 100, 300), 4)
    full: Size = Size((10, 20, 40, 60, 80, 90, 100, 150, 300, 600, 1000), 9)
    name: str = "sgxmodel"
    title: str = "A model, not measured: what SGX's transitions and page swaps would add to a save and a restore"

    def measure(self, plan: Plan) -> Result:
        """Measures what the model starts from, and models.

        Raises:
            PliniusError: The folder cannot be used, or this CPU does not say its clock rate.
        """
        size = self.quick if plan.quick else self.full
        machine = Machine.of(clock_hz())
        with new_folder(str(plan.memory)) as place:
            calls = count_calls(place)
            plan.tell("sgxmodel: private memory beyond the model")
            beyond_bytes = private_memory.beyond_model_bytes(private_memory.OURS, max(size.sizes_mb), place)
        points = []
        for size_mb in size.sizes_mb:
            plan.tell(f"sgxmodel: saving and restoring {size_mb:g} MB")
            with new_folder(str(plan.memory)) as place, Pool(place / "pool") as pool:
                points.append(_point(pool, size_mb, size.rounds, (calls, beyond_bytes), machine))
                medium = pool.medium
        return {
            "cpu": cpu(),
            "cores": len(os.sched_getaffinity(0)),
            "load": os.getloadavg()[0],
            "medium": medium,
            "assumed": machine._asdict(),
            "calls": asdict(calls),
            "beyond_bytes": beyond_bytes,
            "points": points,
        }

    def draw(self, result: Result, path: Path) -> None:
        """Draws what was measured as a line, and what the model adds as a band above it."""
        from matplotlib.figure import Figure  # noqa: PLC0415

        figure = Figure(figsize=(11, 5), layout="constrained")
        largest = paper.number("fig7.largest_model_in_epc")
        for axes, what in zip(figure.subplots(1, 2, sharey=True), _WHAT, strict=True):
            points = [point[what] for point in result["points"]]
            sizes = [point["state_bytes"] / _MEGABYTE for point in result["points"]]
            with_least, with_most = ([_total_s(one, bound) * _MS for one in points] for bound in ("least", "most"))
            axes.plot(sizes, [one["measured_s"] * _MS for one in points], marker="o", label="measured, without SGX")
            axes.fill_between(sizes, with_least, with_most, color="C3", alpha=0.25, label="MODEL: with SGX")
            axes.plot(sizes, with_least, color="C3", linestyle="--", linewidth=1)
            axes.plot(sizes, with_most, color="C3", linestyle="--", linewidth=1)
            epc_mb = result["assumed"]["epc_bytes"] / _MEGABYTE
            axes.axvline(epc_mb, color="grey", linestyle=":", label=f"usable EPC, {epc_mb:g} MB")
            axes.axvline(largest.value, color="grey", linestyle="-.", label=f"the paper slows down, {largest.said}")
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlabel("state, MB")
            axes.set_ylabel("ms")
            axes.set_title(what, fontsize="medium")
            axes.grid(which="both", alpha=0.3)
            axes.legend(fontsize="small")
        figure.suptitle(f"A model, not measured with SGX; {result['medium']}", fontsize="medium")
        figure.savefig(path, dpi=150)

    def rows(self, result: Result) -> list[Row]:
        """What the model counts, and what it adds to each size."""
        calls, assumed = result["calls"], result["assumed"]
        largest_mb = result["points"][-1]["state_bytes"] / _MEGABYTE
        slows = f"slows down beyond {paper.number('fig7.largest_model_in_epc')}"
        transition, epc = paper.number("fig7.transition"), paper.number("fig7.usable_epc")
        return [
            Row(
                "calls out of the enclave, counted: a step with a save; a start with a restore",
                f"{calls['save']}; {calls['restore']}",
            ),
            Row(
                f"private memory beyond a model of {largest_mb:.0f} MB, measured",
                f"{result['beyond_bytes'] / _MEGABYTE:.2f} MB",
            ),
            Row(
                "model: added by the transitions of a save, at any size",
                f"at most {rounded(result['points'][0]['save']['transitions_s'] * _US)} us",
                f"a transition costs up to {transition}",
            ),
            *(
                Row(
                    f"model: {what} of {point['state_bytes'] / _MEGABYTE:.0f} MB",
                    f"measured {rounded(point[what]['measured_s'] * _MS)} ms, {_added(point[what])}",
                    f"{slows}; usable: {epc}" if point["save"]["most_s"] else "",
                )
                for what in _WHAT
                for point in result["points"]
            ),
            Row(
                "model: assumed for a page swap",
                f"{assumed['swap_cycles']:,.0f} cycles at {assumed['hz'] / _GIGAHERTZ:.2f} GHz",
                str(paper.number("sgxmodel.page_swap")),
            ),
        ]

    def meaning(self, result: Result) -> str:
        """Where swaps begin, and what they would do."""
        fitting = [point for point in result["points"] if not point["save"]["most_s"]]
        swapping = [point for point in result["points"] if point["save"]["most_s"]]
        epc_mb = result["assumed"]["epc_bytes"] / _MEGABYTE
        begins = (
            f"A model and no measurement: with SGX our saves would begin to swap where the state fills {epc_mb:g} MB"
        )
        within = ""
        if fitting:
            share = max(point["save"]["transitions_s"] / point["save"]["measured_s"] for point in fitting)
            least = min(point["state_bytes"] for point in fitting) / _MEGABYTE
            within = f", from {least:.0f} MB until there its transitions would add at most {share:.2%}"
        if not swapping:
            return f"{begins}{within}, which none of the sizes that were measured does."
        largest = swapping[-1]
        low, high = (_total_s(largest["save"], bound) / largest["save"]["measured_s"] for bound in ("least", "most"))
        return (
            f"{begins}{within}, and page swaps would make a save of {largest['state_bytes'] / _MEGABYTE:.0f} MB "
            f"{rounded(low)} to {rounded(high)} times as long; what else the enclave holds in the EPC is not counted."
        )


EXPERIMENT: Final[Experiment] = SgxModel()


def _point(pool: Pool, size_mb: float, rounds: int, counted: tuple[Calls, int], machine: Machine) -> dict[str, Any]:
    tensors = transformer(round(size_mb * _MEGABYTE))
    mirror = Mirror(pool, Key.generate(), name="bench", tensors=tensors)
    steps = iter(range(1, _WARM_UP + rounds + 1))

    def save() -> None:
        mirror.save(next(steps))

    def restore() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RollbackWarning)
            mirror.restore()

    for _ in range(_WARM_UP):  # they take memory, and space for two generations
        change(tensors)
        save()
    restore()
    seconds: dict[str, list[float]] = {what: [] for what in _WHAT}
    for _ in range(rounds):
        change(tensors)  # as an optimizer does; what did not change is not saved again
        seconds["save"].append(timed(save))
        seconds["restore"].append(timed(restore))
    calls, beyond_bytes = counted
    state_bytes = sum(bytes_of(tensors))
    modelled = {
        what: _modelled(statistics.median(seconds[what]), state_bytes + beyond_bytes, number, machine)
        for what, number in (("save", calls.save), ("restore", calls.restore))
    }
    return {"state_bytes": state_bytes, "rounds": rounds, **modelled}


def _modelled(measured_s: float, working_set_bytes: int, calls: int, machine: Machine) -> dict[str, Any]:
    least_s, most_s = machine.swaps_s(working_set_bytes)
    return {
        "measured_s": measured_s,
        "transitions_s": machine.transitions_s(calls),
        "swaps": machine.swaps(working_set_bytes),
        "least_s": least_s,
        "most_s": most_s,
    }


def _total_s(one: Result, bound: str) -> float:
    return float(one["measured_s"] + one["transitions_s"] + one[f"{bound}_s"])


def _added(one: Result) -> str:
    if not one["most_s"]:
        return "no page swaps"
    least, most = one["swaps"]
    added = f"plus {rounded(one['least_s'] * _MS)} to {rounded(one['most_s'] * _MS)} ms"
    return f"{added} for {least:,} to {most:,} page swaps"
