"""How often a step with a save, and a restore, calls out of the enclave: counted where the trainer does it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from plinius.attest.release import Grant, Terms
from plinius.bench.workload import made_up
from plinius.darknet import parse
from plinius.dataset import seal_dataset
from plinius.enclave.job import Job
from plinius.enclave.trainer import train
from plinius.errors import PliniusError
from plinius.mirror import RollbackWarning
from plinius.pool import Pool
from plinius.seal import Key
from plinius.wire import Message, Train

_CFG = b"""\
[net]
batch=4
height=28
width=28
channels=1
max_batches=4
learning_rate=0.01

[connected]
output=10
activation=linear

[softmax]
"""
_RECORDS = 16
_STEPS = 4


@dataclass(frozen=True)
class Calls:
    """Calls out of the enclave: messages to the host, and looks for one from it.

    Attributes:
        save: Of a step with a save.
        restore: Of a start that restores, without a step.
    """

    save: int
    restore: int


def count_calls(place: Path) -> Calls:
    """Trains a tiny network for one step, starts it again when it is done, and then for some steps more.

    Raises:
        PliniusError: Not every step called as often.
    """
    counts = []
    with Pool(place / "pool") as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore", RollbackWarning)
        grant = Grant(Key.generate(), Terms(reveal=["loss"]))
        images = made_up(_RECORDS, seed=1)
        seal_dataset(images.images, images.labels, grant.key, place / "data")
        for steps in (1, 1, 1 + _STEPS):
            counts.append(_calls_of_a_run(pool, grant, place / "data", steps))
    _, again, more = counts
    if (more - again) % _STEPS:
        raise PliniusError("not every step calls out of the enclave as often: the model of SGX does not hold")
    return Calls(save=(more - again) // _STEPS, restore=again)


def _calls_of_a_run(pool: Pool, grant: Grant, data: Path, steps: int) -> int:
    calls = 0

    def report(_: Message) -> None:
        nonlocal calls
        calls += 1

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return False

    job = Job.decide(
        Train("tiny.cfg", data.name, "pool", steps, 1, 1, None), _CFG, parse(_CFG, "tiny.cfg"), pool, grant
    )
    with data.open("rb") as file:
        train(job, pool, grant.key, file.fileno(), report, stop)
    return calls + 1  # that it is done is a message too
