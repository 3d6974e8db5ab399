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
        pool: Created empty if there is none and `create_pool` says so, and then removed again if it stays empty.
        data: The sealed data set.
        cfg: The network.
        create_pool: Whether a new pool may be made.

    Raises:
        ConfigError: One of them is missing, not a regular file, or not permitted; or the pool is needed and empty.
    """
    with ExitStack() as stack:
        cfg_fd = _open(cfg, os.O_RDONLY, "the cfg")
        stack.callback(os.close, cfg_fd)
        data_fd = _open(data, os.O_RDONLY, "the sealed data set")
        stack.callback(os.close, data_fd)
        is_new = create_pool and not os.path.lexists(pool)
        pool_fd = stack.enter_context(_created(pool) if is_new else _existing(pool))
        if not create_pool and os.fstat(pool_fd).st_size == 0:
            raise ConfigError("this pool is empty; run: plinius train", path=pool)
        yield Files(pool_fd, data_fd, cfg_fd)


@contextmanager
def _created(path: str) -> Iterator[int]:
    """A new, empty pool. If nothing is written into it, the command failed before it began, and it is removed."""
    descriptor = _open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, "the pool")
    try:
        _sync_folder(path)
        yield descriptor
    finally:
        if os.fstat(descriptor).st_size == 0:
            os.unlink(path)  # noqa: PTH108 (the path is the user's string)
        os.close(descriptor)


@contextmanager
def _existing(path: str) -> Iterator[int]:
    descriptor = _open(path, os.O_RDWR, "the pool")
    try:
        yield descriptor
    finally:
        os.close(descriptor)


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


def _sync_folder(path: str) -> None:
    descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # noqa: PTH120
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
