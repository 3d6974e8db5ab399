"""Keys: made, read and written without leaving a copy of a secret in Python's memory."""

from __future__ import annotations

import os
from typing import Final, NoReturn

from plinius import _core
from plinius.errors import ConfigError
from plinius.files import new_file, read_private, wipe

CIPHERS: Final = ("aes-128-gcm", "aes-192-gcm", "aes-256-gcm")

take: Final = _core.take
"""Moves a secret that a library returned as bytes into a bytearray, and wipes them: ``take(library.decrypt(...))``.

It takes nothing but the result of a call: what a variable holds too, somebody could read afterwards.

Raises:
    RuntimeError: Somebody else holds the bytes.
"""

key_custody: Final = _core.key_custody
"""How well this process keeps a key that it makes now: ``memfd_secret``, ``locked`` or ``plain`` (docs/design.md)."""

# A key file has about a hundred bytes; what is larger is something else.
_MAX_FILE_BYTES: Final = 4096


class Key:
    """A job key. The core holds the secret and wipes it; this object shows its public id only."""

    def __init__(self, core: _core.Key) -> None:
        self.core = core

    @classmethod
    def generate(cls, cipher: str = "aes-128-gcm") -> Key:
        """Makes a new random key.

        Args:
            cipher: One of ``aes-128-gcm`` (as in the paper), ``aes-192-gcm``, ``aes-256-gcm``.

        Raises:
            ConfigError: The cipher is none of these.
        """
        if cipher not in CIPHERS:
            raise ConfigError(f"there is no cipher {cipher!r}; choose one of {', '.join(CIPHERS)}")
        return cls(_core.Key.generate(cipher))

    @classmethod
    def parse(cls, text: bytearray) -> Key:
        """Reads the text of a key file and wipes it.

        Raises:
            ConfigError: The text is not a key.
        """
        return cls(_core.Key.parse(text))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Key:
        """Reads a key file.

        Raises:
            ConfigError: There is no such file, it is not a key, or others may read it.
        """
        name = os.fspath(path)
        text = read_private(name, "key file", _MAX_FILE_BYTES)
        try:
            return cls.parse(text)
        except ConfigError as error:
            raise ConfigError(str(error), path=name) from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a key file that only its owner may read. An existing file is never overwritten.

        Raises:
            ConfigError: The file exists or cannot be written.
        """
        text = self.core.expose()
        try:
            with new_file(os.fspath(path)) as file:
                file.write(text)
        finally:
            wipe(text)

    @property
    def id(self) -> str:
        """The public id, 16 hexadecimal digits: the same for the same secret and cipher."""
        return bytes(self.core.id).hex()

    @property
    def cipher(self) -> str:
        """The cipher of everything that is sealed with this key."""
        return self.core.cipher

    @property
    def custody(self) -> str:
        """How well the core keeps the secret: ``memfd_secret``, ``locked`` or ``plain``."""
        return self.core.custody

    def anchor_auth(self, job_id: bytes) -> bytes:
        """What proves the possession of this key to an anchor of a job: 32 bytes, derived one way, secret."""
        return bytes(self.core.anchor_auth(job_id))

    def __repr__(self) -> str:
        return f"Key(id={self.id}, cipher={self.cipher})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is never pickled or copied")
