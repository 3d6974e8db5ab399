"""Figure 9: crash and resume. Loss curves of a 5-layer network, killed at random moments, with mirroring and without.

Three trainings run at once: one that is left alone, one that is mirrored after each step and killed, and one that is
killed after as many steps and has no mirror: each kill begins anew. They are the command `plinius train` as a user
gives it, and the kills are SIGKILL, of the enclave, of the host, or of both.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from plinius.bench import paper
from plinius.bench.experiment import Plan, Result, Row
from plinius.bench.folders import new_folder
from plinius.bench.runs import Record, train
from plinius.bench.small_job import LAYERS, SmallJob
from plinius.bench.words import counted

_VICTIMS: Final = ("enclave", "host", "both")
_EDGE: Final = 2
_POINTS: Final = 1500


@dataclass(frozen=True)
class Size:
    """How much is trained, and how often it is killed."""

    steps: int
    kills: int


FULL: Final = Size(steps=500, kills=9)
QUICK: Final = Size(steps=120, kills=2)


@dataclass(frozen=True)
class CrashAndResume:
    """The experiment."""

    name: str = "fig9"
    title: str = "Fig. 9: crash and resume, loss curves with and without mirroring"
    full: Size = FULL
    quick: Size = QUICK

    def measure(self, plan: Plan) -> Result:
        """Trains three times."""
        size = self.quick if plan.quick else self.full
        # Steps that were made, over all lives: both trainings are killed after the same number of them.
        kills = sorted(random.sample(range(_EDGE, size.steps - _EDGE), size.kills))
        with new_folder(str(plan.memory)) as folder:
            job = SmallJob.make(folder, plan.data)
            plan.tell(f"{self.name}: {size.kills} kills of {size.steps} steps; {job.pictures}")
            with ThreadPoolExecutor(3) as threads:
                alone = threads.submit(train, job.run(folder / "alone"), size.steps)
                mirrored = threads.submit(train, job.run(folder / "mirrored"), size.steps, _victims(kills))
                # The only save is that of the last step: each start before it begins anew.
                saved_last = job.run(folder / "without", every=size.steps)
                own = [after - before for before, after in zip([0, *kills], kills, strict=False)]
                without = threads.submit(train, saved_last, size.steps, _victims(own))
                records = {"alone": alone.result(), "mirrored": mirrored.result(), "without": without.result()}
        return {
            "layers": LAYERS,
            "steps": size.steps,
            "kills": size.kills,
            "pictures": job.pictures,
            "resumed": records["mirrored"].resumed,
            "durable": [durable for _, durable in records["mirrored"].kills],
            # A kill may strike when a step is durable and not yet reported: that one is not compared.
            "equal": records["mirrored"].losses.items() <= records["alone"].losses.items(),
            "curves": {name: _curve(record) for name, record in records.items()},
            "again": {name: len(record.reported) - len(record.losses) for name, record in records.items()},
        }

    def draw(self, result: Result, path: Path) -> None:
        """Draws both loss curves over the steps that were made; each start anew is a line."""
        from matplotlib.figure import Figure  # noqa: PLC0415

        figure = Figure(figsize=(9, 5.5), layout="constrained")
        panels = figure.subplots(2, 1, sharex=True, sharey=True)
        titles = {"mirrored": "with mirroring", "without": "without: each kill begins anew"}
        for axes, (name, title) in zip(panels, titles.items(), strict=True):
            alone, own = result["curves"]["alone"], result["curves"][name]
            axes.plot(alone["made"], alone["loss"], color="0.75", linewidth=4, label="left alone")
            axes.plot(own["made"], own["loss"], color="C0" if name == "mirrored" else "C1", linewidth=1.1, label=title)
            for number, made in enumerate(own["starts"]):
                label = None if number else "killed (SIGKILL) and started"
                axes.axvline(made, color="C3", linestyle="--", linewidth=0.8, label=label)
            axes.set_ylabel("loss")
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
            axes.legend(fontsize="small", loc="upper right")
        panels[-1].set_xlabel("steps that were made")
        words = f"{result['layers']} convolutional layers, {result['steps']} steps, {result['kills']} kills"
        figure.suptitle(f"{words}; {result['pictures']}", fontsize="medium")
        figure.savefig(path, dpi=150)

    def rows(self, result: Result) -> list[Row]:
        """Steps that were made, and whether the curve is that of a training that nobody killed."""
        again = result["again"]
        lost = sum(max(0, d - r) for d, r in zip(result["durable"], result["resumed"], strict=True))
        equal = "equal in every bit" if result["equal"] else "DIFFERENT"
        return [
            Row("kills (SIGKILL) at random moments", str(result["kills"]), str(paper.number("fig9.kills"))),
            Row("steps", str(result["steps"]), str(paper.number("fig9.steps"))),
            Row("layers with LReLU and convolution", str(result["layers"]), str(paper.number("fig9.layers"))),
            Row("steps made again, with mirroring", str(again["mirrored"]), "the curve goes on (Fig. 9)"),
            Row("durable steps lost, with mirroring", str(lost)),
            Row("steps made again, without", str(again["without"]), "the curve begins anew (Fig. 9)"),
            Row("losses of the killed training against one left alone", equal),
        ]

    def meaning(self, result: Result) -> str:
        """What it means."""
        made = {name: result["steps"] + again for name, again in result["again"].items()}
        same = "bit for bit the curve of a training that nobody killed" if result["equal"] else "ANOTHER curve"
        return (
            f"After {counted(result['kills'], 'kill')} the mirrored training needed {made['mirrored']} steps for "
            f"{result['steps']} and shows {same}; without a mirror it took {made['without']} steps."
        )


def _victims(steps: Sequence[int]) -> list[tuple[int, str]]:
    return list(zip(steps, cycle(_VICTIMS), strict=False))


def _curve(record: Record) -> dict[str, list[Any]]:
    """Loss by the number of steps that were made, and where it was started again."""
    every = max(1, len(record.reported) // _POINTS)
    some = list(enumerate(record.reported, start=1))[::every]
    return {
        "made": [made for made, _ in some],
        "loss": [loss for _, (_, loss) in some],
        "starts": list(record.made_before_kills),
    }


EXPERIMENT = CrashAndResume()
