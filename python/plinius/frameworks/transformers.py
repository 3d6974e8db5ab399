"""A mirror for Hugging Face's `Trainer`: `train()` goes on after the last durable optimizer step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import Trainer
from transformers.trainer_callback import ExportableState

from plinius import Key, Mirror, Pool
from plinius.errors import ConfigError
from plinius.state.generators import Source, global_sources

_MIRROR = "(a plinius mirror)"
"""Stands where `Trainer` expects a checkpoint's folder; no file is looked for in it."""
_STATE = (
    *("epoch", "global_step", "num_input_tokens_seen", "total_flos", "log_history"),
    *("best_metric", "best_global_step", "best_model_checkpoint"),
)
_LOSSES = ("_tr_loss", "_globalstep_last_logged")


class MirrorMixin(Trainer):
    """Lets a trainer mirror after each optimizer step: ``class Mine(MirrorMixin, Seq2SeqTrainer)``.

    A step becomes durable when what follows it (logging, evaluation) is done, the last one of an epoch at the epoch's
    end. ``train()`` without ``resume_from_checkpoint`` goes on where the mirror is.

    Args:
        args: As the trainer's.
        pool: Where the mirror lies.
        key: The job's key.
        mirror_name: Tells mirrors in one pool apart.
        mirror_every: Mirrors when the step is a multiple of this.
        kwargs: As the trainer's.

    Attributes:
        mirror: The mirror, while training.
    """

    def __init__(
        self, *args: Any, pool: Pool, key: Key, mirror_name: str = "trainer", mirror_every: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._mirror_options: dict[str, Any] = {"name": mirror_name, "every": mirror_every}
        self._pool, self._key = pool, key
        self._mirrored_generators: list[tuple[Source, Any]] = []
        self._steps_an_epoch = 0
        self._progress = _Progress(self)
        self.mirror: Mirror | None = None
        if self.args.world_size > 1 or self.is_deepspeed_enabled or self.is_fsdp_enabled:
            raise ConfigError("several processes, DeepSpeed or FSDP: MirrorMixin mirrors a training of one process")

    def _inner_training_loop(
        self,
        batch_size: int | None = None,
        args: Any = None,
        resume_from_checkpoint: str | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> Any:
        if resume_from_checkpoint is not None:
            raise ConfigError("resume_from_checkpoint: a mirrored trainer goes on where its mirror is")
        if args is not None and args.auto_find_batch_size:
            raise ConfigError("auto_find_batch_size: a mirrored trainer needs the same batches in every life")
        return super()._inner_training_loop(batch_size, args, _MIRROR, trial, ignore_keys_for_eval)

    def _init_training_state(
        self, max_steps: int, num_update_steps_per_epoch: int, *args: Any, **kwargs: Any
    ) -> tuple[int, int]:
        super()._init_training_state(max_steps, num_update_steps_per_epoch, *args, **kwargs)
        self._steps_an_epoch = num_update_steps_per_epoch
        with Mirror(self._pool, self._key, **self._mirror_options, position={}) as mirror:
            step = mirror.latest_step() or 0
        self.state.global_step = step
        epoch, in_epoch = divmod(step, num_update_steps_per_epoch)
        return epoch, in_epoch * self.args.gradient_accumulation_steps

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        prepared = super()._prepare_for_training(*args, **kwargs)
        self._progress = _Progress(self)
        self.mirror = Mirror(
            self._pool,
            self._key,
            **self._mirror_options,
            model=self.model,
            optimizer=self.optimizer.optimizer,
            scheduler=self.lr_scheduler,
            scaler=self.accelerator.scaler,
            progress=self._progress,
        )
        step = self.mirror.restore() or 0
        if step != self.state.global_step:
            raise ConfigError(f"the mirror {self.mirror.name!r} was written to by another job while this one began")
        self._mirrored_generators = [(source, source.get()) for source in global_sources().values()]
        return prepared

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if resume_from_checkpoint != _MIRROR:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint != _MIRROR:
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Puts the generators back to where they were, after batches were skipped and iterators made."""
        if checkpoint != _MIRROR:
            super()._load_rng_state(checkpoint)
            return
        for source, state in self._mirrored_generators:
            source.put(state)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if self.state.global_step >= self.state.max_steps:  # it was over already, in the middle of this epoch
            return
        for name, value in self._progress.take_losses().items():
            setattr(self, name, value)  # the trainer set it to zero meanwhile
        super()._run_epoch(*args, **kwargs)
        self._mirror_out()

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        super()._maybe_log_save_evaluate(*args, **kwargs)
        stops = self.control.should_epoch_stop or self.control.should_training_stop
        if not stops and self.state.global_step % self._steps_an_epoch:  # else the epoch's end follows
            self._mirror_out()

    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:
        self._mirror_out(force=True)
        done = super()._finalize_training(*args, **kwargs)
        if self.mirror is not None:
            self.mirror.close()
        return done

    def _mirror_out(self, *, force: bool = False) -> None:
        step = self.state.global_step
        if self.mirror is not None and step > (self.mirror.latest_step() or 0):
            self.mirror.save(step, force=force)


class MirrorTrainer(MirrorMixin, Trainer):
    """`Trainer` with a mirror."""


class _Progress:
    """How far a trainer is: its state, its callbacks, and the losses that it has not logged yet."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._losses: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """Returns what the trainer would write into a checkpoint's ``trainer_state.json``, and the losses."""
        trainer = self._trainer
        state = {name: getattr(trainer.state, name) for name in _STATE}
        state["total_flos"] += trainer.current_flos
        callbacks = [[type(it).__name__, it.state()["attributes"]] for it in self._callbacks()]
        return {"state": state, "callbacks": callbacks, "losses": {name: getattr(trainer, name) for name in _LOSSES}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts the trainer there; the losses wait for `take_losses`."""
        callbacks = self._callbacks()
        saved, here = [name for name, _ in state["callbacks"]], [type(it).__name__ for it in callbacks]
        if saved != here:
            raise ConfigError(f"callbacks with a state: {saved} then, {here} now")
        vars(self._trainer.state).update(state["state"])
        for callback, (_, attributes) in zip(callbacks, state["callbacks"], strict=True):
            vars(callback).update(attributes)
        self._losses = dict(state["losses"])

    def take_losses(self) -> dict[str, Any]:
        """Returns the restored losses, once."""
        losses, self._losses = self._losses, {}
        return losses

    def _callbacks(self) -> list[Any]:
        return [it for it in self._trainer.callback_handler.callbacks if isinstance(it, ExportableState)]
