"""The trained model in a pool, for inference and export."""

from __future__ import annotations

import warnings

from plinius.darknet.cfg import Config
from plinius.darknet.training import MIRROR_NAME, Training, digest
from plinius.errors import ConfigError, IntegrityError
from plinius.mirror import ExactnessWarning, Mirror, read_facts
from plinius.pool import PoolFile
from plinius.seal import Key


def restore_model(
    config: Config, cfg: bytes, pool: PoolFile, key: Key, step: int | None = None
) -> tuple[Training, int]:
    """Restores the newest mirrored state of a training job, or that of a step which the pool keeps.

    Args:
        config: The network.
        cfg: The bytes that it was parsed from.
        pool: Where the job is.
        key: The job's key.
        step: Of a kept generation; None is the newest.

    Returns:
        The training, and the step that it has behind it.

    Raises:
        ConfigError: There is no job in the pool, it has another cfg, or the step is not kept.
        IntegrityError: The key is not the job's, or the pool was changed.
    """
    facts = read_facts(pool, key, MIRROR_NAME, step)
    if facts is None:
        raise ConfigError(f"{pool.path}: there is no trained model in this pool; run: plinius train")
    if facts.get("cfg") != digest(cfg):
        raise ConfigError("this is not the cfg of the job in the pool", path=config.path)
    training = Training.start(config, seed=0)
    mirror = Mirror(pool, key, name=MIRROR_NAME, **training.state)
    with warnings.catch_warnings():
        # A model that is only used does not train on, so how it would train on does not matter.
        warnings.simplefilter("ignore", ExactnessWarning)
        restored = mirror.restore(step)
    if restored is None or mirror.restored_facts != facts:
        raise IntegrityError(f"{pool.path}: the pool was changed while it was read")
    return training, restored
