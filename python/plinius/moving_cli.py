"""The commands that carry ciphertext: `plinius move`, `drain` and `fetch`. The host runs them; no key is near."""

from __future__ import annotations

import os
from typing import Annotated

from cyclopts import Parameter

from plinius.options import Json
from plinius.streams import answer

Name = Annotated[str, Parameter(help="Which mirror of the pool.")]


def move(source: str, target: str, /, *, name: Name = "training", json: Json = False) -> None:
    """Copy a mirror with all generations that it keeps to another pool; no key is needed.

    A pool that already has such a mirror is refused. The source is left as it is: when training goes on from the
    target, remove it, so that nobody goes on from both.

    Args:
        source: The pool that has the mirror.
        target: The pool that gets it; made when there is none.
    """
    from plinius.errors import ConfigError
    from plinius.mirror.moving import move_mirror
    from plinius.pool import Pool
    from plinius.pool_file import require_pool

    require_pool(source)
    require_pool(target, or_new=True)
    if os.path.exists(target) and os.path.samefile(source, target):  # noqa: PTH110, PTH121 (the user's strings)
        raise ConfigError("source and target are the same pool", path=target)
    with Pool(source) as there, Pool(target) as here:
        moved = move_mirror(there, here, name)
    written = moved.newest.written
    facts = {"name": name, "step": written.step, "version": written.version, "bytes": sum(moved.lengths)}
    answer(json, facts, f"step {written.step} of mirror {name} is durable in {target}; {source} still has it too")


def drain(pool: str, url: str, /, *, name: Name = "training", json: Json = False) -> None:
    """Copy the newest state of a pool to another place, encrypted as it is; no key is needed.

    The place keeps the last two, each in a file that appears whole. It never takes an older state than it has, nor that
    of another job.

    Args:
        pool: The pool.
        url: A folder, made when there is none, or a URL that fsspec knows (s3://..., sftp://...).
    """
    from plinius.mirror.draining import drain as run
    from plinius.pool import Pool
    from plinius.pool_file import require_pool

    require_pool(pool)
    with Pool(pool) as opened:
        drained = run(opened, name, url)
    facts = {"name": name, "step": drained.step, "version": drained.version, "file": drained.file}
    answer(json, facts, f"step {drained.step} of mirror {name} is at {url}: {drained.file}")


def fetch(url: str, pool: str, /, *, name: Name = "training", json: Json = False) -> None:
    """Fill a pool with the newest state that was drained to a place; no key is needed.

    A pool that already has such a mirror is refused. Whether the bytes are genuine is found when training goes on.

    Args:
        url: Where it was drained to: a folder, or a URL that fsspec knows.
        pool: The pool; made when there is none.
    """
    from plinius.errors import PoolError
    from plinius.mirror.draining import fetch as run
    from plinius.mirror.draining import newest_drained
    from plinius.pool import Pool
    from plinius.pool_file import require_pool

    require_pool(pool, or_new=True)
    if newest_drained(url, name) is None:  # before a pool is made for nothing
        raise PoolError(f"{url}: there is no drained generation of a mirror {name!r}")
    with Pool(pool) as opened:
        drained = run(url, opened, name)
    facts = {"name": name, "step": drained.step, "version": drained.version, "pool": pool}
    answer(json, facts, f"step {drained.step} of mirror {name} is durable in {pool}")
