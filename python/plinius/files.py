"""New files that appear whole or not at all, never over another one, and text that cannot command a terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from plinius.errors import ConfigError


@contextmanager
def new_file(path: str, mode: int = 0o600) -> Iterator[BinaryIO]:
    """Opens a file without a name; when the block ends well, it is durable and gets its name.

    A kill on the way leaves nothing behind.

    Raises:
        ConfigError: The file exists, or cannot be written.
    """
    _refuse_existing(path)
    try:
        with _opened_folder(os.path.dirname(path)) as folder:  # noqa: PTH120 (the path is the user's string)
            with os.fdopen(_unnamed(folder, mode), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                # With a folder's descriptor this is linkat, which follows /proc's link to the file itself.
                os.link(f"/proc/self/fd/{file.fileno()}", os.path.basename(path), dst_dir_fd=folder)  # noqa: PTH119
            os.fsync(folder)
    except FileExistsError:
        _refuse_existing(path)
    except OSError as error:
        raise ConfigError(f"cannot write: {error.strerror}", path=path) from None


def read_small(path: str, limit: int, what: str) -> bytes:
    """Reads a whole file that has at most `limit` bytes.

    Args:
        path: The file.
        limit: In bytes.
        what: What messages call it, such as "the cfg".

    Raises:
        ConfigError: It cannot be read, or is longer.
    """
    content = read_start(path, limit + 1, what)
    if len(content) > limit:
        raise ConfigError(f"{what} is too long: at most {limit} bytes", path=path)
    return content


def read_start(path: str, length: int, what: str) -> bytes:
    """Reads the first `length` bytes of a file, or as many as it has.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        # Non-blocking, so that a named pipe cannot hang us.
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123 (descriptor)
            return file.read(length) or b""
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        raise ConfigError(f"cannot read {what}: {reason(error)}", path=path) from None


def read_private(path: str, what: str, limit: int) -> bytearray:
    """Reads a file of secrets, which only its owner may open, into memory that the caller can and must wipe.

    Args:
        path: The file.
        what: What errors call it.
        limit: A longer one is something else.

    Raises:
        ConfigError: It cannot be read, others may read it, or it is too long.
    """
    content = bytearray(limit)
    try:
        # Non-blocking, so that a named pipe cannot hang us.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            mode = os.fstat(descriptor).st_mode
            length = os.readv(descriptor, [content])
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        raise ConfigError(f"cannot read the {what}: {reason(error)}", path=path) from None
    wrong = f"others may read this {what}; run: chmod 600 {path}" if mode & 0o077 else ""
    wrong = wrong or (f"this is no {what}: it is too long" if length == limit else "")
    if wrong:
        wipe(content)
        raise ConfigError(wrong, path=path)
    del content[length:]
    return content


def wipe(secret: bytearray) -> None:
    """Overwrites a secret in place."""
    secret[:] = bytes(len(secret))


def sync_folder(folder: str) -> None:
    """Makes the names in a folder durable."""
    with _opened_folder(folder) as descriptor:
        os.fsync(descriptor)


def _refuse_existing(path: str) -> None:
    if os.path.lexists(path):
        raise ConfigError("this file exists and is not overwritten; name another, or remove it first", path=path)


@contextmanager
def _opened_folder(folder: str) -> Iterator[int]:
    descriptor = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _unnamed(folder: int, mode: int) -> int:
    return os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, mode, dir_fd=folder)


def reason(error: Exception) -> str:
    """Why the system refused a file, without its name."""
    return getattr(error, "strerror", None) or str(error)


def harmless(text: str) -> str:
    """Text from anybody, in one line, with escapes in the place of what would command a terminal."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in line)


def shown_name(path: str) -> str:
    """What messages call a file: its name where that is text, else with escapes."""
    return os.fsencode(path).decode(errors="backslashreplace")
