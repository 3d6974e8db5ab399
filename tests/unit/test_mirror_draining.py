"""Draining and fetching: what comes back, what is refused, and what a reader of the far end may see."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from draining import drained, fetched, files, restored, train_on
from plinius import Key, Pool, _pm
from plinius.errors import ConfigError, PoolError
from plinius.mirror.draining import drain, fetch, newest_drained
from small_training import NAME, Training, entry_of, head_of, rewrite_head, trained


@pytest.fixture(params=["folder", "file", "memory", "local"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A folder that is not there yet, and the same by URLs."""
    kinds = {
        "folder": str(tmp_path / "a" / "far"),
        "file": f"file://{tmp_path}/far",
        "memory": "memory://far/end",
        "local": f"local://{tmp_path}/far",
    }
    yield kinds[request.param]
    fsspec.filesystem("memory").store.clear()


def test_what_was_drained_comes_back_to_the_very_same_bits(path: Path, key: Key, folder: Path, url: str) -> None:
    saved = trained(path, key, 3)
    one = drained(path, url)
    assert (one.version, one.step, one.name) == (3, 3, NAME)
    assert newest_drained(url, NAME) == one
    path.unlink()
    assert fetched(url, path, key) == (3, saved)
    assert train_on(path, key, 4, 6) == trained(folder / "straight.pool", key, 6)


def test_the_last_two_are_kept_and_names_are_in_their_order(path: Path, key: Key, folder: Path, url: str) -> None:
    trained(path, key, 8)
    names = []
    for last in (9, 10, 11, 100):
        saved = train_on(path, key, (last if last < 100 else 12), last)
        names.append(drained(path, url).file)
        assert files(url) == names[-2:]
    assert fetched(url, folder / "new.pool", key) == (100, saved)


def test_draining_again_changes_nothing(path: Path, key: Key, tmp_path: Path) -> None:
    trained(path, key, 1)
    drained(path, str(tmp_path))
    before = [(entry.name, entry.stat().st_ino) for entry in os.scandir(tmp_path)]
    drained(path, str(tmp_path))
    assert before == [(entry.name, entry.stat().st_ino) for entry in os.scandir(tmp_path)]


def test_the_place_has_nothing(path: Path, url: str) -> None:
    assert newest_drained(url, NAME) is None
    with Pool(path) as pool:
        with pytest.raises(PoolError, match="there is no drained generation of a mirror 'net'"):
            fetch(url, pool, NAME)
        with pytest.raises(PoolError, match=f"{path}: there is no mirror 'net'"):
            drain(pool, NAME, url)


def test_a_pool_that_has_the_mirror_is_refused(path: Path, key: Key, url: str) -> None:
    saved = trained(path, key, 2)
    drained(path, url)
    with Pool(path) as pool, pytest.raises(PoolError, match=f"{path}: there is a mirror 'net' already"):
        fetch(url, pool, NAME)
    assert restored(path, key) == (2, saved)


def test_mirrors_share_a_place(path: Path, key: Key, folder: Path, url: str) -> None:
    names = ["net", "net/2", "n%65t", "ünïcode name", "..", "net-00000000000000000001"]
    saved = {name: trained(path, key, 1, name=name, seed=index) for index, name in enumerate(names)}
    with Pool(path) as pool:
        for name in names:
            drain(pool, name, url)
    assert len(files(url)) == len(names)
    for name in names:
        with Pool(folder / "other.pool") as pool:
            assert fetch(url, pool, name).name == name
        training = Training(folder / "other.pool", key, seed=77, name=name)
        assert training.restore() == 1
        assert training.contents() == saved[name]
        training.close()


def test_a_name_that_no_file_can_have(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too long for the name of a file"):
        newest_drained(str(tmp_path), "ü" * 60)


def test_an_older_pool_does_not_push_out_what_is_newer(path: Path, key: Key, url: str) -> None:
    trained(path, key, 2)
    old = path.read_bytes()
    train_on(path, key, 3, 3)
    drained(path, url)
    path.write_bytes(old)
    with pytest.raises(
        PoolError, match=r"a newer generation \(version 3, step 3\) than the pool's \(version 2, step 2\)"
    ):
        drained(path, url)
    train_on(path, key, 3, 3)  # another version 3 of the same job
    with pytest.raises(PoolError, match="version 3 there is not the pool's"):
        drained(path, url)
    train_on(path, key, 4, 4)
    assert drained(path, url).step == 4


def test_an_earlier_step_of_the_same_version_does_not_push_out_what_is_there(path: Path, key: Key, url: str) -> None:
    trained(path, key, 2)
    old = path.read_bytes()
    training = Training(path, key)
    training.restore()
    training.mirror.save(5)
    training.close()
    drained(path, url)
    path.write_bytes(old)
    train_on(path, key, 3, 3)
    with pytest.raises(
        PoolError, match=r"a newer generation \(version 3, step 5\) than the pool's \(version 3, step 3\)"
    ):
        drained(path, url)


def test_another_job_does_not_push_out_what_is_there(path: Path, key: Key, folder: Path, url: str) -> None:
    saved = trained(path, key, 2)
    drained(path, url)
    trained(folder / "other.pool", key, 3, seed=3)
    with pytest.raises(PoolError, match="generations of another job"):
        drained(folder / "other.pool", url)
    assert fetched(url, folder / "back.pool", key) == (2, saved)


def test_two_jobs_at_a_place_are_nobodys_newest(path: Path, key: Key, folder: Path, tmp_path: Path) -> None:
    for index in (1, 2):
        trained(folder / f"{index}.pool", key, 1, seed=index)
        drained(folder / f"{index}.pool", str(tmp_path / str(index)))
    for file in (tmp_path / "1").iterdir():
        file.rename(tmp_path / "2" / file.name)
    with pytest.raises(PoolError, match="generations of several jobs"):
        newest_drained(str(tmp_path / "2"), NAME)


def test_only_the_newest_generation_is_drained(path: Path, key: Key, folder: Path, tmp_path: Path) -> None:
    saved = trained(path, key, 1)
    count = len(entry_of(path)[1])

    def keep_two(head: list[object]) -> None:
        newest = head[4][0]  # type: ignore[index]
        head[4].append([*newest[:4], [count, *newest[4][1:]]])  # type: ignore[attr-defined]

    rewrite_head(path, keep_two)
    drained(path, str(tmp_path))
    assert fetched(str(tmp_path), folder / "new.pool", key) == (1, saved)
    assert len(head_of(folder / "new.pool").generations) == 1
    assert len(entry_of(folder / "new.pool")[1]) == count


def test_a_reader_never_sees_half_and_a_failed_drain_leaves_nothing(
    path: Path, key: Key, folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = trained(path, key, 1)
    drained(path, url)
    train_on(path, key, 2, 2)
    read, reads = _pm.read_extent, []

    def look_and_fail_at_last(*arguments: object) -> None:
        reads.append(fetched(url, folder / "seen.pool", key))
        if len(reads) == 10:
            raise PoolError("the medium failed")
        read(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(_pm, "read_extent", look_and_fail_at_last)
    with pytest.raises(PoolError, match="the medium failed"):
        drained(path, url)
    assert reads == [(1, saved)] * 10
    assert len(files(url)) == 1


def test_a_save_in_the_midst_is_found(path: Path, key: Key, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training(path, key)
    training.train(1, 1)
    read, saved = _pm.read_extent, []

    def read_then_save(*arguments: object) -> None:
        if not saved:
            saved.append(True)
            training.train(2, 2)
        read(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(_pm, "read_extent", read_then_save)
    with pytest.raises(PoolError, match="was saved while it was drained"):
        drain(training.pool, NAME, url)
    assert files(url) == []
    assert drain(training.pool, NAME, url).step == 2
