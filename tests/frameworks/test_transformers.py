"""Hugging Face's Trainer: a training that is killed, and one that is stopped at every kind of place."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import plinius
import pytest
from killing import EXAMPLES, Example, check_resumes_exactly
from plinius.errors import ConfigError

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

EPOCH, STEPS = 7, 17


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example as a module."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return pytest.importorskip("transformers_trainer")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Stopped(Exception):  # noqa: N818
    """Stands for a kill, in one process."""


class Stopping(transformers.TrainerCallback):
    """Stops the training in a hook, once so many steps have been made."""

    def __init__(self, hook: str, step: int) -> None:
        def stop(args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step >= step:
                raise Stopped

        setattr(self, hook, stop)


def train(example: Any, path: Path, key: Path, seed: int, callbacks: list[Any], accumulate: int) -> Any:
    """Trains with the mirror in a pool, from the seed's weights; returns what it came to, or None if it was stopped."""
    with plinius.Pool(path) as pool:
        job = SimpleNamespace(
            pool=pool, key=plinius.Key.load(key), output=path.with_suffix(".out"), steps=STEPS, accumulate=accumulate
        )
        early = transformers.EarlyStoppingCallback(5)
        trainer = example.trainer_of(job, seed, callbacks=[early, *callbacks])
        trainer.args.metric_for_best_model, trainer.args.greater_is_better = "eval_loss", False
        try:
            trainer.train()
        except Stopped:
            return None
        logged = [[entry.get("step"), entry.get("loss"), entry.get("eval_loss")] for entry in trainer.state.log_history]
        return example.result(trainer), early.early_stopping_patience_counter, logged[:-1]


def test_a_killed_training_ends_with_the_same_bytes(folder: Path, key: Path) -> None:
    check_resumes_exactly(Example("transformers_trainer.py", folder, key, 60), kills=(EPOCH - 2, 2))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_training_that_was_stopped_anywhere_ends_the_same(
    accumulate: int, example: Any, folder: Path, key: Path
) -> None:
    whole = train(example, folder / "whole.pool", key, 1, [], accumulate)
    places = [
        *(("on_step_begin", step) for step in (1, 3, 4, EPOCH - 1, EPOCH, EPOCH + 1, 2 * EPOCH)),
        *(("on_step_end", step) for step in (2, 4, EPOCH, EPOCH + 1)),
        *((hook, EPOCH) for hook in ("on_evaluate", "on_log", "on_epoch_end", "on_epoch_begin")),
    ]
    for hook, step in places:
        path = folder / f"{hook}-{step}.pool"
        assert train(example, path, key, 1, [Stopping(hook, step)], accumulate) is None
        assert train(example, path, key, 99, [], accumulate) == whole, f"stopped in {hook} at step {step}"
    assert train(example, folder / "whole.pool", key, 99, [], accumulate)[0] == whole[0], "it went on after its end"


def test_what_cannot_be_resumed_exactly_is_refused(example: Any, folder: Path, key: Path) -> None:
    with plinius.Pool(folder / "job.pool") as pool:
        job = SimpleNamespace(pool=pool, key=plinius.Key.load(key), output=folder / "out", steps=1, accumulate=1)
        trainer = example.trainer_of(job)
        trainer.args.auto_find_batch_size = True
        with pytest.raises(ConfigError, match="auto_find_batch_size"):
            trainer.train()
