"""Locked key files and the signing identity."""

from __future__ import annotations

import copy
import io
import os
import pickle
import stat
import sys
from pathlib import Path
from types import ModuleType

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from plinius import Key
from plinius.errors import ConfigError
from plinius.owner import keyfile
from plinius.owner.identity import Identity
from plinius.owner.keyfile import ask_passphrase, load_key, save_key

PASSPHRASE = "correct horse"  # noqa: S105 (of a test)


@pytest.fixture
def age() -> ModuleType:
    return pytest.importorskip(
        "pyrage", reason="locked key files need the package pyrage: pip install 'plinius[owner]'"
    )


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "job.key")


def identity_file(age: ModuleType, folder: Path, name: str = "identity") -> tuple[str, str]:
    """An age identity as age-keygen writes it, and its recipient."""
    identity = age.x25519.Identity.generate()
    file = folder / name
    file.write_text(f"# created: 2026-01-01\n# public key: {identity.to_public()}\n{identity}\n")
    file.chmod(0o600)
    return str(file), str(identity.to_public())


def refusal(path: str, **options: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load_key(path, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def secret(key: Key) -> bytes:
    return bytes(key.core.expose())


def test_a_plain_key_opens_as_before(path: str) -> None:
    key = Key.generate("aes-256-gcm")
    key.save(path)
    assert secret(load_key(path)) == secret(key)


@pytest.mark.usefixtures("age")
def test_a_passphrase_locks_and_unlocks(path: str) -> None:
    key = Key.generate()
    save_key(key, path, passphrase=PASSPHRASE)
    content = Path(path).read_bytes()
    assert content.startswith(b"-----BEGIN AGE ENCRYPTED FILE-----")
    assert secret(key).split()[-1] not in content
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600  # noqa: PTH116
    assert secret(load_key(path, passphrase=lambda: PASSPHRASE)) == secret(key)
    message = refusal(path, passphrase=lambda: "wrong horse")
    assert "not its passphrase" in message
    assert "wrong horse" not in message


def test_each_recipient_unlocks_and_nobody_else(age: ModuleType, path: str, tmp_path: Path) -> None:
    made = [identity_file(age, tmp_path, name) for name in ("one", "two", "other")]
    key = Key.generate()
    save_key(key, path, recipients=[recipient for _, recipient in made[:2]])
    for file, _ in made[:2]:
        assert secret(load_key(path, identity=file)) == secret(key)
    assert "none of its recipients" in refusal(path, identity=made[2][0])
    assert "--identity FILE" in refusal(path, passphrase=lambda: "x")


def test_other_programs_read_it_and_it_reads_theirs(age: ModuleType, path: str, tmp_path: Path) -> None:
    """Both forms of the age format, armored or not."""
    file, recipient = identity_file(age, tmp_path)
    key = Key.generate()
    parsed = age.x25519.Recipient.from_str(recipient)
    Path(path).write_bytes(age.encrypt(secret(key), [parsed]))
    Path(path).chmod(0o600)
    assert secret(load_key(path, identity=file)) == secret(key)
    armored = tmp_path / "armored"
    save_key(key, str(armored), recipients=[recipient])
    identity = age.x25519.Identity.from_str(Path(file).read_text().split()[-1])
    assert age.decrypt(armored.read_bytes(), [identity]) == secret(key)


@pytest.mark.usefixtures("age")
def test_every_changed_byte_of_a_locked_file_is_refused(age: ModuleType, path: str, tmp_path: Path) -> None:
    file, recipient = identity_file(age, tmp_path)
    locked = age.encrypt(secret(Key.generate()), [age.x25519.Recipient.from_str(recipient)])
    for at in range(len(locked)):
        Path(path).write_bytes(locked[:at] + bytes([locked[at] ^ 1]) + locked[at + 1 :])
        Path(path).chmod(0o600)
        refusal(path, identity=file)


def test_where_nobody_can_be_asked_a_locked_key_is_refused(age: ModuleType, path: str) -> None:
    save_key(Key.generate(), path, passphrase=PASSPHRASE)
    assert "must be plain" in refusal(path, passphrase=None)


def test_what_is_wrong_is_named(age: ModuleType, path: str, tmp_path: Path) -> None:
    file, recipient = identity_file(age, tmp_path)
    key = Key.generate()
    with pytest.raises(ConfigError, match="'age1wrong' is no age recipient"):
        save_key(key, path, recipients=["age1wrong"])
    assert not Path(path).exists()
    save_key(key, path, recipients=[recipient])
    with pytest.raises(ConfigError, match="not overwritten"):
        save_key(key, path, recipients=[recipient])
    Path(file).chmod(0o644)
    assert f"chmod 600 {file}" in refusal(path, identity=file)
    Path(file).write_text("AGE-SECRET-KEY-1XYZ\n")
    Path(file).chmod(0o600)
    message = refusal(path, identity=file)
    assert "no age identity" in message
    assert "XYZ" not in message
    Path(path).chmod(0o640)
    assert f"chmod 600 {path}" in refusal(path, identity=file)


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setitem(sys.modules, "pyrage", None)
    with pytest.raises(ConfigError, match=r"pip install 'plinius\[owner\]'"):
        save_key(Key.generate(), path, passphrase=PASSPHRASE)


def test_an_identity_unlocks_without_python_bytes(
    age: ModuleType, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The functions that return the plaintext as bytes are not called."""
    file, recipient = identity_file(age, tmp_path)
    key = Key.generate()
    save_key(key, path, recipients=[recipient])
    monkeypatch.setattr(age, "decrypt", None)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    assert secret(load_key(path, identity=file)) == secret(key)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_passphrase_is_asked_twice_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    answers = iter(["a", "a", "a", "b", "c", ""])
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(keyfile, "getpass", lambda prompt: asked.append(prompt) or next(answers))
    assert ask_passphrase(twice=True) == "a"
    assert len(asked) == 2
    with pytest.raises(ConfigError, match="differ"):
        ask_passphrase(twice=True)
    assert ask_passphrase() == "c"
    with pytest.raises(ConfigError, match="no passphrase"):
        ask_passphrase()


def test_a_passphrase_is_a_line_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("with spaces \nmore"))
    assert ask_passphrase(twice=True) == "with spaces "
    for nothing in (io.StringIO(""), io.StringIO("\n"), None):
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(ConfigError, match="no passphrase"):
            ask_passphrase()


def test_an_identity_signs_and_comes_back(path: str) -> None:
    identity = Identity.generate()
    identity.save(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600  # noqa: PTH116
    assert Path(path).read_text().startswith("plinius-signing-key-1\n")
    again = Identity.load(path)
    assert again.public == identity.public
    assert again.sign(b"manifest") == identity.sign(b"manifest")
    public = Ed25519PublicKey.from_public_bytes(identity.public)
    public.verify(identity.sign(b"manifest"), b"manifest")
    with pytest.raises(InvalidSignature):
        public.verify(identity.sign(b"manifest"), b"manifesto")
    with pytest.raises(ConfigError, match="not overwritten"):
        identity.save(path)


def test_every_changed_byte_and_every_cut_of_an_identity_is_refused(path: str) -> None:
    Identity.generate().save(path)
    text = Path(path).read_bytes()
    for at in range(len(text) - 1):
        changes = [text[:at] + bytes([text[at] ^ mask]) + text[at + 1 :] for mask in (1, 0x80)] + [text[:at]]
        for changed in changes:
            Path(path).write_bytes(changed)
            with pytest.raises(ConfigError) as caught:
                Identity.load(path)
            assert text.split()[-1].decode() not in str(caught.value)


def test_an_identity_file_that_others_may_read_is_refused(path: str) -> None:
    Identity.generate().save(path)
    Path(path).chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        Identity.load(path)
    with pytest.raises(ConfigError, match="cannot read the signing key"):
        Identity.load(path + "x")


def test_an_identity_shows_its_public_half_only(path: str) -> None:
    identity = Identity.generate()
    identity.save(path)
    private = Path(path).read_text().split()[-1]
    shown = f"{identity!r} {identity!s} {vars(identity)}"
    assert identity.public.hex() in shown
    assert private not in shown
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled"):
            attempt(identity)
