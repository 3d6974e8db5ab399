"""The owner's signing identity: Ed25519 (RFC 8032). With it she signs what an enclave may believe."""

from __future__ import annotations

from typing import Final, NoReturn

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from plinius.errors import ConfigError
from plinius.files import new_file, read_private, wipe

_HEADER: Final = "plinius-signing-key-1"
_MAX_FILE_BYTES: Final = 4096
_SECRET_DIGITS: Final = 64
_FIELDS: Final = 3


class Identity:
    """A signing key. It shows its public half only.

    The library holds the secret, and gives it away as Python bytes that cannot be wiped: once when it is saved. Loading
    leaves one copy too.
    """

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private

    @classmethod
    def generate(cls) -> Identity:
        """Makes a new random identity."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: str) -> Identity:
        """Reads the file of an identity.

        Raises:
            ConfigError: There is no such file, it is no signing key, it was changed, or others may read it.
        """
        content = read_private(path, "signing key", _MAX_FILE_BYTES)
        try:
            fields = content.decode("ascii").split()
            if len(fields) != _FIELDS or fields[0] != _HEADER or len(fields[2]) != _SECRET_DIGITS:
                raise ConfigError(f"this is no signing key: {_HEADER}, its public and its secret half", path=path)
            identity = cls(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(fields[2])))
        except ValueError:  # not ASCII, or no hexadecimal digits; its text may quote the secret
            raise ConfigError("this is no signing key: it is not text of hexadecimal digits", path=path) from None
        finally:
            wipe(content)
        if identity.public.hex() != fields[1]:
            raise ConfigError("this signing key was changed: its public half is not that of its secret", path=path)
        return identity

    def save(self, path: str) -> None:
        """Writes a file that only its owner may read. An existing file is never overwritten.

        Raises:
            ConfigError: The file exists or cannot be written.
        """
        secret = self._private.private_bytes_raw().hex()
        with new_file(path) as file:
            file.write(f"{_HEADER}\n{self.public.hex()}\n{secret}\n".encode())

    def sign(self, message: bytes) -> bytes:
        """Signs a message: 64 bytes, the same for the same message."""
        return self._private.sign(message)

    @property
    def public(self) -> bytes:
        """The public half, 32 bytes."""
        return self._private.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"Identity(public={self.public.hex()})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an identity is never pickled or copied")
