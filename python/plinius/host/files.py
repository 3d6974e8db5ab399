"""The descriptors that the host hands to the enclave."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from plinius.errors import ConfigError, PoolBusy
from plinius.files import sync_folder
from plinius.pool_file import open_regular, refuse_other_file

_PATIENCE_S: Final = 3.0


@dataclass(frozen=True)
class Files:
    """Descriptors of pool (read and write), data and cfg (read); a job with a manifest needs no cfg, few need a TPM."""

    pool: int
    data: int
    cfg: int | None = None
    tpm: int | None = None


@contextmanager
def opened(pool: str, data: str, cfg: str | None, *, create_pool: bool, tpm: str | None = None) -> Iterator[Files]:
    """Opens the files.

    Args:
        pool: Created empty if there is none and `create_pool` says so, and then removed again if it stays empty.
        data: The sealed data set.
        cfg: The network; None: a manifest holds it.
        create_pool: Whether a new pool may be made.
        tpm: The TPM: its device, or a socket on which a software TPM takes commands.

    Raises:
        ConfigError: One of them is missing, not a regular file, or not permitted; or the pool is none.
    """
    with ExitStack() as stack:
        cfg_fd = None if cfg is None else stack.enter_context(_reading(cfg, "the cfg"))
        data_fd = stack.enter_context(_reading(data, "the sealed data set"))
        is_new = create_pool and not os.path.lexists(pool)
        pool_fd = stack.enter_context(_created(pool) if is_new else _existing(pool))
        refuse_other_file(pool_fd, pool, or_new=create_pool)
        tpm_fd = None if tpm is None else stack.enter_context(_connected_tpm(tpm))
        yield Files(pool_fd, data_fd, cfg_fd, tpm_fd)


@contextmanager
def _reading(path: str, what: str) -> Iterator[int]:
    descriptor = open_regular(path, os.O_RDONLY, what)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _connected_tpm(path: str) -> Iterator[int]:
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116 (the user's string)
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(path)
            descriptor = connection.detach()
        else:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"cannot open the TPM: {error.strerror}", path=path) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _created(path: str) -> Iterator[int]:
    """A new, empty pool. If nothing is written into it, the command failed before it began, and it is removed."""
    descriptor = open_regular(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, "the pool")
    try:
        sync_folder(os.path.dirname(path))  # noqa: PTH120 (the path is the user's string)
        _share(descriptor, path)
        yield descriptor
    finally:
        if _is_nobodys(path, descriptor):
            os.unlink(path)  # noqa: PTH108
        os.close(descriptor)


def _share(descriptor: int, path: str) -> None:
    """Waits only for what is over in a moment: a host that looks whether it may remove its pool."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                raise PoolBusy(f"{path}: another program has locked the pool's file; end it") from None
            time.sleep(0.02)


def _is_nobodys(path: str, descriptor: int) -> bool:
    """Whether the path still names this very file, and it is empty, and no other host has it open."""
    ours = os.fstat(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        named = os.stat(path)  # noqa: PTH116
    except OSError:
        return False
    return ours.st_size == 0 and (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino)


@contextmanager
def _existing(path: str) -> Iterator[int]:
    descriptor = open_regular(path, os.O_RDWR, "the pool")
    try:
        _share(descriptor, path)  # so that the host that created it does not remove it
        if os.fstat(descriptor).st_nlink == 0:
            raise ConfigError("the pool was removed while it was opened; run the command again", path=path)
        yield descriptor
    finally:
        os.close(descriptor)
