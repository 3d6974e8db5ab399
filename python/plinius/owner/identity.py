"""The owner's signing identity: Ed25519 (RFC 8032). With it she signs what an enclave may believe."""

from __future__ import annotations

from typing import Final, NoReturn

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from plinius.errors import ConfigError
from plinius.files import new_file, read_private, wipe

_HEADER: Final = "plinius-signing-key-1"
_MAX_FILE_BYTES: Final = 4096
_LINES: Final = 3


class Identity:
    """A signing key. It shows its public half only.

    The library holds the secret. Saving and loading leave it, as text, in Python memory that cannot be wiped.
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
            header, _, secret = content.decode("ascii").split("\n")[:_LINES]
            if header != _HEADER:
                raise ConfigError(f"this is no signing key: it does not begin with {_HEADER}", path=path)
            identity = cls(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret)))
            if identity._text() != content:
                raise ConfigError("this signing key was changed: it is not what its secret half gives", path=path)
        except ValueError:  # its own text might quote the secret
            raise ConfigError(
                "this is no signing key: it is cut, or no text of hexadecimal digits", path=path
            ) from None
        finally:
            wipe(content)
        return identity

    def save(self, path: str) -> None:
        """Writes a file that only its owner may read. An existing file is never overwritten.

        Raises:
            ConfigError: The file exists or cannot be written.
        """
        with new_file(path) as file:
            file.write(self._text())

    def sign(self, message: bytes) -> bytes:
        """Signs a message: 64 bytes, the same for the same message."""
        return self._private.sign(message)

    @property
    def public(self) -> bytes:
        """The public half, 32 bytes."""
        return self._private.public_key().public_bytes_raw()

    def _text(self) -> bytes:
        return f"{_HEADER}\n{self.public.hex()}\n{self._private.private_bytes_raw().hex()}\n".encode()

    def __repr__(self) -> str:
        return f"Identity(public={self.public.hex()})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an identity is never pickled or copied")
