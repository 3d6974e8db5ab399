"""The descriptors that the host hands to the enclave."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from plinius.errors import ConfigError


@dataclass(frozen=True)
class Files:
    """Descriptors of pool (read and write), data and cfg (read)."""

    pool: int
    data: int
    cfg: int


@contextmanager
def opened(pool: str, data: str, cfg: str, *, create_pool: bool) -> Iterator[Files]:
    """Opens the three files.

    Args:
        pool: Created empty if there is none and `create_pool` says so; removed again if it stays empty.
        data: The sealed data set.
        cfg: The network.
        create_pool: Whether a new pool may be made.

    Raises:
        ConfigError: One of them is missing, not a regular file, or not permitted.
    """
    with ExitStack() as stack:
        cfg_fd = _open(cfg, os.O_RDONLY, "the cfg")
        stack.callback(os.close, cfg_fd)
        data_fd = _open(data, os.O_RDONLY, "the sealed data set")
        stack.callback(os.close, data_fd)
        pool_fd = _open(pool, os.O_RDWR | (os.O_CREAT if create_pool else 0), "the pool")
        stack.callback(os.close, pool_fd)
        stack.callback(_remove_if_empty, pool, pool_fd)
        if create_pool:
            _sync_folder(pool)
        yield Files(pool_fd, data_fd, cfg_fd)


def _open(path: str, flags: int, what: str) -> int:
    try:
        # Non-blocking, so that a named pipe cannot hang us; it changes nothing for a regular file.
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot open {what}: {error.strerror}", path=path) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ConfigError(f"{what} must be a regular file", path=path)
    return descriptor


def _remove_if_empty(path: str, descriptor: int) -> None:
    """A pool that nothing was written into was created by us for a command that failed before it began."""
    if os.fstat(descriptor).st_size == 0:
        os.unlink(path)  # noqa: PTH108 (the path is the user's string)


def _sync_folder(path: str) -> None:
    descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # noqa: PTH120
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
