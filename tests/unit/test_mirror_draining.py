"""Draining and fetching: what comes back, what is refused, and what a reader of the far end may see."""

from __future__ import annotations

import hashlib
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import fsspec
import msgspec
import numpy as np
import pytest
from fsspec.registry import known_implementations
from plinius import Key, Mirror, Pool, _pm
from plinius.errors import ConfigError, IntegrityError, PliniusError, PoolCorrupt, PoolError, PoolFull
from plinius.mirror import ciphertext, farend
from plinius.mirror.drained import Drained
from plinius.mirror.drainer import Drainer
from plinius.mirror.draining import drain, fetch, newest_drained
from small_training import NAME, Training, entry_of, flip, head_of, rewrite_head, trained

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
UNCLOSED = """
import sys
from plinius.mirror.drainer import Drainer
from plinius.pool import Pool
Drainer(Pool(sys.argv[1]), "net", sys.argv[2]).offer()
"""


@pytest.fixture
def key() -> Key:
    return Key.generate()


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "job.pool"


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


def drained(path: Path, url: str) -> Drained:
    with Pool(path) as pool:
        return drain(pool, NAME, url)


def restored(path: Path, key: Key) -> tuple[int | None, tuple[object, ...]]:
    training = Training(path, key, seed=9)
    try:
        return training.restore(), training.contents()
    finally:
        training.close()


def fetched(url: str, path: Path, key: Key) -> tuple[int | None, tuple[object, ...]]:
    path.unlink(missing_ok=True)
    with Pool(path) as pool:
        fetch(url, pool, NAME)
    return restored(path, key)


def files(url: str) -> list[str]:
    return sorted(farend.far_end(url).files())


def train_on(path: Path, key: Key, first: int, last: int) -> tuple[object, ...]:
    training = Training(path, key)
    assert training.restore() == first - 1
    training.train(first, last)
    training.close()
    return training.contents()


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


def test_a_damaged_file_is_written_again_from_the_pool(path: Path, key: Key, folder: Path, tmp_path: Path) -> None:
    saved = trained(path, key, 1)
    file = tmp_path / drained(path, str(tmp_path)).file
    file.write_bytes(file.read_bytes()[:-7])
    drained(path, str(tmp_path))
    assert fetched(str(tmp_path), folder / "new.pool", key) == (1, saved)


def test_what_a_cut_drain_left_is_removed_by_the_next(path: Path, key: Key, tmp_path: Path) -> None:
    trained(path, key, 1)
    whole = drained(path, str(tmp_path)).file
    (tmp_path / f"{whole}.0123abcd.part").write_bytes(b"half")
    (tmp_path / "somebody's own").write_bytes(b"x")
    assert newest_drained(str(tmp_path), NAME) is not None
    train_on(path, key, 2, 2)
    drained(path, str(tmp_path))
    assert sorted(f.endswith(".plinius") for f in files(str(tmp_path))) == [False, True, True]


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


def test_a_byte_that_was_flipped_in_the_pool_is_carried_and_found(
    path: Path, key: Key, folder: Path, tmp_path: Path
) -> None:
    trained(path, key, 1)
    flip(path, entry_of(path)[1][2][0])
    drained(path, str(tmp_path))
    with pytest.raises(IntegrityError):
        fetched(str(tmp_path), folder / "new.pool", key)


def test_a_pool_without_room_is_as_it_was(path: Path, key: Key, folder: Path, tmp_path: Path) -> None:
    trained(path, key, 1, width=400)
    drained(path, str(tmp_path))
    with Pool(folder / "small.pool", max_bytes=5 << 20) as pool:
        with pytest.raises(PoolFull):
            fetch(str(tmp_path), pool, NAME)
        assert pool.core.entries() == []
        assert pool.verify() == []


@pytest.mark.parametrize("job_id", [b"", bytes(15), bytes(17)])
def test_a_head_whose_job_has_no_file_name_is_not_drained(path: Path, key: Key, tmp_path: Path, job_id: bytes) -> None:
    trained(path, key, 1)
    rewrite_head(path, lambda head: head.__setitem__(1, job_id))
    with Pool(path) as pool, pytest.raises(PoolCorrupt, match="the head of a mirror is damaged"):
        drain(pool, NAME, tmp_path / "far")
    assert not (tmp_path / "far").exists()


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


# The drainer, with a far end that can be held up and can fail.


class SlowFolder(farend._Folder):
    """A folder to which nothing is written unless it is let through."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.begun, self.through = threading.Semaphore(0), threading.Semaphore(0)
        self.fails = False

    @contextmanager
    def create(self, file: str) -> Iterator[BinaryIO]:
        self.begun.release()
        assert self.through.acquire(timeout=30)
        if self.fails:
            raise PoolError("the far end is gone")
        with super().create(file) as to:
            yield to


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlowFolder:
    folder = SlowFolder(str(tmp_path / "far"))
    monkeypatch.setattr("plinius.mirror.drainer.far_end", lambda url: folder)
    return folder


class PinningTraining(Training):
    """A training whose saves keep what is being drained, as a mirror that drains does."""

    drainer: Drainer

    def save(self, step: int) -> None:
        """Commits inside of `still`, with the pinned extents behind its own."""
        self.step()
        drainer, reserve = self.drainer, self.pool.reserve

        class Reserved:
            def __init__(self) -> None:
                self._reserved = reserve()

            def __getattr__(self, name: str) -> object:
                return getattr(self._reserved, name)

            def commit(self, name: str, meta: bytes, extents: list[tuple[int, int]]) -> None:
                with drainer.still() as pinned:
                    kept = [one for one in (pinned.extents if pinned else ()) if one not in extents]
                    self._reserved.commit(name, meta, [*extents, *kept])

        self.pool.reserve = Reserved  # type: ignore[method-assign, assignment]
        try:
            self.mirror.save(step)
        finally:
            del self.pool.reserve
        drainer.offer()


@pytest.fixture
def training(path: Path, key: Key, slow: SlowFolder) -> PinningTraining:
    training = PinningTraining(path, key)
    training.drainer = Drainer(training.pool, NAME, "unused")
    return training


def test_saves_go_on_while_a_drain_runs_and_the_newest_wins(
    training: PinningTraining, slow: SlowFolder, key: Key, folder: Path
) -> None:
    training.save(1)
    first = training.contents()
    assert slow.begun.acquire(timeout=10)
    pinned = training.drainer.pinned
    assert pinned is not None
    assert pinned.newest.written.step == 1
    occupied = []
    for step in range(2, 8):
        training.save(step)
        occupied.append(training.pool.bytes - training.pool.free_bytes)
        assert training.drainer.pinned == pinned
        assert ciphertext.still_there(training.pool, NAME, pinned)
    assert len(set(occupied)) == 1, "one generation more while draining, however many saves"
    slow.through.release()
    assert slow.begun.acquire(timeout=10)
    assert fetched(slow.name, folder / "first.pool", key) == (1, first)
    slow.through.release()
    training.drainer.wait()
    drained = training.drainer.drained
    assert drained is not None
    assert drained.step == 7, "steps 2 to 6 were passed over"
    assert training.drainer.pinned is None
    assert fetched(slow.name, folder / "last.pool", key) == (7, training.contents())
    assert not slow.begun.acquire(blocking=False)
    training.close()


def test_extents_that_were_given_up_while_they_were_drained_are_found(
    training: PinningTraining, slow: SlowFolder
) -> None:
    training.save(1)
    assert slow.begun.acquire(timeout=10)
    training.train(2, 2)  # a save that does not keep what is pinned
    slow.through.release()
    with pytest.raises(PoolError, match="was saved while it was drained"):
        training.drainer.wait()
    assert slow.files() == []
    training.close()


def test_no_drain_begins_while_a_save_decides_what_it_keeps(training: PinningTraining, slow: SlowFolder) -> None:
    with training.drainer.still() as pinned:
        assert pinned is None
        training.save(1)  # nested: as a signal handler may
        assert not slow.begun.acquire(timeout=0.2)
        assert training.drainer.pinned is None
    assert slow.begun.acquire(timeout=10)
    slow.through.release()
    training.drainer.close()
    training.close()


def test_an_error_is_raised_where_somebody_sees_it_and_the_next_offer_stands(
    training: PinningTraining, slow: SlowFolder
) -> None:
    slow.fails = True
    slow.through.release()
    training.save(1)
    with pytest.raises(PoolError, match="the far end is gone"):
        training.drainer.wait()
    training.drainer.wait()  # it was said
    slow.through.release()
    training.save(2)
    while training.drainer.pinned is not None or slow.begun._value < 2:  # type: ignore[attr-defined]
        threading.Event().wait(0.01)
    slow.fails = False
    slow.through.release()
    with pytest.raises(PoolError, match="the far end is gone"):
        training.save(3)
    training.drainer.wait()
    assert training.drainer.drained is not None
    assert training.drainer.drained.step == 3
    slow.fails = True
    slow.through.release()
    training.save(4)
    with pytest.raises(PoolError, match="the far end is gone"):
        training.drainer.close()
    with pytest.raises(PliniusError, match="this drainer is closed"):
        training.drainer.offer()
    training.close()


def test_a_forked_child_waits_for_no_drain(training: PinningTraining, slow: SlowFolder) -> None:
    training.save(1)
    assert slow.begun.acquire(timeout=10)
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # which ends it where it waits
        try:
            training.drainer.wait()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    slow.through.release()
    training.drainer.close()
    training.close()


def test_a_drain_that_got_no_thread_is_waited_for_by_nobody_and_made_up_for_by_the_next_offer(
    training: PinningTraining, slow: SlowFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            training.save(1)
    slow.through.release()
    training.drainer.offer()
    training.drainer.wait()
    assert training.drainer.drained is not None
    assert training.drainer.drained.step == 1
    training.drainer.close()
    training.close()


def test_a_mirror_that_is_not_there_is_an_error_of_the_next_wait(path: Path, tmp_path: Path) -> None:
    with Pool(path) as pool:
        drainer = Drainer(pool, NAME, tmp_path)
        drainer.offer()
        with pytest.raises(PoolError, match="there is no mirror"):
            drainer.close()


def test_a_process_that_ends_without_closing_drains_what_was_offered(
    path: Path, key: Key, folder: Path, tmp_path: Path
) -> None:
    saved = trained(path, key, 2)
    subprocess.run([sys.executable, "-c", UNCLOSED, path, tmp_path], check=True)
    assert fetched(str(tmp_path), folder / "new.pool", key) == (2, saved)


def test_hundreds_of_saves_beside_a_drainer(path: Path, key: Key, folder: Path, tmp_path: Path) -> None:
    training = PinningTraining(path, key)
    training.drainer = Drainer(training.pool, NAME, tmp_path)
    steps = set()
    for step in range(1, 301):
        training.save(step)
        if training.drainer.drained:
            steps.add(training.drainer.drained.step)
    training.drainer.close()
    assert len(steps) > 3
    assert fetched(str(tmp_path), folder / "new.pool", key) == (300, training.contents())
    assert training.pool.verify() == []
    training.close()


def test_a_mirror_drains_beside_its_saves_and_a_new_machine_goes_on_from_there(folder: Path) -> None:
    key, away = Key.generate(), folder / "away"
    arrays = {"still": np.arange(100_000), "moving": np.zeros(100_000)}
    with Pool(folder / "old.pool") as pool:
        with Mirror(pool, key, name="net", keep=2, drain_to=away, drain_every=3, arrays=arrays) as mirror:
            for step in range(1, 11):
                arrays["moving"][:] = step
                mirror.save(step, wait=step % 2 == 0)
        size = pool.bytes
        assert pool.verify() == []
    other = {"still": np.zeros(100_000, np.int64), "moving": np.zeros(100_000)}
    with Pool(folder / "new.pool") as pool:
        fetch(away, pool, "net")
        with Mirror(pool, key, name="net", arrays=other) as mirror:
            assert mirror.restore() in (9, 10)
            assert (other["still"] == arrays["still"]).all()
            assert (other["moving"] == mirror.latest_step()).all()
            mirror.save(11)
    assert size < 5 * 1_600_000 + 4_300_000, "one generation more than is kept, and one that drains"


def test_a_drain_that_fails_is_told_by_a_later_call_and_nothing_is_lost(folder: Path) -> None:
    key, away = Key.generate(), folder / "away"
    away.write_text("no folder")
    with Pool(folder / "job.pool") as pool:
        mirror = Mirror(pool, key, name="net", drain_to=away, arrays=[np.zeros(5)])
        mirror.save(1)
        with pytest.raises(PliniusError):
            mirror.wait()
        assert mirror.latest_step() == 1
        mirror.close()


def test_what_is_being_drained_is_not_overwritten_by_the_saves_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, away, array = Key.generate(), folder / "away", np.zeros(400_000, np.uint8)
    reached, go_on = threading.Event(), threading.Event()
    read = ciphertext.read_chunks

    def held(pool: Pool, extent: tuple[int, int]) -> Iterator[memoryview]:
        reached.set()
        assert go_on.wait(60)
        yield from read(pool, extent)

    with Pool(folder / "old.pool") as pool, monkeypatch.context() as patched:
        patched.setattr("plinius.mirror.draining.read_chunks", held)
        mirror = Mirror(pool, key, name="net", drain_to=away, drain_every=10, arrays=[array])
        array[:] = 10
        mirror.save(10)
        assert reached.wait(60)
        for step in range(11, 16):
            array[:] = step
            mirror.save(step)
        go_on.set()
        mirror.close()
    with Pool(folder / "new.pool") as pool:
        fetch(away, pool, "net")
        mirror = Mirror(pool, key, name="net", arrays=[array])
        assert mirror.restore() == 10
        assert (array == 10).all()
