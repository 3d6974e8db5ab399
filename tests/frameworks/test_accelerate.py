"""Accelerate: a loop that is killed, and `save_state` and `load_state` without files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import plinius
import pytest
from killing import Example, check_resumes_exactly
from plinius.errors import ConfigError

accelerate = pytest.importorskip("accelerate")
pytest.importorskip("torchdata")
import torch  # noqa: E402
from plinius.frameworks.accelerate import register  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

EPOCH = 7


def prepared(*, stateful: bool = True, seedable: bool = True) -> tuple[Any, Any, Any]:
    """An accelerator with a model and an optimizer that have trained a little, and a loader."""
    configuration = accelerate.utils.DataLoaderConfiguration(
        use_stateful_dataloader=stateful, use_seedable_sampler=seedable
    )
    accelerator = accelerate.Accelerator(cpu=True, dataloader_config=configuration)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    loader = DataLoader(torch.randn(8, 3), 2, shuffle=True)  # type: ignore[arg-type]
    model, optimizer, _ = accelerator.prepare(model, optimizer, loader)
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    return accelerator, model, optimizer


def test_a_killed_loop_ends_with_the_same_bytes(folder: Path, key: Path) -> None:
    example = Example("accelerate_loop.py", folder, key, 5 * EPOCH, moments_s=0)  # each kill within a step or two
    check_resumes_exactly(example, kills=(EPOCH - 2, 2, EPOCH, 1))


def test_save_state_and_load_state_use_the_pool_and_write_no_file(folder: Path, key: Path) -> None:
    with plinius.Pool(folder / "job.pool") as pool:
        accelerator, model, optimizer = prepared()
        register(accelerator, pool, plinius.Key.load(key))
        accelerator.save_state(folder / "state")
        accelerator.save_state(folder / "state")
        assert not (folder / "state").exists()

        again, other_model, other_optimizer = prepared()
        assert not torch.equal(other_model.weight, model.weight)
        register(again, pool, plinius.Key.load(key))
        again.load_state(folder / "state")
        assert torch.equal(other_model.weight, model.weight)
        (ours, theirs) = (next(iter(it.optimizer.state.values()))["exp_avg"] for it in (optimizer, other_optimizer))
        assert torch.equal(ours, theirs)


def test_what_cannot_be_resumed_is_refused(folder: Path, key: Path) -> None:
    with plinius.Pool(folder / "job.pool") as pool:
        for options in ({"stateful": False}, {"seedable": False}):
            with pytest.raises(ConfigError, match="forget its position or its order"):
                register(prepared(**options)[0], pool, plinius.Key.load(key))
        with pytest.raises(ConfigError, match=r"after accelerator\.prepare"):
            register(accelerate.Accelerator(cpu=True), pool, plinius.Key.load(key))
        accelerator, _, _ = prepared()
        register(accelerator, pool, plinius.Key.load(key))
        with pytest.raises(ConfigError, match="holds no mirror 'accelerate' yet"):
            accelerator.load_state("anywhere")
