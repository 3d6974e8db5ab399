"""`plinius export`: the trained model of a pool, in the clear, for its owner."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Final

from plinius.darknet import parse, weights
from plinius.darknet.model import restore_model
from plinius.errors import ConfigError
from plinius.files import new_file, read_small
from plinius.mirror import RollbackWarning
from plinius.owner.keyfile import load_key
from plinius.pool import Pool
from plinius.pool_file import require_pool

FORMATS: Final = (".weights", ".safetensors")
_MAX_CFG_BYTES: Final = 1 << 20


def export(
    cfg_path: str, pool_path: str, key_path: str, output: str, step: int | None = None, identity: str | None = None
) -> int:
    """Writes the model to a file.

    Args:
        cfg_path: The job's cfg.
        pool_path: The pool, which nobody else uses now.
        key_path: The job's key file.
        output: ``.weights`` (Darknet) or ``.safetensors``; an existing file is not overwritten.
        step: Of a generation that the pool keeps; None is the newest.
        identity: A file with the age identity that unlocks the key file.

    Returns:
        The step that the model has behind it.

    Raises:
        PliniusError: A file cannot be used, or the pool was changed.
    """
    suffix = Path(output).suffix
    if suffix not in FORMATS:
        raise ConfigError(f"export to a name that ends in {' or '.join(FORMATS)}", path=output)
    if Path(output).exists():
        raise ConfigError("this file exists; name another, or remove it first", path=output)
    require_pool(pool_path)
    key = load_key(key_path, identity=identity)
    cfg = read_cfg(cfg_path)
    config = parse(cfg, cfg_path)
    with Pool(pool_path) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore", RollbackWarning)  # the command says it in words
        training, exported = restore_model(config, cfg, pool, key, step)
    if suffix == ".weights":
        content = weights.write(training.network, seen=exported * config.net.batch)
    else:
        from safetensors.torch import save  # noqa: PLC0415 (only this format needs it)

        content = save({name: tensor.contiguous() for name, tensor in training.network.state_dict().items()})
    with new_file(output) as file:  # readable by its owner only: it holds the weights in the clear
        file.write(content)
    return exported


def read_cfg(path: str) -> bytes:
    """Reads a network's description.

    Raises:
        ConfigError: It cannot be read, or is far too long.
    """
    return read_small(path, _MAX_CFG_BYTES, "the cfg")
