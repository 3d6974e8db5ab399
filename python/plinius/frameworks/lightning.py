"""Mirrors for Lightning: `Trainer.fit` goes on after the last durable step; checkpoints lie in a pool."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.plugins.io import CheckpointIO
from lightning.pytorch.loops import _TrainingEpochLoop
from lightning.pytorch.loops.fit_loop import _FitLoop

from plinius import Key, Mirror, Pool
from plinius.errors import ConfigError
from plinius.frameworks.plain import read_tree, write_tree
from plinius.state.containers import is_stateful

_LIVE = ("state_dict", "optimizer_states", "lr_schedulers")
"""What of a checkpoint is mirrored as the objects that it comes from."""


class MirrorCallback(pl.Callback):
    """Mirrors the training after each optimizer step, and lets ``Trainer.fit`` go on where the mirror is.

    A step becomes durable after every hook of ``on_train_batch_end``. The last step of an epoch becomes durable when
    the hooks at the epoch's end are done, and a step that validation follows in the middle of an epoch with the next
    step: what comes after it is then run again as a whole, not left out.

    Args:
        pool: Where the mirror lies.
        key: The job's key.
        name: Tells mirrors in one pool apart.
        every: Mirrors when the step is a multiple of this.

    Attributes:
        mirror: The mirror, from ``on_fit_start`` on.
    """

    def __init__(self, pool: Pool, key: Key, *, name: str = "lightning", every: int = 1) -> None:
        self._pool, self._key, self._name, self._every = pool, key, name, every
        self.mirror: Mirror | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Makes the mirror and restores what it holds."""
        self._check(trainer)
        loop = trainer.fit_loop
        loop.setup_data()
        loaders = list(loop._combined_loader.flattened) if loop._combined_loader else []
        _check_loaders(loaders)
        self.mirror = Mirror(
            self._pool,
            self._key,
            name=self._name,
            every=self._every,
            model=pl_module,
            optimizers=trainer.optimizers,
            schedulers=[config.scheduler for config in trainer.lr_scheduler_configs],
            loaders=loaders,
            progress=_Progress(trainer),
        )
        if self.mirror.restore() is not None:
            iter(loop._data_fetcher)  # the iterator of `setup_data` knows nothing of what was restored
        self._save_after(pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lets the continued epoch end as any other; Lightning would leave out schedulers that look at metrics."""
        trainer.fit_loop._restarting = False

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mirrors the last step of the epoch before."""
        self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mirrors the last step."""
        self._save(trainer, force=True)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Lets go of the training's objects."""
        vars(pl_module).pop("on_train_batch_end", None)
        if self.mirror is not None:
            self.mirror.close()
            self.mirror = None

    def _check(self, trainer: pl.Trainer) -> None:
        if trainer.world_size > 1:
            raise ConfigError(f"{trainer.world_size} processes: MirrorCallback mirrors a training of one process")
        if trainer.callbacks[0] is not self:
            raise ConfigError(
                "MirrorCallback must be the first of Trainer(callbacks=[...]): it mirrors before others act"
            )
        if trainer.reload_dataloaders_every_n_epochs:
            raise ConfigError("reload_dataloaders_every_n_epochs: MirrorCallback needs the same loaders in all epochs")

    def _save_after(self, pl_module: pl.LightningModule) -> None:
        """Saves after the module's own hook, which Lightning calls after those of all callbacks."""
        hook = pl_module.on_train_batch_end

        @wraps(hook)
        def hook_and_save(*args: Any, **kwargs: Any) -> None:
            hook(*args, **kwargs)
            loop = pl_module.trainer.fit_loop.epoch_loop
            if not loop._should_accumulate() and not _is_last(loop) and not _validation_follows(pl_module.trainer):
                self._save(pl_module.trainer)

        pl_module.on_train_batch_end = hook_and_save

    def _save(self, trainer: pl.Trainer, *, force: bool = False) -> None:
        mirror = self.mirror
        if mirror is not None and trainer.global_step > (mirror.latest_step() or 0):
            mirror.save(trainer.global_step, force=force)


class _Progress:
    """How far the trainer is: loops, callbacks, precision, data module, and what hooks put into a checkpoint."""

    def __init__(self, trainer: pl.Trainer) -> None:
        self._trainer = trainer

    def state_dict(self) -> dict[str, Any]:
        """Returns Lightning's checkpoint without what is mirrored live."""
        checkpoint = self._trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        checkpoint["loops"] = {"fit_loop": self._trainer.fit_loop.state_dict()}
        checkpoint["loops"]["fit_loop"]["state_dict"].pop("combined_loader", None)
        for name in [
            *_LIVE,
            *(name for name in checkpoint if name.startswith("hparams") or name == "hyper_parameters"),
        ]:
            checkpoint.pop(name, None)
        return {"checkpoint": checkpoint, "between_epochs": _is_last(self._trainer.fit_loop.epoch_loop)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts the trainer there, in Lightning's own order."""
        trainer, connector = self._trainer, self._trainer._checkpoint_connector
        checkpoint = {"state_dict": trainer.lightning_module.state_dict(), **state["checkpoint"]}
        connector._loaded_checkpoint = checkpoint
        connector.restore_datamodule()
        trainer.lightning_module.on_load_checkpoint(checkpoint)
        connector.restore_callbacks()
        connector.restore_precision_plugin_state()
        connector.restore_loops()
        connector._loaded_checkpoint = {}
        if state["between_epochs"]:
            _begin_anew(trainer.fit_loop)


def _begin_anew(loop: _FitLoop) -> None:
    """Lets the next epoch begin as it does in a run that was not interrupted, not as one to be continued."""
    loop._resuming_from_checkpoint = False
    loop.epoch_loop.restarting = False


def _is_last(loop: _TrainingEpochLoop) -> bool:
    return bool(loop._num_ready_batches_reached())


def _validation_follows(trainer: pl.Trainer) -> bool:
    fetcher = trainer.fit_loop._data_fetcher
    return fetcher is not None and trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)


def _check_loaders(loaders: list[Any]) -> None:
    for loader in loaders:
        if not is_stateful(loader):
            name = type(loader).__name__
            raise ConfigError(f"a {name} forgets its position; use torchdata's StatefulDataLoader in its place")


class MirrorCheckpointIO(CheckpointIO):
    """Keeps Lightning's checkpoints in a pool: ``Trainer(plugins=[MirrorCheckpointIO(pool, key)])``.

    Every path that Lightning names becomes a mirror, so that ``ckpt_path`` finds it again; no file is made. What looks
    for files finds none: ``ckpt_path="last"``, and ``LightningModule.load_from_checkpoint``.

    Args:
        pool: Where the checkpoints lie.
        key: The job's key.
        name: What the names of their mirrors begin with.
    """

    def __init__(self, pool: Pool, key: Key, *, name: str = "checkpoint") -> None:
        self._pool, self._key, self._name = pool, key, name

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object | None = None
    ) -> None:
        """Seals a checkpoint.

        Raises:
            ConfigError: It holds something that is neither a tensor nor plain, or options were given.
        """
        if storage_options is not None:
            raise ConfigError("storage_options: a checkpoint in a pool has none")
        write_tree(self._pool, self._key, self._mirror(path), checkpoint, int(checkpoint.get("global_step", 0)))

    def load_checkpoint(
        self, path: str | Path, map_location: object | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Opens a checkpoint; nothing in it is code, so ``weights_only`` changes nothing.

        Raises:
            ConfigError: There is no checkpoint of this path.
        """
        checkpoint = read_tree(self._pool, self._key, self._mirror(path))
        if not checkpoint:
            raise ConfigError(f"{self._pool.path}: the checkpoint {self._mirror(path)!r} was removed")
        return checkpoint

    def remove_checkpoint(self, path: str | Path) -> None:
        """Gives up a checkpoint and the space that it takes; its name stays in the pool."""
        write_tree(self._pool, self._key, self._mirror(path), {}, 0)

    def _mirror(self, path: str | Path) -> str:
        return f"{self._name}{os.path.realpath(path)}"
