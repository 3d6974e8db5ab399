"""Keras 3: a callback that mirrors after every batch, and a ``fit`` that goes on in the middle of an epoch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import keras

from plinius.errors import ConfigError
from plinius.frameworks.leaves import Abstract, array_of, bits_of, check_alike, processors, warn_of_differences
from plinius.mirror import Mirror
from plinius.pool import Pool
from plinius.seal import Key
from plinius.state.generators import global_sources


class MirrorCallback(keras.callbacks.Callback):
    """Mirrors model and optimizer into a pool after every batch of ``model.fit``.

    The state is all variables of the model (weights, moving averages, seed generators) and of its optimizer (also the
    iterations and the learning rate), and the number of batches behind them. Metrics are no state.

    Args:
        pool: Where the mirror lies.
        key: The job's key.
        name: Tells mirrors in one pool apart.
        every: It writes when the number of batches is a multiple of this, and when training ends.

    Attributes:
        step: How many batches the state has behind it.
    """

    def __init__(self, pool: Pool, key: Key, *, name: str, every: int = 1) -> None:
        super().__init__()
        self.step = 0
        self._variables = _Variables()
        self._mirror = Mirror(pool, key, name=name, every=every, variables=self._variables)
        self._batches = 0

    def restore(self, model: keras.Model) -> int | None:
        """Puts the newest generation into a model and its optimizer (mirror in).

        Args:
            model: Built and compiled.

        Returns:
            The number of batches that it has behind it, or None when the pool holds no mirror of this name.

        Raises:
            IntegrityError: Bytes were changed, or this is not their key.
            ConfigError: The model is not built, or its variables have other paths, shapes or dtypes.
            PoolError: The pool cannot be read.
        """
        self._variables.model = _ready(model)
        step = self._mirror.restore()
        self.step = step or 0
        return step

    def latest_step(self) -> int | None:
        """The number of batches of the newest durable generation, verified; None when there is none."""
        return self._mirror.latest_step()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 (Keras's signature)
        """Counts the batches of this epoch from 0."""
        self._batches = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Mirrors; what was trained is durable when this returns."""
        self.step += batch + 1 - self._batches  # several, where steps_per_execution is above 1
        self._batches = batch + 1
        self._save()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Mirrors the last batch of the training, whatever its number."""
        last = self.model.stop_training or epoch + 1 == self.params["epochs"]
        if last and self._mirror.latest_step() != self.step:
            self._save(force=True)

    def _save(self, *, force: bool = False) -> None:
        self._variables.model = self.model
        self._mirror.save(self.step, force=force)


def fit(
    model: keras.Model,
    data: Callable[[int], Any] | Any,
    *,
    mirror: MirrorCallback,
    steps_per_epoch: int,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **options: Any,
) -> None:
    """Trains from where the mirror is to the end, as one ``model.fit`` from the beginning would have done.

    An epoch that was broken off is finished by a ``model.fit`` of its own, so ``on_train_begin`` may come twice.

    Args:
        model: Restored by ``mirror.restore(model)``.
        data: Returns the batch of a step, counted from 0 over all epochs, and depends on nothing else; or a
            `tf.data.Dataset` that never ends and is the same each time that it is iterated.
        mirror: It comes after the other callbacks.
        steps_per_epoch: Batches an epoch; the same in every run.
        epochs: The number of the last epoch.
        callbacks: Others, which keep no state over epochs that would be missed.
        **options: What else ``model.fit`` takes.

    Raises:
        ConfigError: The model averages its weights, or an epoch is no whole number of executions.
    """
    _check(model, steps_per_epoch)
    options["shuffle"] = False
    epoch, batch = divmod(mirror.step, steps_per_epoch)
    if batch:
        rest = steps_per_epoch - batch
        _fit(model, _after(data, mirror.step), epoch, epoch + 1, rest, [*callbacks, mirror], options)
        epoch += 1
        if model.stop_training:
            return
    if epoch < epochs:
        _fit(
            model, _after(data, epoch * steps_per_epoch), epoch, epochs, steps_per_epoch, [*callbacks, mirror], options
        )


def _fit(
    model: keras.Model, data: Any, first: int, end: int, steps: int, callbacks: list[Any], options: dict[str, Any]
) -> None:
    callbacks = [_Undrawn(), *callbacks]
    model.fit(data, initial_epoch=first, epochs=end, steps_per_epoch=steps, callbacks=callbacks, **options)


class _Undrawn(keras.callbacks.Callback):
    """Undoes what making an iterator of the data draws, as torch's does: a resumed training makes another one."""

    def __init__(self) -> None:
        super().__init__()
        self._before = [(source, source.get()) for source in global_sources().values()]

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        while self._before:
            source, state = self._before.pop()
            source.put(state)


class _Batches(keras.utils.PyDataset):
    """The batches from a step on, without an end, so that Keras never starts over."""

    def __init__(self, batch_of: Callable[[int], Any], first: int) -> None:
        super().__init__()
        self._batch_of, self._first = batch_of, first

    num_batches = None

    def __getitem__(self, index: int) -> Any:
        return self._batch_of(self._first + index)


class _Variables:
    """The variables of a model and its optimizer, as a Mirror takes them."""

    def __init__(self) -> None:
        self.model: keras.Model | None = None

    def state_dict(self) -> dict[str, Any]:
        values = {
            path: (str(variable.dtype), keras.ops.convert_to_numpy(variable))
            for path, variable in _named(self.model).items()
        }
        saved = {path: {"dtype": dtype, "value": bits_of(value, path)} for path, (dtype, value) in values.items()}
        return {"environment": _environment(), "variables": saved}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        saved, variables = state["variables"], _named(self.model)
        then: dict[str, Abstract] = {path: (entry["value"].shape, entry["dtype"]) for path, entry in saved.items()}
        now: dict[str, Abstract] = {path: (tuple(v.shape), str(v.dtype)) for path, v in variables.items()}
        advice = "; keras.utils.clear_session() before the model is made lets Keras give the same names again"
        check_alike("the model", then, now, advice)
        warn_of_differences(state["environment"], _environment())
        for path, variable in variables.items():
            variable.assign(array_of(saved[path]["value"], saved[path]["dtype"]))


def _named(model: keras.Model) -> dict[str, Any]:
    """Returns all variables by path; Keras may give a path twice."""
    named: dict[str, Any] = {}
    for part, variables in (("model", model.variables), ("optimizer", model.optimizer.variables)):
        for variable in variables:
            path, copy = f"{part}/{variable.path}", 1
            while path in named:
                copy += 1
                path = f"{part}/{variable.path}#{copy}"
            named[path] = variable
    return named


def _ready(model: keras.Model) -> keras.Model:
    if not model.built or getattr(model, "optimizer", None) is None:
        raise ConfigError(
            f"{model.name}: the model has no variables yet that could be restored; give it an Input (or call build) "
            "and compile it with an optimizer"
        )
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return model


def _check(model: keras.Model, steps_per_epoch: int) -> None:
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if optimizer.use_ema:
        raise ConfigError(
            f"{model.name}: use_ema=True overwrites the weights at the end of every model.fit, and a resumed training "
            "has two; average them in a callback"
        )
    if steps_per_epoch % model.steps_per_execution:
        raise ConfigError(
            f"{steps_per_epoch} steps an epoch are no multiple of steps_per_execution={model.steps_per_execution}"
        )


def _after(data: Any, steps: int) -> Any:
    return _Batches(data, steps) if callable(data) else data.skip(steps)


def _environment() -> dict[str, str]:
    """Returns what the bits of a backend's results depend on besides its inputs."""
    backend = keras.backend.backend()
    module = import_module(backend)
    versions = {"keras": keras.__version__, backend: str(module.__version__)}
    facts = {"Keras backend": backend, "CPUs": processors(), **versions}
    if backend != "tensorflow":
        return facts
    threading = module.config.threading
    return facts | {
        "tensorflow threads": str(threading.get_intra_op_parallelism_threads()),
        "tensorflow interop threads": str(threading.get_inter_op_parallelism_threads()),
        "TF_ENABLE_ONEDNN_OPTS": os.environ.get("TF_ENABLE_ONEDNN_OPTS", ""),
    }
