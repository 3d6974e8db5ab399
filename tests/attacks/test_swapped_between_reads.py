"""The pool is changed between the reading of a job's facts and the reading of its state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from inside import Command
from jobs import CFG, Job
from plinius import Key, Mirror, Pool
from plinius.darknet import model, parse
from plinius.darknet.training import MIRROR_NAME, Training, digest
from plinius.errors import IntegrityError
from plinius.mirror import read_facts

TEXT = CFG.format(batch=8, learning_rate=0.05, filters=4).encode()


def save(pool: Pool, key: Key, seed: int, **options: Any) -> None:
    """Saves a job of this cfg in the pool."""
    state = Training.start(parse(TEXT, "net.cfg"), seed).state
    Mirror(pool, key, name=MIRROR_NAME, facts={"cfg": digest(TEXT), "seed": seed}, **state).save(1, **options)


def test_facts_of_one_generation_and_weights_of_another_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = Key.generate()
    with Pool(folder / "pool") as pool:
        save(pool, key, seed=1)

        def read_then_swapped(*arguments: Any) -> object:
            facts = read_facts(*arguments)
            save(pool, key, seed=2, overwrite=True)
            return facts

        monkeypatch.setattr(model, "read_facts", read_then_swapped)
        with pytest.raises(IntegrityError, match="changed while it was read"):
            model.restore_model(parse(TEXT, "net.cfg"), TEXT, pool, key)


def test_a_job_whose_facts_were_hidden_is_not_trained_on(
    inside: Command, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert inside(*job.train("--steps", 2)).code == 0
    monkeypatch.setattr("plinius.enclave.job.read_facts", lambda *_: None)
    done = inside(*job.train("--steps", 4, "--seed", 7))
    assert done.code == 9
    assert "do not belong together" in done.err
