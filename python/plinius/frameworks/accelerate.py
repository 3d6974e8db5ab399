"""A mirror for Hugging Face's Accelerate: `save_state` and `load_state` use a pool, and write no file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accelerate import Accelerator
from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import SequentialSampler

from plinius import Key, Mirror, Pool
from plinius.errors import ConfigError
from plinius.state.generators import keep_while_iterating_anew

_SAMPLERS = (SeedableRandomSampler, SequentialSampler)
"""Samplers whose order follows from a seed and the epoch."""


class AcceleratorMirror:
    """Mirrors what an accelerator has prepared, and the objects that were registered for checkpointing.

    Args:
        accelerator: After its ``prepare``.
        pool: Where the mirror lies.
        key: The job's key.
        name: Tells mirrors in one pool apart.

    Raises:
        ConfigError: Something of it could not go on exactly.
    """

    def __init__(self, accelerator: Accelerator, pool: Pool, key: Key, name: str) -> None:
        _check(accelerator)
        self._loaders = list(accelerator._dataloaders)
        self.mirror = Mirror(
            pool,
            key,
            name=name,
            models=list(accelerator._models),
            optimizers=[optimizer.optimizer for optimizer in accelerator._optimizers],
            schedulers=[scheduler.scheduler for scheduler in accelerator._schedulers],
            loaders=[_Loader(loader) for loader in self._loaders],
            scaler=accelerator.scaler,
            registered=list(accelerator._custom_objects),
            progress=_Progress(accelerator),
        )

    def save(self, step: int) -> bool:
        """Mirrors out, as `Mirror.save`."""
        return self.mirror.save(step)

    def restore(self) -> int | None:
        """Mirrors in, as `Mirror.restore`."""
        step = self.mirror.restore()
        if step is not None:
            for loader in self._loaders:
                keep_while_iterating_anew(loader.base_dataloader, [])
        return step

    def save_state(self, output_dir: object = None, **_: Any) -> None:
        """Stands for `Accelerator.save_state`: mirrors out, counting the saves; no folder is made."""
        latest = self.mirror.latest_step()
        self.save(0 if latest is None else latest + 1)

    def load_state(self, input_dir: object = None, **_: Any) -> None:
        """Stands for `Accelerator.load_state`.

        Raises:
            ConfigError: The pool holds no mirror of this name.
        """
        if self.restore() is None:
            raise ConfigError(f"load_state: the pool holds no mirror {self.mirror.name!r} yet")


def register(accelerator: Accelerator, pool: Pool, key: Key, *, name: str = "accelerate") -> AcceleratorMirror:
    """Lets an accelerator's ``save_state`` and ``load_state`` use a mirror.

    Accelerate's own pre-hooks could keep models out of its files, but neither optimizers nor schedulers nor
    generators, which it pickles; so the two methods of this accelerator are replaced.

    Args:
        accelerator: After its ``prepare``.
        pool: Where the mirror lies.
        key: The job's key.
        name: Tells mirrors in one pool apart.

    Returns:
        The mirror, to save under step numbers of one's own.
    """
    mirrored = AcceleratorMirror(accelerator, pool, key, name)
    accelerator.save_state = mirrored.save_state
    accelerator.load_state = mirrored.load_state
    return mirrored


class _Loader:
    """A prepared loader, which is one batch ahead of what it has given out; its state is not."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def state_dict(self) -> dict[str, Any]:
        """Returns the position, the epoch, and the seed that the order is shuffled by."""
        return {
            "position": self._loader.state_dict(),
            "epoch": self._loader.iteration + self._loader.end_of_dataloader,
            "seed": getattr(self._loader.get_sampler(), "initial_seed", None),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts the loader there."""
        self._loader.load_state_dict(state["position"])
        self._loader.iteration = state["epoch"]
        if state["seed"] is not None:
            self._loader.get_sampler().initial_seed = state["seed"]


class _Progress:
    """The accelerator's own count, by which it knows when to synchronize accumulated gradients."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator

    def state_dict(self) -> dict[str, int]:
        """Returns the count."""
        return {"step": self._accelerator.step}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Sets the count."""
        self._accelerator.step = state["step"]


def _check(accelerator: Accelerator) -> None:
    if accelerator.num_processes > 1 or str(accelerator.distributed_type) != "DistributedType.NO":
        raise ConfigError(f"{accelerator.distributed_type}: a mirror of Accelerate is of a training of one process")
    if not accelerator._models:
        raise ConfigError("nothing is prepared yet: register the mirror after accelerator.prepare(...)")
    for loader in accelerator._dataloaders:
        stateful = getattr(loader, "use_stateful_dataloader", False)
        if not stateful or not isinstance(loader.get_sampler(), _SAMPLERS):
            raise ConfigError(
                "a loader would forget its position or its order; use Accelerator(dataloader_config="
                "DataLoaderConfiguration(use_stateful_dataloader=True, use_seedable_sampler=True))"
            )
