"""Key files, and that a key shows itself nowhere."""

from __future__ import annotations

import copy
import ctypes
import os
import pickle
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from plinius import Key
from plinius.errors import ConfigError
from plinius.seal import CIPHERS, key_custody, take


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "job.key"


def saved(path: Path) -> str:
    Key.generate().save(path)
    return path.read_text()


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        Key.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("cipher", CIPHERS)
def test_a_key_comes_back_from_its_file(path: Path, cipher: str) -> None:
    key = Key.generate(cipher)
    key.save(path)
    again = Key.load(path)
    assert (again.id, again.cipher) == (key.id, cipher)
    assert again.core.commitment(bytes(32)) == key.core.commitment(bytes(32))


def test_keys_differ(path: Path) -> None:
    keys = [Key.generate() for _ in range(20)]
    assert len({key.id for key in keys}) == 20
    assert len({bytes(key.core.commitment(bytes(32))) for key in keys}) == 20


def test_a_key_file_is_its_owners_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        Key.generate().save(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_is_never_overwritten(path: Path) -> None:
    text = saved(path)
    with pytest.raises(ConfigError, match="not overwritten"):
        Key.generate().save(path)
    assert path.read_text() == text
    link = path.with_name("link")
    link.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(ConfigError, match="not overwritten"):
        Key.generate().save(link)
    assert not path.with_name("elsewhere").exists()


def test_a_file_that_cannot_be_written_whole_is_not_left_behind(path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))
    try:
        with pytest.raises(ConfigError, match="cannot write"):
            Key.generate().save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not path.exists()


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing/job\.key: cannot write"):
        Key.generate().save(tmp_path / "missing" / "job.key")


def test_what_is_no_key_file_is_named(path: Path) -> None:
    assert "No such file" in refusal(path)
    path.write_bytes(b"")
    path.chmod(0o600)
    assert "does not begin" in refusal(path)
    path.write_bytes(bytes(5000))
    assert "too long" in refusal(path)
    path.write_bytes(b"\xff\xfe")
    assert "not text" in refusal(path)


def test_a_directory_is_no_key_and_leaves_no_descriptor_open(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    assert "Is a directory" in refusal(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


@pytest.mark.timeout(10)
def test_a_named_pipe_does_not_hang(path: Path) -> None:
    os.mkfifo(path, 0o600)
    refusal(path)
    reader = os.open(path, os.O_RDWR)  # now it has a writer, who says nothing
    try:
        refusal(path)
    finally:
        os.close(reader)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666, 0o610])
def test_a_key_file_that_others_may_open_is_refused(path: Path, mode: int) -> None:
    saved(path)
    path.chmod(mode)
    assert f"chmod 600 {path}" in refusal(path)


def test_every_changed_byte_and_every_cut_is_refused(path: Path) -> None:
    text = saved(path).encode()
    for at in range(len(text)):
        for mask in (1, 0x20, 0x80):
            path.write_bytes(text[:at] + bytes([text[at] ^ mask]) + text[at + 1 :])
            secret = text.split()[-1].decode()
            assert secret not in refusal(path)
        if at < len(text) - 1:
            path.write_bytes(text[:at])
            refusal(path)
    path.write_bytes(text + b"more")
    refusal(path)


def test_an_unknown_cipher_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'aes-512'.*aes-128-gcm"):
        Key.generate("aes-512")


def test_a_key_shows_its_id_only(path: Path) -> None:
    secret = saved(path).split()[-1]
    key = Key.load(path)
    shown = f"{key!r} {key!s} {key.core!r} {vars(key)} {dir(key)}"
    assert key.id in shown
    assert secret not in shown


@pytest.mark.parametrize("attempt", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_key_is_not_pickled_or_copied(attempt: object) -> None:
    key = Key.generate()
    for one in (key, key.core):
        with pytest.raises(TypeError, match="never pickled"):
            attempt(one)  # type: ignore[operator]


def test_parsing_wipes_the_text(path: Path) -> None:
    text = bytearray(saved(path).encode())
    Key.parse(text)
    assert not any(text)
    wrong = bytearray(b"plinius-key-1 aes-128-gcm 00 " + b"ab" * 32)
    with pytest.raises(ConfigError):
        Key.parse(wrong)
    assert not any(wrong)


# Custody.


def test_a_key_is_kept_as_well_as_the_kernel_can() -> None:
    memfd_secret = 447
    descriptor = ctypes.CDLL(None).syscall(memfd_secret, os.O_CLOEXEC)
    if descriptor < 0:
        assert key_custody() in ("locked", "plain")
        pytest.skip("this kernel has no memfd_secret")
    os.close(descriptor)
    assert {key_custody(), Key.generate().custody} == {"memfd_secret"}


WITHOUT_LOCKED_MEMORY = """
import os, resource
from plinius.seal import Key
resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, 4096))
if os.geteuid() == 0:
    os.setuid(65534)  # root may lock without limit
keys = [Key.generate() for _ in range(3)]
print(*(key.custody for key in keys))
assert len({key.id for key in keys}) == 3
del keys[0]
print(Key.generate().custody)
"""


def test_a_process_that_may_lock_no_more_keeps_its_keys_plain_and_says_so() -> None:
    command = [sys.executable, "-I", "-c", WITHOUT_LOCKED_MEMORY]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    three, again = done.stdout.splitlines()
    best = key_custody()
    assert three.split() == [best, "plain", "plain"]
    assert again == best  # the first one's page was given back


FORKING = """
import os
from plinius.seal import Key
key = Key.generate()
commitment = bytes(key.core.commitment(bytes(32)))
child = os.fork()
if not child:
    same = bytes(key.core.commitment(bytes(32))) == commitment
    del key  # wipes it, were it the child's to wipe
    os._exit(not same)
assert os.waitpid(child, 0)[1] == 0
assert bytes(key.core.commitment(bytes(32))) == commitment
"""


def test_a_forked_worker_has_its_parents_key_and_cannot_spoil_it() -> None:
    subprocess.run([sys.executable, "-I", "-c", FORKING], check=True)


SECRET = bytes(range(256)) * 4


@pytest.mark.parametrize("way", ["taken", "copied"])
def test_taking_wipes_the_bytes(way: str) -> None:
    """Those that were copied only are still there: so the test looks in the right place."""
    places = []

    def returned() -> bytes:
        secret = bytes(bytearray(SECRET))
        places.append(id(secret) + bytes.__basicsize__ - 1)
        return secret

    taken = take(returned()) if way == "taken" else bytearray(returned())
    assert taken == SECRET
    # The memory was freed just now; the allocator writes a few words into it.
    assert (SECRET[512:576] in ctypes.string_at(places[0], len(SECRET))) == (way == "copied")


def test_what_somebody_else_holds_is_not_taken() -> None:
    held = bytes(bytearray(SECRET))
    for hold in (lambda: held, lambda: b"a constant of this function"):
        before = bytes(bytearray(hold()))
        with pytest.raises(RuntimeError, match="held by somebody else"):
            take(hold())
        assert hold() == before

    class Special(bytes):
        pass

    with pytest.raises(RuntimeError):
        take(Special(SECRET))


def test_bytes_that_python_shares_stay_as_they_are() -> None:
    for shared in (b"", b"x"):
        try:
            taken = take(bytes(bytearray(shared)))
        except RuntimeError:
            continue  # it counts all who share it
        assert taken == shared
    assert (bytes(bytearray(b"")), bytes(bytearray(b"x"))) == (b"", b"x")
