"""A mirror in another pool: the same bits, found changes, and nothing that is overwritten."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from plinius import Key, Pool, _pm
from plinius.errors import IntegrityError, PliniusError, PoolCorrupt, PoolError, PoolFull
from plinius.mirror import ciphertext
from plinius.mirror.moving import move_mirror
from small_training import ENTRY, NAME, Training, entry_of, flip, read_at, rewrite_entry, rewrite_head, trained

KEYLESS = """
import sys
from plinius.mirror.moving import move_mirror
from plinius.pool import Pool
with Pool(sys.argv[1]) as source, Pool(sys.argv[2]) as target:
    move_mirror(source, target, sys.argv[3])
print(*sys.modules)
"""


@pytest.fixture
def source(folder: Path) -> Path:
    return folder / "source.pool"


@pytest.fixture
def target(folder: Path) -> Path:
    return folder / "target.pool"


def moved(source: Path, target: Path, **options: bool) -> None:
    with Pool(source) as there, Pool(target) as here:
        move_mirror(there, here, NAME, **options)


def test_training_goes_on_from_the_target_to_the_same_bits(source: Path, target: Path, key: Key, folder: Path) -> None:
    trained(source, key, 3)
    moved(source, target)
    source.unlink()
    training = Training(target, key, seed=9)
    assert training.restore() == 3
    training.train(4, 6)
    training.close()
    assert training.contents() == trained(folder / "straight.pool", key, 6)


def test_no_key_is_loaded(source: Path, target: Path, key: Key) -> None:
    saved = trained(source, key, 1)
    command = [sys.executable, "-c", KEYLESS, source, target, NAME]
    loaded = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    assert not [name for name in loaded if name.startswith(("plinius.seal", "plinius.state", "cryptography", "torch"))]
    training = Training(target, key, seed=9)
    assert training.restore() == 1
    assert training.contents() == saved


def test_the_source_keeps_its_own(source: Path, target: Path, key: Key) -> None:
    trained(source, key, 2)
    before = entry_of(source), [read_at(source, *extent) for extent in entry_of(source)[1]]
    moved(source, target)
    assert before == (entry_of(source), [read_at(source, *extent) for extent in entry_of(source)[1]])


def test_a_target_beside_other_things_gets_the_mirror_and_keeps_them(source: Path, target: Path, key: Key) -> None:
    trained(source, key, 2)
    other = trained(target, key, 1, name="other")
    with Pool(target) as pool:
        pool["x"] = range(5)
    moved(source, target)
    with Pool(target) as pool:
        assert pool["x"].tolist() == [0, 1, 2, 3, 4]
        assert pool.verify() == []
    training = Training(target, key, seed=9, name="other")
    assert training.restore() == 1
    assert training.contents() == other


def test_a_mirror_is_not_overwritten_unless_told(source: Path, target: Path, key: Key) -> None:
    newer, older = trained(source, key, 2), trained(target, key, 1, seed=4)
    with pytest.raises(PoolError, match=f"{target}: there is a mirror 'net' already"):
        moved(source, target)
    training = Training(target, key, seed=9)
    assert (training.restore(), training.contents() == older) == (1, True)
    free = training.pool.bytes
    training.close()
    moved(source, target, overwrite=True)
    training = Training(target, key, seed=9)
    assert (training.restore(), training.contents() == newer) == (2, True)
    assert training.pool.bytes < 2 * free


def test_a_mirror_that_is_not_there(source: Path, target: Path) -> None:
    with pytest.raises(PoolError, match=f"{source}: there is no mirror 'net'"):
        moved(source, target)


def test_a_flipped_byte_anywhere_is_found_by_the_restore(source: Path, target: Path, key: Key) -> None:
    trained(source, key, 1)
    moved(source, target)
    for index in range(len(entry_of(target)[1])):
        offset, length = entry_of(target)[1][index]
        flip(target, offset + length // 2)
        training = Training(target, key, seed=9)
        with pytest.raises(IntegrityError):
            training.restore()
        training.close()
        flip(target, offset + length // 2)
    assert Training(target, key).restore() == 1


def test_a_byte_that_was_flipped_before_is_carried_and_found(source: Path, target: Path, key: Key) -> None:
    trained(source, key, 1)
    flip(source, entry_of(source)[1][2][0])
    moved(source, target)
    with pytest.raises(IntegrityError):
        Training(target, key).restore()


def test_every_generation_of_the_head_is_carried_and_what_they_share_once(source: Path, target: Path, key: Key) -> None:
    """The head of a mirror that keeps two, made by hand: the older one shares all but the newest's first extent."""
    trained(source, key, 1)
    shared = entry_of(source)[1]

    def keep_two(head: list[object]) -> None:
        newest = head[4][0]  # type: ignore[index]
        older = [*newest[:4], [len(shared), *newest[4][1:]]]
        head[4].append(older)  # type: ignore[attr-defined]

    rewrite_head(source, keep_two)
    rewrite_entry(source, lambda meta, extents: (meta, extents))  # two more extents, the last of which nobody names
    with Pool(source) as there, Pool(target) as here:
        found = move_mirror(there, here, NAME)
        assert [len(generation.extents) for generation in found.head.generations] == [len(shared)] * 2
        assert len(found.extents) == len(shared) + 1
        assert ciphertext.all_generations(here, NAME).head == found.head
        (alone,) = ciphertext.newest_generation(here, NAME).head.generations
        assert alone == found.head.generations[0]
    assert Training(target, key, seed=9).restore() == 1


def test_a_save_in_the_midst_is_found(source: Path, target: Path, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training(source, key)
    training.train(1, 1)
    read, saved = _pm.read_extent, []

    def read_then_save(*arguments: object) -> None:
        if not saved:
            saved.append(True)
            training.train(2, 2)
        read(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(_pm, "read_extent", read_then_save)
    with Pool(target) as here:
        with pytest.raises(PoolError, match="was saved while it was copied"):
            move_mirror(training.pool, here, NAME)
        assert not ciphertext.has_mirror(here, NAME)
        move_mirror(training.pool, here, NAME)
    training.close()
    assert Training(target, key).restore() == 2


def test_a_mirror_that_the_target_gets_in_the_midst_is_not_overwritten(
    source: Path, target: Path, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(source, key, 1)
    training = Training(target, key, seed=4)
    read = _pm.read_extent

    def save_then_read(*arguments: object) -> None:
        if training.mirror.latest_step() is None:
            training.train(1, 1)
        read(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(_pm, "read_extent", save_then_read)
    with Pool(source) as there, pytest.raises(PoolError, match="there is a mirror 'net' already"):
        move_mirror(there, training.pool, NAME)
    training.train(2, 2)
    training.close()


def test_a_target_without_room_is_as_it_was(source: Path, target: Path, key: Key) -> None:
    trained(source, key, 1, width=400)
    trained(target, key, 1, name="other")
    with Pool(target) as pool:
        limit = pool.bytes
    with Pool(source) as there, Pool(target, max_bytes=limit) as here:
        with pytest.raises(PoolFull, match=f"^{target}: "):
            move_mirror(there, here, NAME)
        assert here.verify() == []
        assert not ciphertext.has_mirror(here, NAME)
    assert Training(target, key, name="other").restore() == 1


EDITS = {
    "extents that there are not": lambda head: head[4][0].__setitem__(4, [10**9] * 40),
    "negative extents": lambda head: head[4][0].__setitem__(4, [-1] * 40),
    "no extents": lambda head: head[4][0].__setitem__(4, []),
    "manifest nowhere": lambda head: head[4][0][3].__setitem__(0, None),
    "manifest at a negative index": lambda head: head[4][0][3].__setitem__(0, -1),
    "no generation": lambda head: head.__setitem__(4, []),
    "another type": lambda head: head.__setitem__(4, "x"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_an_edited_head_is_refused(source: Path, target: Path, key: Key, edit: object) -> None:
    trained(source, key, 1)
    rewrite_head(source, edit)  # type: ignore[arg-type]
    with pytest.raises(PoolCorrupt, match=f"^{source}: "):
        moved(source, target)


def test_a_head_that_names_one_extent_often_makes_nobody_copy_it_often(source: Path, target: Path, key: Key) -> None:
    trained(source, key, 1)
    rewrite_head(source, lambda head: head[4][0].__setitem__(4, [0] * 100_000))  # type: ignore[index]
    moved(source, target)
    assert len(entry_of(target)[1]) == 1
    with pytest.raises(PliniusError):
        Training(target, key).restore()


def test_garbage_in_the_place_of_the_head(source: Path, target: Path, key: Key) -> None:
    trained(source, key, 1)
    for meta in (b"", b"\x00", b"\xdd\xff\xff\xff\xff", b"\x91" * 5000, msgspec.msgpack.encode([1, 2])):
        rewrite_entry(source, lambda _, extents, meta=meta: (meta, extents), ENTRY)  # type: ignore[misc]
        with pytest.raises(PoolCorrupt):
            moved(source, target)


def test_what_was_reserved_and_not_committed_is_free_again(target: Path) -> None:
    with Pool(target) as pool:
        for _ in range(3):
            with ciphertext.Filling(pool, [1 << 20, 5]) as filling:
                filling.write(0, 0, b"x")
            length = pool.bytes
        with pytest.raises(RuntimeError, match="ended"):
            filling.write(0, 0, b"x")
        with ciphertext.Filling(pool, [1 << 20, 5]) as filling, pytest.raises(PoolError, match="do not fit"):
            filling.write(1, 3, b"xyz")
        assert pool.bytes == length
        assert pool.core.entries() == []


def test_an_extent_outside_of_the_pool_is_not_read(target: Path) -> None:
    with Pool(target) as pool:
        out = memoryview(bytearray(8))
        for extent, place in (((0, 1 << 62), 0), (((1 << 64) - 8, 8), 0), ((0, 8), 1), ((0, 8), (1 << 64) - 1)):
            with pytest.raises(PoolCorrupt):
                _pm.read_extent(pool.core, extent, place, out)
        with pytest.raises(BufferError):
            _pm.read_extent(pool.core, (0, 8), 0, memoryview(bytes(8)))
