"""New files, text for terminals, and which empty pool a host may remove."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from plinius import files
from plinius.errors import ConfigError
from plinius.files import harmless, new_file, read_private, read_small
from plinius.host.files import opened


@pytest.fixture
def inputs(folder: Path) -> tuple[str, str, str]:
    """Paths of a pool that is not there yet, of data and of a cfg."""
    for name in ("data", "cfg"):
        (folder / name).write_bytes(b"x")
    return str(folder / "pool"), str(folder / "data"), str(folder / "cfg")


def test_a_new_file_has_its_name_only_when_it_is_whole(folder: Path) -> None:
    with new_file(str(folder / "new")) as file:
        file.write(b"half")
        assert list(folder.iterdir()) == []
    assert (folder / "new").read_bytes() == b"half"


def test_a_failure_on_the_way_leaves_nothing(folder: Path) -> None:
    def fail() -> None:
        with new_file(str(folder / "new")) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(folder.iterdir()) == []


def test_a_file_that_appears_meanwhile_is_kept(folder: Path) -> None:
    def be_late() -> None:
        with new_file(str(folder / "new")) as file:
            file.write(b"ours")
            (folder / "new").write_bytes(b"theirs")

    with pytest.raises(ConfigError, match="exists"):
        be_late()
    assert (folder / "new").read_bytes() == b"theirs"


def test_a_file_of_the_longest_length_is_read_and_no_longer_one(folder: Path) -> None:
    path = folder / "small"
    path.write_bytes(b"x" * 100)
    assert read_small(str(path), 100, "the cfg") == b"x" * 100
    with pytest.raises(ConfigError, match="the cfg is too long: at most 99 bytes"):
        read_small(str(path), 99, "the cfg")


def test_a_file_of_secrets_that_is_cut_by_the_limit_is_refused(folder: Path) -> None:
    path = folder / "key"
    path.write_bytes(b"x" * 100)
    path.chmod(0o600)
    assert read_private(str(path), "key file", 101) == b"x" * 100
    with pytest.raises(ConfigError, match="this is no key file: it is too long"):
        read_private(str(path), "key file", 100)


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o604, 0o601])
def test_a_file_of_secrets_that_others_may_use_is_refused_and_wiped(
    folder: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    path = folder / "key"
    path.write_bytes(b"x" * 100)
    path.chmod(mode)
    wiped: list[bytearray] = []
    monkeypatch.setattr(files, "wipe", wiped.append)
    with pytest.raises(ConfigError, match="others may read this key file"):
        read_private(str(path), "key file", 101)
    assert [content[:100] for content in wiped] == [b"x" * 100]


def test_text_commands_no_terminal() -> None:
    assert harmless("a\x1b]0;owned\x07\x1b[2J\nb") == "a\\x1b]0;owned\\x07\\x1b[2J b"


def test_a_pool_that_stayed_empty_is_removed(inputs: tuple[str, str, str]) -> None:
    with opened(*inputs, create_pool=True):
        assert Path(inputs[0]).exists()
    assert not Path(inputs[0]).exists()


def test_an_empty_pool_that_another_host_has_open_stays(inputs: tuple[str, str, str]) -> None:
    with opened(*inputs, create_pool=True) as first:
        later = opened(*inputs, create_pool=True)
        second = later.__enter__()
        assert first.pool != second.pool
    assert Path(inputs[0]).exists()
    later.__exit__(None, None, None)


def test_a_pool_that_was_moved_into_place_stays(inputs: tuple[str, str, str]) -> None:
    backup = Path(inputs[0]).with_name("backup")
    backup.write_bytes(b"a good pool")
    with opened(*inputs, create_pool=True):
        backup.rename(inputs[0])
    assert Path(inputs[0]).read_bytes() == b"a good pool"


def test_a_pool_that_its_host_removes_while_it_is_opened_is_not_used(
    inputs: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(inputs[0]).write_bytes(b"")
    monkeypatch.setattr(fcntl, "flock", lambda *_: Path(inputs[0]).unlink())
    with pytest.raises(ConfigError, match="removed while it was opened"), opened(*inputs, create_pool=True):
        pass
