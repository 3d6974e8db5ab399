"""Lightning: a fit that is killed, one that is stopped at every kind of place, and checkpoints in a pool."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plinius
import pytest
from killing import EXAMPLES, Example, check_resumes_exactly
from plinius.errors import ConfigError

pl = pytest.importorskip("lightning.pytorch")
pytest.importorskip("torchdata")
import torch  # noqa: E402
from plinius.frameworks.lightning import MirrorCallback, MirrorCheckpointIO  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from torchdata.stateful_dataloader import StatefulDataLoader  # noqa: E402

EPOCH, STEPS = 7, 18
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


@pytest.fixture
def lightning_fit(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example as a module."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return pytest.importorskip("lightning_fit")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Stopped(Exception):  # noqa: N818
    """Stands for a kill, in one process."""


class Stopping(pl.Callback):
    """Stops the fit in a hook, once so many steps have been made."""

    def __init__(self, hook: str, step: int) -> None:
        def stop(trainer: Any, *_: Any) -> None:
            if trainer.global_step >= step and not trainer.sanity_checking:
                raise Stopped

        setattr(self, hook, stop)


def fit(example: Any, path: Path, key: Path, seed: int, callbacks: list[Any], **options: Any) -> bytes | None:
    """Fits with the mirror in a pool; returns what the training came to, or None if it was stopped."""
    pl.seed_everything(seed, verbose=False)
    with plinius.Pool(path) as pool:
        model, mirrored = example.Regression(), MirrorCallback(pool, plinius.Key.load(key))
        trainer = pl.Trainer(callbacks=[mirrored, *callbacks], enable_checkpointing=False, **QUIET, **options)
        data = (
            StatefulDataLoader(example.records(1), example.BATCH, shuffle=True),
            DataLoader(example.records(2), example.BATCH),
        )
        try:
            trainer.fit(model, *data)
        except Stopped:
            return None
        optimizer, scheduler = trainer.optimizers[0], trainer.lr_scheduler_configs[0].scheduler
        progress = [
            trainer.global_step,
            trainer.current_epoch,
            trainer.fit_loop.state_dict()["epoch_progress"]["total"],
        ]
        kept = [model.state_dict(), optimizer.state_dict(), scheduler.state_dict(), progress, torch.get_rng_state()]
        return bytes(example.content(kept))


def test_a_killed_fit_ends_with_the_same_bytes(folder: Path, key: Path) -> None:
    example = Example("lightning_fit.py", folder, key, 60)
    check_resumes_exactly(example, kills=(EPOCH - 2, 2))


@pytest.mark.parametrize(
    "options",
    [{}, {"accumulate_grad_batches": 2}, {"val_check_interval": 3}, {"max_epochs": 3, "max_steps": -1}],
    ids=str,
)
def test_a_fit_that_was_stopped_anywhere_ends_with_the_same_bytes(
    options: dict[str, Any], lightning_fit: Any, folder: Path, key: Path
) -> None:
    options = {"max_steps": STEPS, **options}
    whole = fit(lightning_fit, folder / "whole.pool", key, 1, [], **options)
    places = [
        *(("on_train_batch_start", step) for step in (2, 3, EPOCH - 1, EPOCH, EPOCH + 1, 2 * EPOCH)),
        *(("on_train_batch_end", step) for step in (2, EPOCH, EPOCH + 1)),
        *((hook, 4) for hook in ("on_validation_batch_end", "on_validation_end", "on_train_epoch_end")),
    ]
    for hook, step in places:
        path = folder / f"{hook}-{step}.pool"
        assert fit(lightning_fit, path, key, 1, [Stopping(hook, step)], **options) is None
        assert fit(lightning_fit, path, key, 99, [], **options) == whole, f"stopped in {hook} at step {step}"


def test_what_cannot_be_resumed_is_refused(lightning_fit: Any, folder: Path, key: Path) -> None:
    with plinius.Pool(folder / "job.pool") as pool:
        mirrored = MirrorCallback(pool, plinius.Key.load(key))
        data = DataLoader(lightning_fit.records(1), 8)
        for callbacks, message in ((mirrored,), "StatefulDataLoader"), ((pl.Callback(), mirrored), "must be the first"):
            trainer = pl.Trainer(max_steps=1, callbacks=[*callbacks], enable_checkpointing=False, **QUIET)
            with pytest.raises(ConfigError, match=message):
                trainer.fit(lightning_fit.Regression(), data)


def test_checkpoints_in_a_pool_are_saved_loaded_and_removed(lightning_fit: Any, folder: Path, key: Path) -> None:
    with plinius.Pool(folder / "job.pool") as pool:
        storage = MirrorCheckpointIO(pool, plinius.Key.load(key))
        checkpoints = pl.callbacks.ModelCheckpoint(folder / "none", every_n_train_steps=2, monitor=None, save_top_k=1)
        model = lightning_fit.Regression()
        data = DataLoader(lightning_fit.records(1), 8)
        validation = DataLoader(lightning_fit.records(2), 8)
        pl.Trainer(max_steps=6, callbacks=[checkpoints], plugins=[storage], **QUIET).fit(model, data, validation)
        best = checkpoints.best_model_path
        assert best.endswith("step=6.ckpt")
        assert not (folder / "none").exists()

        again = lightning_fit.Regression()
        before = torch.get_rng_state()
        saved = storage.load_checkpoint(best)
        assert torch.equal(torch.get_rng_state(), before)
        assert saved["global_step"] == 6
        trainer = pl.Trainer(max_steps=6, enable_checkpointing=False, plugins=[storage], **QUIET)
        trainer.fit(again, data, validation, ckpt_path=best)
        assert trainer.global_step == 6
        assert lightning_fit.content(again.net.state_dict()) == lightning_fit.content(model.net.state_dict())

        removed = best.replace("step=6", "step=4")
        with pytest.raises(ConfigError, match="was removed"):
            storage.load_checkpoint(removed)
        with pytest.raises(ConfigError, match="there is no checkpoint"):
            storage.load_checkpoint("never-saved.ckpt")


class Custom:
    """Nothing that comes back without pickle."""


def test_a_checkpoint_with_a_value_that_is_not_plain_is_refused_with_its_path(folder: Path, key: Path) -> None:
    with plinius.Pool(folder / "job.pool") as pool:
        storage = MirrorCheckpointIO(pool, plinius.Key.load(key))
        with pytest.raises(ConfigError, match="checkpoint/callbacks/mine: a Custom cannot be mirrored"):
            storage.save_checkpoint({"callbacks": {"mine": Custom()}}, "a.ckpt")
