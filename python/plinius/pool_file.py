"""Telling a pool from other files by how it begins. Nothing that opens pools is needed for it."""

from __future__ import annotations

import os
import stat
from typing import Final

from plinius.errors import ConfigError

_MAGIC: Final = b"PLINIUS\0"
_BEGINNINGS: Final = (_MAGIC, b"PLINEW\0\0", bytes(8))
"""Of a pool, and of one whose creation was cut: opening begins it again."""


def require_pool(path: str, *, or_new: bool = False) -> None:
    """Refuses what is no pool, before anything is done with it; that a pool is whole, its opening finds.

    Args:
        path: The file.
        or_new: A pool may be made where there is no file, or an empty one.

    Raises:
        ConfigError: It is no pool, or cannot be read.
    """
    if or_new and not os.path.exists(path):  # noqa: PTH110 (the user's string)
        return
    descriptor = open_regular(path, os.O_RDONLY, "the pool")
    try:
        refuse_other_file(descriptor, path, or_new=or_new)
    finally:
        os.close(descriptor)


def refuse_other_file(descriptor: int, path: str, *, or_new: bool) -> None:
    """The same for a file that is open.

    Raises:
        ConfigError: It is no pool.
    """
    beginning = os.pread(descriptor, len(_MAGIC), 0)
    if not beginning and not or_new:
        raise ConfigError("this file is empty, and no pool yet; run: plinius train", path=path)
    if beginning and beginning not in _BEGINNINGS:
        other = ", or a path where there is no file yet" if or_new else ""
        raise ConfigError(f"this is not a pool: it does not begin as one; name a pool{other}", path=path)


def is_pool(content: bytes) -> bool:
    """Whether a file is a whole pool or the rest of one, by its beginning."""
    return content.startswith(_MAGIC)


def open_regular(path: str, flags: int, what: str) -> int:
    """Opens a regular file, or makes it, for its owner only.

    Args:
        path: The file.
        flags: Of the system's open.
        what: What messages call it.

    Raises:
        ConfigError: It is something else, or cannot be opened.
    """
    try:
        # Non-blocking, so that a named pipe cannot hang us; it changes nothing for a regular file.
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot open {what}: {error.strerror}", path=path) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ConfigError(f"{what} must be a regular file", path=path)
    return descriptor
