"""Secure inference: how good a model is that was trained and mirrored sealed, and how fast on sealed pictures.

The training and the accuracy come from the code that the enclave runs, in this process. The speed is that of pairs of
neighbouring batches, the same pictures once from the sealed data set and once from an array.
"""

from __future__ import annotations

import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from plinius.attest.release import Grant, Terms
from plinius.bench import paper
from plinius.bench.experiment import Experiment, Plan, Result, Row
from plinius.bench.folders import new_folder
from plinius.bench.intervals import Interval, ratio
from plinius.bench.tables import cpu
from plinius.bench.workload import Network, Pictures, as_input, network, pictures
from plinius.darknet.model import restore_model
from plinius.dataset import SealedDataset, seal_dataset
from plinius.enclave.inference import infer
from plinius.enclave.job import Job
from plinius.enclave.trainer import train
from plinius.errors import PliniusError
from plinius.mirror import RollbackWarning
from plinius.pool import Pool
from plinius.seal import Key
from plinius.wire import Inferred, Message, Progress, Train

_TOLD_EVERY: Final = 100
_PERCENT: Final = 100
_BATCH: Final = 250  # that of the enclave's inference


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        steps: Of the training.
        train_images: At most so many pictures are trained on.
        test_images: At most so many are classified; there are 10,000 in MNIST.
        rounds: How often all of them are classified in pairs of batches.
        small: Always with the small network of ours, whose steps are short.
    """

    steps: int
    train_images: int
    test_images: int
    rounds: int
    small: bool = False


@dataclass(frozen=True)
class Inference:
    """Accuracy on the test pictures, and pictures a second."""

    quick: Size = Size(120, 60_000, 10_000, 1, small=True)
    full: Size = Size(500, 60_000, 10_000, 1)
    name: str = "inference"
    title: str = "Secure inference: accuracy, and pictures per second on sealed and on plain data"

    def measure(self, plan: Plan) -> Result:
        """Trains, classifies, and measures.

        Raises:
            PliniusError: A folder or a file cannot be used, or the sealed pictures are not the plain ones.
        """
        size = self.quick if plan.quick else self.full
        net = network(None if size.small else plan.data, size.steps)
        training = pictures(plan.data, "train", size.train_images)
        tests = pictures(plan.data, "t10k", size.test_images)
        with new_folder(str(plan.memory)) as place, Pool(place / "pool") as pool, warnings.catch_warnings():
            warnings.simplefilter("ignore", RollbackWarning)
            grant = Grant(Key.generate(), Terms(reveal=["accuracy", "loss"]))
            losses = _train(net, training, size.steps, pool, grant, place, plan.tell)
            with _sealed(tests, grant.key, place / "t10k.sealed") as descriptor:
                plan.tell("inference: classifying")
                found = infer(net.config, net.cfg, pool, grant, (descriptor, "t10k.sealed"), lambda _: None)
                pairs = _pairs(net, pool, grant.key, descriptor, tests, size.rounds)
            medium = pool.medium
        return {
            "cpu": cpu(),
            "cores": len(os.sched_getaffinity(0)),
            "threads": torch.get_num_threads(),
            "load": os.getloadavg()[0],
            "medium": medium,
            "network": net.name,
            "papers_network": net.papers,
            "pictures": tests.name,
            "real": training.real and tests.real,
            "trained_on": len(training.labels),
            "losses": losses,
            **_accuracy(found),
            **pairs,
        }

    def draw(self, result: Result, path: Path) -> None:
        """Draws the loss of the training, and the speed of both ways with its spread."""
        from matplotlib.figure import Figure  # noqa: PLC0415

        figure = Figure(figsize=(10, 4.5), layout="constrained")
        loss, speed = figure.subplots(1, 2)
        steps = range(1, len(result["losses"]) + 1)
        loss.plot(steps, result["losses"], color="C0")
        loss.set_xlabel("step")
        loss.set_ylabel("loss")
        loss.set_title(
            f"{result['accuracy'] * _PERCENT:.2f} % of {result['images']:,} test pictures right", fontsize="medium"
        )
        names = ("sealed", "plain")
        speed.boxplot([result[f"{name}_per_s"] for name in names], tick_labels=names, showfliers=False)
        speed.set_ylim(bottom=0)
        speed.set_ylabel("pictures per second")
        speed.set_title(f"batches of {result['batch']}, in pairs", fontsize="medium")
        for axes in (loss, speed):
            axes.grid(alpha=0.3)
        about = f"{result['network']}, {result['pictures']}, {result['threads']} threads"
        figure.suptitle(about, fontsize="medium")
        figure.savefig(path, dpi=150)

    def rows(self, result: Result) -> list[Row]:
        """Accuracy and speed."""
        sealed, plain = (statistics.median(result[f"{name}_per_s"]) for name in ("sealed", "plain"))
        found = result["ratio"]
        accuracy, images = paper.number("inference.accuracy"), paper.number("inference.images")
        layers = paper.number("inference.layers")
        said = f"{accuracy.said} of {images.said}, {layers.said} ({accuracy.place})"
        other = [
            *([] if result["real"] else ["other pictures"]),
            *([] if result["papers_network"] else ["another network"]),
        ]
        comparable = f"{said}; {' and '.join(other)} here, so not to be compared" if other else said
        return [
            Row(
                f"accuracy on {result['images']:,} test pictures ({result['pictures']}) after "
                f"{len(result['losses'])} steps of {result['network']}",
                f"{result['accuracy'] * _PERCENT:.2f} %",
                comparable,
            ),
            Row("pictures per second, sealed", f"{sealed:,.0f}"),
            Row("pictures per second, plain", f"{plain:,.0f}"),
            Row(
                "time on sealed pictures / on plain ones",
                f"{Interval(**found).text(3)}, {len(result['plain_per_s'])} pairs",
            ),
        ]

    def meaning(self, result: Result) -> str:
        """What is right, and what sealing costs."""
        found = result["ratio"]
        which = "MNIST's" if result["real"] else "pictures made for this (there is no MNIST here)"
        told = "; the difference cannot be told from none" if found["low"] <= 1 <= found["high"] else ""
        return (
            f"A model restored from the sealed pool after {len(result['losses'])} steps of training is right for "
            f"{result['accuracy'] * _PERCENT:.2f} % of {result['images']:,} test pictures, {which}, and classifies "
            f"sealed ones in {found['median']:.3f} times the time of plain ones{told}."
        )


EXPERIMENT: Final[Experiment] = Inference()


def _train(
    net: Network,
    images: Pictures,
    steps: int,
    pool: Pool,
    grant: Grant,
    place: Path,
    tell: Callable[[str], None],
) -> list[float]:
    """Trains as the enclave does, with a save after every step; returns the losses."""
    losses: list[float] = []

    def report(message: Message) -> None:
        if isinstance(message, Progress) and message.loss is not None:
            losses.append(message.loss)
            if message.step % _TOLD_EVERY == 0:
                tell(f"inference: training, step {message.step} of {steps}")

    asked = Train(net.name, "train.sealed", "pool", steps, 1, 1, None)
    job = Job.decide(asked, net.cfg, net.config, pool, grant)
    with _sealed(images, grant.key, place / "train.sealed") as descriptor:
        train(job, pool, grant.key, descriptor, report, stop=lambda: False)
    return losses


@contextmanager
def _sealed(images: Pictures, key: Key, path: Path) -> Iterator[int]:
    """Seals pictures into a file, and opens it as the host does for the enclave."""
    seal_dataset(images.images, images.labels, key, path)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _pairs(net: Network, pool: Pool, key: Key, descriptor: int, tests: Pictures, rounds: int) -> dict[str, Any]:
    """Classifies each batch from the sealed data and from the array, one after the other; the first one changes."""
    training, _ = restore_model(net.config, net.cfg, pool, key)
    training.network.eval()
    data = SealedDataset(pool, key, descriptor, name="t10k.sealed")

    def sealed(batch: range) -> npt.NDArray[np.float32]:
        return classify(data.batch(batch)[0])

    def plain(batch: range) -> npt.NDArray[np.float32]:
        return classify(as_input(tests.images[batch.start : batch.stop]))

    def classify(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            scores: npt.NDArray[np.float32] = training.network(torch.from_numpy(images)).numpy()
        return scores

    ways = {"sealed": sealed, "plain": plain}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    # Whole batches only: a shorter one would count as much as the others.
    batch_size = min(_BATCH, len(data))
    batches = [range(first, first + batch_size) for first in range(0, len(data) - batch_size + 1, batch_size)]
    plain(batches[0])
    for number, batch in enumerate(batches * rounds):
        scores = {}
        for name in sorted(ways, reverse=bool(number % 2)):
            begun_s = time.perf_counter()
            scores[name] = ways[name](batch)
            seconds[name].append(time.perf_counter() - begun_s)
        if not np.array_equal(scores["sealed"], scores["plain"]):
            raise PliniusError("what was classified from the sealed data is not what was sealed")
    rates = {f"{name}_per_s": [batch_size / one for one in all_s] for name, all_s in seconds.items()}
    return {"batch": batch_size, **rates, "ratio": asdict(ratio(seconds["sealed"], seconds["plain"]))}


def _accuracy(found: Inferred) -> dict[str, Any]:
    return {"images": found.records, "accuracy": found.correct / found.records}
