"""Key files of the owner: plain, or locked in the age format (https://age-encryption.org/v1) by the package pyrage.

What cannot be wiped: a passphrase and an age identity are Python strings; the text of a key passes through Python bytes
when it is locked, and when a passphrase unlocks it, but not when an identity does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from getpass import getpass
from typing import TYPE_CHECKING, Final

from plinius.errors import ConfigError
from plinius.files import new_file, read_private, wipe
from plinius.seal import Key

if TYPE_CHECKING:
    from types import ModuleType

# The header alone takes about 100 bytes for each recipient.
_MAX_FILE_BYTES: Final = 1 << 16
_MAX_KEY_BYTES: Final = 4096
_AGE: Final = (b"-----BEGIN AGE ENCRYPTED FILE-----", b"age-encryption.org/v1")
_IDENTITY: Final = "AGE-SECRET-KEY-1"


def ask_passphrase(*, twice: bool = False) -> str:
    """Asks for a passphrase: on the terminal, without echo; where standard input is no terminal, its next line.

    Args:
        twice: A new one: so that no typing error locks the key for ever.

    Raises:
        ConfigError: There is none, or the two differ.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        passphrase = sys.stdin.readline().rstrip("\r\n") if sys.stdin else ""
    else:
        passphrase = getpass("passphrase: ")
        if twice and getpass("the same again: ") != passphrase:
            raise ConfigError("the two passphrases differ; nothing was written")
    if not passphrase:
        raise ConfigError("there is no passphrase: type one, or give it as a line of standard input")
    return passphrase


def load_key(path: str, *, identity: str | None = None, passphrase: Callable[[], str] | None = ask_passphrase) -> Key:
    """Reads a key file, plain or locked.

    Args:
        path: The key file.
        identity: A file with an age identity that unlocks it.
        passphrase: Asked when it is locked by one; None where nobody can be asked.

    Raises:
        ConfigError: It is no key file, others may read it, or it is not unlocked.
    """
    text = read_private(path, "key file", _MAX_FILE_BYTES)
    if text.startswith(_AGE):
        text = _unlocked(path, bytes(text), identity, passphrase)
    try:
        return Key.parse(text)
    except ConfigError as error:
        raise ConfigError(str(error), path=path) from None


def save_key(key: Key, path: str, *, passphrase: str | None = None, recipients: Sequence[str] = ()) -> None:
    """Writes a locked key file that only its owner may read. An existing file is never overwritten.

    Args:
        key: The key.
        path: The file to make.
        passphrase: That locks it; or
        recipients: age recipients (``age1...``) that it is locked to.

    Raises:
        ConfigError: The file exists or cannot be written, or a recipient is malformed.
    """
    age = _age()
    text = key.core.expose()
    try:
        if passphrase is not None:
            locked = age.passphrase.encrypt(bytes(text), passphrase, armored=True)
        else:
            locked = age.encrypt(bytes(text), [_recipient(age, name) for name in recipients], armored=True)
    finally:
        wipe(text)
    with new_file(path) as file:
        file.write(locked)


def _unlocked(path: str, locked: bytes, identity: str | None, passphrase: Callable[[], str] | None) -> bytearray:
    age = _age()
    try:
        if identity is not None:
            return _opened(age, path, _identity(age, identity))
        if passphrase is None:
            raise ConfigError(
                "this key file is locked (age), and here it must be plain; see: plinius keygen", path=path
            )
        return bytearray(age.passphrase.decrypt(locked, passphrase()))
    except age.DecryptError as error:
        other = "this is not its passphrase" if identity is None else "this identity is none of its recipients"
        hint = "; is it locked to a recipient? then: --identity FILE" if identity is None else ""
        text = " ".join(str(error).split())
        raise ConfigError(f"the key file is not unlocked ({text}): {other}{hint}", path=path) from None


def _opened(age: ModuleType, path: str, identity: object) -> bytearray:
    """Unlocks into memory that the kernel wipes, and from there into memory that we do: no Python bytes on the way."""
    private = os.memfd_create("key", os.MFD_CLOEXEC)
    try:
        try:
            age.decrypt_file(path, f"/proc/self/fd/{private}", [identity])
        except OSError as error:
            raise ConfigError(f"cannot read the key file: {error.strerror}", path=path) from None
        text = bytearray(_MAX_KEY_BYTES)
        length = os.preadv(private, [text], 0)
        del text[length:]
        return text
    finally:
        os.close(private)


def _identity(age: ModuleType, path: str) -> object:
    content = read_private(path, "age identity", _MAX_FILE_BYTES)
    try:
        lines = content.decode("ascii", "replace").split()
    finally:
        wipe(content)
    for line in lines:
        if line.startswith(_IDENTITY):
            try:
                return age.x25519.Identity.from_str(line)
            except age.IdentityError:
                break
    raise ConfigError(f"there is no age identity in it (a line {_IDENTITY}...); make one with age-keygen", path=path)


def _recipient(age: ModuleType, name: str) -> object:
    try:
        return age.x25519.Recipient.from_str(name)
    except age.RecipientError as error:
        raise ConfigError(f"{name!r} is no age recipient (age1...): {error}") from None


def _age() -> ModuleType:
    try:
        import pyrage  # noqa: PLC0415 (only locked keys need it)
    except ImportError:
        raise ConfigError("locked key files need the package pyrage: pip install 'plinius[owner]'") from None
    module: ModuleType = pyrage
    return module
