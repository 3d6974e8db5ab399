"""The file in which a job's key rests on the untrusted machine, sealed to its TPM, beside the job's manifest."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from plinius.errors import ConfigError
from plinius.files import new_file, read_small

_MAX_BYTES: Final = 1 << 20


class _File(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    job: str
    manifest: bytes
    sealed_key: bytes


def recalled(path: str, job: str) -> tuple[bytes, bytes] | None:
    """The manifest and the sealed key of a job's file; None when there is no file yet.

    Raises:
        ConfigError: It cannot be read, or is another job's.
    """
    if not os.path.lexists(path):
        return None
    try:
        found = msgspec.msgpack.decode(read_small(path, _MAX_BYTES, "the kept key"), type=_File)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ConfigError(f"this is no kept key ({error}); remove it, and the broker is asked", path=path) from None
    if found.job != job:
        raise ConfigError(f"this is the kept key of the job {found.job!r}; name another file", path=path)
    return found.manifest, found.sealed_key


def store(path: str, job: str, manifest: bytes, sealed_key: bytes) -> None:
    """Writes the file, whole or not at all, in the place of an older one.

    Raises:
        ConfigError: It cannot be written.
    """
    made = f"{path}.new"
    Path(made).unlink(missing_ok=True)
    with new_file(made) as file:
        file.write(msgspec.msgpack.encode(_File(job, manifest, sealed_key)))
    os.replace(made, path)  # noqa: PTH105 (the user's string)
