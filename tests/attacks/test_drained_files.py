"""Drained files that somebody changed: refused when they are fetched, or at the latest when they are restored from."""

from __future__ import annotations

import hashlib
import io
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from plinius import Key, Pool
from plinius.errors import IntegrityError, PliniusError, PoolFull, PoolVersion
from plinius.mirror.drained import Drained, DrainedReader
from plinius.mirror.draining import drain, fetch
from small_training import NAME, Training, trained

FIXED = struct.Struct("<8sIIQQ")


class Far:
    """A far end with one drained generation, and the hands of its keeper."""

    def __init__(self, folder: Path, far: Path) -> None:
        self.folder, self.far, self.key = folder, far, Key.generate()
        self.saved = trained(folder / "job.pool", self.key, 1)
        with Pool(folder / "job.pool") as pool:
            self.drained: Drained = drain(pool, NAME, far)
        self.path = far / self.drained.file
        self.content = self.path.read_bytes()

    def put(self, content: bytes, *, right_hash: bool = False) -> None:
        self.path.write_bytes(with_right_hash(content) if right_hash else content)

    def fetch(self, **options: int) -> None:
        """Into a new pool; whatever is refused leaves it empty and whole."""
        path = self.folder / "new.pool"
        path.unlink(missing_ok=True)
        with Pool(path, **options) as pool:
            try:
                fetch(self.far, pool, NAME)
            except BaseException:
                assert pool.core.entries() == []
                assert pool.verify() == []
                raise

    def restore(self) -> tuple[int | None, tuple[object, ...]]:
        training = Training(self.folder / "new.pool", self.key, seed=9)
        try:
            return training.restore(), training.contents()
        finally:
            training.close()

    def refused(self) -> str:
        with pytest.raises(IntegrityError, match=f"^{self.far}: {self.path.name}") as caught:
            self.fetch()
        return str(caught.value)


@pytest.fixture
def far(folder: Path, tmp_path: Path) -> Far:
    return Far(folder, tmp_path / "far")


def with_right_hash(content: bytes) -> bytes:
    return content[:-32] + hashlib.sha256(content[:-32]).digest()


def before_ciphertext(content: bytes) -> int:
    _, _, head_bytes, count, _ = FIXED.unpack_from(content)
    return FIXED.size + head_bytes + 8 * count


def edited(content: bytes, **fields: int) -> bytes:
    """With other words in its first 32 bytes."""
    names = ("magic", "version", "head_bytes", "count", "total")
    values = dict(zip(names, FIXED.unpack_from(content), strict=True)) | fields
    return FIXED.pack(*(values[name] for name in names)) + content[FIXED.size :]


def with_head(content: bytes, edit: Callable[[list[object]], None]) -> bytes:
    _, _, head_bytes, _, _ = FIXED.unpack_from(content)
    head = msgspec.msgpack.decode(content[FIXED.size : FIXED.size + head_bytes])
    edit(head)
    encoded = msgspec.msgpack.encode(head)
    longer = content[: FIXED.size] + encoded + content[FIXED.size + head_bytes :]
    return edited(longer, head_bytes=len(encoded), total=len(longer))


def with_lengths(content: bytes, edit: Callable[[list[int]], None]) -> bytes:
    _, _, head_bytes, count, _ = FIXED.unpack_from(content)
    at = FIXED.size + head_bytes
    lengths = list(struct.unpack_from(f"<{count}Q", content, at))
    edit(lengths)
    return content[:at] + struct.pack(f"<{count}Q", *lengths) + content[at + 8 * count :]


def test_what_nobody_changed_is_fetched_and_restored(far: Far) -> None:
    """That the tests below refuse for what they change."""
    far.put(with_lengths(with_head(edited(far.content), lambda head: None), lambda lengths: None), right_hash=True)
    assert far.path.read_bytes() == far.content
    far.fetch()
    assert far.restore() == (1, far.saved)


def test_a_changed_byte_anywhere(far: Far) -> None:
    places = random.Random(1)  # noqa: S311
    start = before_ciphertext(far.content)
    chosen = {*range(40), *places.sample(range(start), 60), *places.sample(range(start, len(far.content)), 60)}
    for at in sorted({*chosen, len(far.content) - 1}):
        far.put(far.content[:at] + bytes([far.content[at] ^ 0x10]) + far.content[at + 1 :])
        with pytest.raises((IntegrityError, PoolVersion), match=f"^{far.far}: {far.path.name}"):
            far.fetch()


def test_a_changed_byte_anywhere_under_a_right_hash(far: Far) -> None:
    """Then it is the key that tells, or there is nothing to tell: what is public and decides nothing."""
    places = random.Random(2)  # noqa: S311
    start = before_ciphertext(far.content)
    for at in sorted({*places.sample(range(start), 60), *places.sample(range(start, len(far.content) - 32), 60)}):
        far.put(far.content[:at] + bytes([far.content[at] ^ 0x10]) + far.content[at + 1 :], right_hash=True)
        try:
            far.fetch()
            outcome = far.restore()
        except PliniusError:
            continue
        assert at < start, "a changed byte of ciphertext was not found"
        assert outcome == (1, far.saved)


def test_a_cut_or_lengthened_file(far: Far) -> None:
    size = len(far.content)
    for length in {0, 1, 31, 32, 33, before_ciphertext(far.content), size // 2, size - 33, size - 32, size - 1}:
        far.put(far.content[:length])
        far.refused()
        if length >= 64:
            far.put(edited(far.content[:length], total=length), right_hash=True)
            far.refused()
    far.put(far.content + b"x")
    far.refused()
    far.put(edited(far.content + b"x", total=size + 1), right_hash=True)
    assert "lengths" in far.refused()


WORDS = {
    "another magic": {"magic": b"PLINDATA"},
    "enormous head": {"head_bytes": 2**32 - 1},
    "head longer than the file": {"head_bytes": 2**23},
    "no head": {"head_bytes": 0},
    "enormous count": {"count": 2**64 - 1},
    "count longer than the file": {"count": 2**21},
    "no extents": {"count": 0},
    "enormous total": {"total": 2**64 - 1},
    "total of nothing": {"total": 0},
}


@pytest.mark.parametrize("fields", WORDS.values(), ids=WORDS.keys())
def test_other_words_at_the_start(far: Far, fields: dict[str, int]) -> None:
    far.put(edited(far.content, **fields), right_hash=True)
    far.refused()


def test_another_format_is_told_from_damage(far: Far) -> None:
    far.put(edited(far.content, version=2), right_hash=True)
    with pytest.raises(PoolVersion, match="format 2, this release reads 1"):
        far.fetch()
    far.put(with_head(far.content, lambda head: head.__setitem__(0, 2)), right_hash=True)
    with pytest.raises(PoolVersion, match="format 2, this release reads 1"):
        far.fetch()


LENGTHS = {
    "one of zero": lambda lengths: lengths.__setitem__(0, 0),
    "one too long": lambda lengths: lengths.__setitem__(0, lengths[0] + 1),
    "one enormous": lambda lengths: lengths.__setitem__(0, 2**64 - 1),
    "zero and the next as long as both": lambda lengths: lengths.__setitem__(slice(2), [0, sum(lengths[:2])]),
}


@pytest.mark.parametrize("edit", LENGTHS.values(), ids=LENGTHS.keys())
def test_other_lengths(far: Far, edit: Callable[[list[int]], None]) -> None:
    far.put(with_lengths(far.content, edit), right_hash=True)
    assert "lengths" in far.refused()


def test_lengths_that_add_up_are_for_the_key_to_refuse(far: Far) -> None:
    def shift(lengths: list[int]) -> None:
        lengths[0], lengths[1] = lengths[0] + 1, lengths[1] - 1

    far.put(with_lengths(far.content, shift), right_hash=True)
    far.fetch()
    with pytest.raises(IntegrityError):
        far.restore()


HEADS: dict[str, Callable[[list], None]] = {  # type: ignore[type-arg]
    "two generations": lambda head: head[4].append(head[4][0]),
    "no generation": lambda head: head[4].clear(),
    "another job": lambda head: head.__setitem__(1, bytes(16)),
    "a short job": lambda head: head.__setitem__(1, b""),
    "another version": lambda head: head[4][0][0].__setitem__(0, 2),
    "another step": lambda head: head[4][0][0].__setitem__(1, 2),
    "extents that there are not": lambda head: head[4][0][4].append(10**9),
    "a negative extent": lambda head: head[4][0][4].append(-1),
    "an extent less": lambda head: head[4][0][4].pop(),
    "no extents": lambda head: head[4][0][4].clear(),
    "manifest nowhere": lambda head: head[4][0][3].__setitem__(0, None),
    "manifest at a negative index": lambda head: head[4][0][3].__setitem__(0, -1),
    "manifest behind the end": lambda head: head[4][0][3].__setitem__(0, len(head[4][0][4])),
    "a field less": lambda head: head.pop(),
    "another type": lambda head: head.__setitem__(4, "x"),
}


@pytest.mark.parametrize("edit", HEADS.values(), ids=HEADS.keys())
def test_another_head(far: Far, edit: Callable[[list[object]], None]) -> None:
    far.put(with_head(far.content, edit), right_hash=True)
    assert "head" in (refusal := far.refused()) or "another generation" in refusal


@pytest.mark.parametrize("head", [b"", b"\x00", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 5000])
def test_garbage_in_the_place_of_the_head(far: Far, head: bytes) -> None:
    _, _, head_bytes, _, _ = FIXED.unpack_from(far.content)
    content = far.content[: FIXED.size] + head + far.content[FIXED.size + head_bytes :]
    far.put(edited(content, head_bytes=len(head), total=len(content)), right_hash=True)
    far.refused()


def test_an_older_generation_under_a_newer_name(far: Far) -> None:
    newer = Drained(9, 9, far.drained.job_id, NAME).file
    far.path.rename(far.far / newer)
    far.path = far.far / newer
    assert "another generation than its name says" in far.refused()


def test_another_mirrors_generation_under_this_name(far: Far) -> None:
    """The head of a mirror does not have its name, but what is sealed is bound to it."""
    trained(far.folder / "other.pool", far.key, 1, name="other", seed=4)
    with Pool(far.folder / "other.pool") as pool:
        other = drain(pool, "other", far.far)
    far.path.unlink()
    (far.far / other.file).rename(far.far / other.file.replace("other", NAME))
    far.fetch()
    with pytest.raises(IntegrityError):
        far.restore()


def test_a_damaged_newest_does_not_bring_back_an_older_one(far: Far) -> None:
    training = Training(far.folder / "job.pool", far.key)
    training.restore()
    training.train(2, 2)
    newer = drain(training.pool, NAME, far.far)
    training.close()
    far.path = far.far / newer.file
    far.path.write_bytes(far.path.read_bytes()[:-1])
    assert "remove it there" in far.refused()
    far.path.unlink()
    far.fetch()
    assert far.restore() == (1, far.saved)


def test_a_file_of_an_enormous_size_stays_inside_the_limit_of_the_pool(far: Far) -> None:
    enormous = 1 << 40

    def stretch(lengths: list[int]) -> None:
        lengths[0] += enormous - len(far.content)

    far.put(edited(with_lengths(far.content, stretch), total=enormous))
    far.refused()  # before any space is taken: the file is not that long
    os.truncate(far.path, enormous)
    with pytest.raises(PoolFull):
        far.fetch(max_bytes=64 << 20)


@pytest.mark.parametrize("fields", [{"head_bytes": (1 << 24) + 1}, {"count": (1 << 22) + 1}])
def test_no_more_is_read_at_once_than_a_pool_could_have(far: Far, fields: dict[str, int]) -> None:
    size = 1 << 26
    far.put(edited(far.content, total=size, **fields))
    os.truncate(far.path, size)
    assert "not what it says of itself" in far.refused()


def test_a_file_that_is_longer_than_its_keeper_says(far: Far) -> None:
    reader = DrainedReader(io.BytesIO(far.content + b"x"), len(far.content), far.drained)
    reader.take(sum(reader.lengths))
    with pytest.raises(IntegrityError, match="its hash is another"):
        reader.finish()


def test_a_pipe_and_a_folder_in_the_place_of_the_file(far: Far) -> None:
    far.path.unlink()
    os.mkfifo(far.path)
    assert "is no file" in far.refused()
    far.path.unlink()
    far.path.mkdir()
    assert "is no file" in far.refused()
    far.path.rmdir()
    far.path.symlink_to("/dev/zero")
    assert "is no file" in far.refused()
