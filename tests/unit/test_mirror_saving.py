"""Which steps are saved, and what a pool says of them without their state."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import plinius
import pytest
from plinius import Key, Mirror, Pool, status
from plinius.errors import ConfigError, IntegrityError
from plinius.mirror import public_mirrors, read_facts
from small_training import Training, trained


def test_steps_only_go_forward(path: Path, key: Key) -> None:
    training = Training(path, key)
    training.train(1, 3)
    for step in (3, 2, 0):
        with pytest.raises(ConfigError, match=f"step {step} is not above the latest saved step 3"):
            training.mirror.save(step)
    with pytest.raises(ConfigError, match="not between 0 and"):
        training.mirror.save(-1)
    assert training.mirror.latest_step() == 3
    assert training.mirror.save(10)


@pytest.mark.parametrize("step", [1 << 70, 1 << 63, -1, 1.5, "1"])
def test_a_step_is_a_whole_number_in_range(path: Path, key: Key, step: Any) -> None:
    with pytest.raises(ConfigError, match="step"):
        Training(path, key).mirror.save(step)


def test_every_says_which_steps_are_saved(path: Path, key: Key) -> None:
    with Pool(path) as pool:
        mirror = Mirror(pool, key, name="m", every=4, array=[np.zeros(3)])
        assert [step for step in range(1, 14) if mirror.save(step)] == [4, 8, 12]
        assert mirror.save(14, force=True)
        assert mirror.latest_step() == 14


def test_facts_are_sealed_with_each_generation(path: Path, key: Key) -> None:
    facts = {"cfg": "ab12", "seed": 7, "rate": 0.5, "none": None}
    with Pool(path) as pool:
        assert read_facts(pool, key, "m") is None
        Mirror(pool, key, name="m", facts=facts, array=[np.zeros(3)]).save(1)
        assert read_facts(pool, key, "m") == facts
        with pytest.raises(IntegrityError, match=f"^{path}: .*this is key"):
            read_facts(pool, Key.generate(), "m")
    assert b"ab12" not in path.read_bytes()


def test_status_and_manifest_count_versions_and_restores(path: Path, key: Key) -> None:
    trained(path, key, 2)
    for step in (3, 4):
        training = Training(path, key)
        training.restore()
        training.train(step, step)
        training.close()
    entries = [(entry.name, entry.meta, entry.occupied_bytes) for entry in status(path).entries]
    (mirror,) = public_mirrors(entries)
    assert (mirror.name, mirror.key_id, mirror.cipher) == ("net", key.id, key.cipher)
    assert (mirror.version, mirror.step, mirror.epoch) == (4, 4, 3)
    assert mirror.buffers_bytes == entries[0][2] > 0


def test_the_name_status_is_the_function_whatever_was_imported() -> None:
    import_module("plinius.cli")
    import_module("plinius.inspection")
    assert callable(plinius.status)
