"""New files that appear whole or not at all, never over another one, and text that cannot command a terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from plinius.errors import ConfigError


@contextmanager
def new_file(path: str, mode: int = 0o600) -> Iterator[BinaryIO]:
    """Opens a file without a name; when the block ends well, it is durable and gets its name.

    A kill on the way leaves nothing behind.

    Raises:
        ConfigError: The file exists, or cannot be written.
    """
    folder = str(Path(path).parent)
    _refuse_existing(path)
    try:
        with os.fdopen(_unnamed(folder, mode), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.link(f"/proc/self/fd/{file.fileno()}", path, follow_symlinks=True)
        sync_folder(folder)
    except FileExistsError:
        _refuse_existing(path)
    except OSError as error:
        raise ConfigError(f"cannot write: {error.strerror}", path=path) from None


def _refuse_existing(path: str) -> None:
    if os.path.lexists(path):
        raise ConfigError("this file exists and is not overwritten; name another, or remove it first", path=path)


def _unnamed(folder: str, mode: int) -> int:
    return os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, mode)


def sync_folder(folder: str) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def reason(error: Exception) -> str:
    """Why the system refused a file, without its name."""
    return getattr(error, "strerror", None) or str(error)


def harmless(text: str) -> str:
    """Text from anybody, in one line, with escapes in the place of what would command a terminal."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in line)
