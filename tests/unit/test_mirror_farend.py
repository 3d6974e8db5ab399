"""Where drained generations lie: folders and URLs, and the file as it is documented."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from draining import drained, restored
from fsspec.registry import known_implementations
from plinius import Key
from plinius.errors import ConfigError, PoolError
from plinius.mirror import farend
from plinius.mirror.draining import newest_drained
from small_training import NAME, entry_of, trained

NO_FSSPEC = """
import sys
sys.modules["fsspec"] = None
from plinius.mirror.draining import drain, fetch, newest_drained
from plinius.pool import Pool
with Pool(sys.argv[1]) as pool:
    drain(pool, "net", sys.argv[2])
    try:
        drain(pool, "net", "memory://x")
    except Exception as error:
        print(type(error).__name__, error)
with Pool(sys.argv[1] + ".fetched") as pool:
    fetch(sys.argv[2], pool, "net")
assert not [name for name in sys.modules if name.startswith(("plinius.seal", "plinius.state", "cryptography", "torch"))]
"""


def test_a_folder_needs_no_fsspec_and_none_of_it_a_key(path: Path, key: Key, tmp_path: Path) -> None:
    saved = trained(path, key, 1)
    command = [sys.executable, "-c", NO_FSSPEC, path, tmp_path / "far"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.startswith("ConfigError memory://x: a URL needs fsspec: pip install")
    assert restored(path.with_name("job.pool.fetched"), key) == (1, saved)


@pytest.mark.parametrize("url", ["nosuch://x", "absent://bucket/x", ""])
def test_a_url_that_cannot_be_used(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = {"class": "no_such_package.FileSystem", "err": "install it"}  # as s3 is where s3fs is not installed
    monkeypatch.setitem(known_implementations, "absent", absent)
    with pytest.raises(ConfigError):
        newest_drained(url, NAME)


def test_a_password_in_a_url_is_not_shown() -> None:
    assert farend.far_end("memory://user:secret@host/x").name == "memory://host/x"


def test_a_file_is_on_the_disk_before_it_has_its_name_and_then_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, int]] = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append({it.name: it.stat().st_size for it in tmp_path.iterdir()}))
    with farend.far_end(tmp_path).create("a") as file:
        file.write(b"x" * 10)
    assert [list(found.values()) for found in seen] == [[10], [10]]
    assert ["a" in found for found in seen] == [False, True]


def test_a_place_that_is_a_file(path: Path, key: Key, tmp_path: Path) -> None:
    trained(path, key, 1)
    (tmp_path / "far").write_bytes(b"")
    with pytest.raises(PoolError, match=f"{tmp_path}/far: cannot list it: Not a directory"):
        drained(path, str(tmp_path / "far"))


def test_the_file_is_as_documented(path: Path, key: Key, tmp_path: Path) -> None:
    """Read with nothing but the design document."""
    trained(path, key, 2)
    file = drained(path, str(tmp_path)).file
    content = (tmp_path / file).read_bytes()
    magic, version, head_bytes, count, total = struct.unpack_from("<8sIIQQ", content)
    assert (magic, version, total) == (b"PLINGEN\0", 1, len(content))
    head = msgspec.msgpack.decode(content[32 : 32 + head_bytes])
    (generation,) = head[4]
    assert sorted(generation[4]) == list(range(count))
    lengths = struct.unpack_from(f"<{count}Q", content, 32 + head_bytes)
    at = 32 + head_bytes + 8 * count
    for (offset, length), expected in zip(entry_of(path)[1], lengths, strict=True):
        assert length == expected
        assert content[at : at + length] == path.read_bytes()[offset : offset + length]
        at += length
    assert content[at:] == hashlib.sha256(content[:at]).digest()
    assert file == f"net-{2:020d}-{2:020d}-{head[1].hex()}.plinius"
