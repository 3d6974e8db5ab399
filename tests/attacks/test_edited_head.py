"""The public head of a mirror with each of its fields edited, checksums put right."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from plinius import Key
from plinius.errors import IntegrityError, PliniusError, PoolCorrupt, PoolVersion
from plinius.mirror.manifest import Head, parse_head
from small_training import Training, entry_of, rewrite_entry, rewrite_head, trained

FORMAT, JOB, KEY_ID, CIPHER, GENERATIONS = range(5)
WRITTEN, EPOCH, SAVED_AT, MANIFEST, EXTENTS = range(5)
VERSION, STEP, SALT, COMMITMENT = range(4)
EXTENT, NONCES, TAGS = range(3)

Fields = list[Any]


def written(field: int, value: object) -> Callable[[Fields], None]:
    def edit(head: Fields) -> None:
        head[GENERATIONS][0][WRITTEN][field] = value

    return edit


def generation(field: int, value: object) -> Callable[[Fields], None]:
    def edit(head: Fields) -> None:
        head[GENERATIONS][0][field] = value

    return edit


def manifest(field: int, value: object) -> Callable[[Fields], None]:
    def edit(head: Fields) -> None:
        head[GENERATIONS][0][MANIFEST][field] = value

    return edit


def top(field: int, value: object) -> Callable[[Fields], None]:
    def edit(head: Fields) -> None:
        head[field] = value

    return edit


def reverse_extents(head: Fields) -> None:
    head[GENERATIONS][0][EXTENTS].reverse()


REFUSED = {
    "version": written(VERSION, 5),
    "step": written(STEP, 700),
    "negative step": written(STEP, -1),
    "enormous version": written(VERSION, 2**64 - 1),
    "salt": written(SALT, bytes(32)),
    "short salt": written(SALT, b""),
    "salt and commitment of one odd length": lambda head: (written(SALT, b"x")(head), written(COMMITMENT, b"x")(head)),
    "commitment": written(COMMITMENT, bytes(32)),
    "epoch": generation(EPOCH, 9),
    "negative epoch": generation(EPOCH, -3),
    "no extents": generation(EXTENTS, []),
    "extents in another order": reverse_extents,
    "extents that there are not": generation(EXTENTS, [10**9] * 40),
    "negative extents": generation(EXTENTS, [-1] * 40),
    "one extent for all": generation(EXTENTS, [0] * 40),
    "manifest elsewhere": manifest(EXTENT, 0),
    "manifest nowhere": manifest(EXTENT, None),
    "manifest at a negative index": manifest(EXTENT, -1),
    "nonces": manifest(NONCES, bytes(12)),
    "more nonces": manifest(NONCES, bytes(24)),
    "tags": manifest(TAGS, bytes(16)),
    "no tags": manifest(TAGS, b""),
    "job id": top(JOB, bytes(16)),
    "short job id": top(JOB, b""),
    "key id": top(KEY_ID, bytes(8)),
    "cipher": top(CIPHER, "aes-256-gcm"),
    "no generation": top(GENERATIONS, []),
    "another type": top(GENERATIONS, "x"),
    "another field": lambda head: head.append(1),
    "a field less": lambda head: head.pop(),
}


@pytest.mark.parametrize("edit", REFUSED.values(), ids=REFUSED.keys())
def test_an_edited_head_is_refused(folder: Path, key: Key, edit: Callable[[Fields], None]) -> None:
    path = folder / "job.pool"
    trained(path, key, 2)
    rewrite_head(path, edit)
    training = Training(path, key, seed=2)
    before = training.contents()
    with pytest.raises((IntegrityError, PoolCorrupt), match=f"^{path}: "):
        training.restore()
    assert training.zeroed() or training.contents() == before
    with pytest.raises(PliniusError):
        training.mirror.save(1000)


def test_another_format_is_told_from_damage(folder: Path, key: Key) -> None:
    path = folder / "job.pool"
    trained(path, key, 1)
    rewrite_head(path, top(FORMAT, 2))
    with pytest.raises(PoolVersion, match="format 2, this release reads 1"):
        Training(path, key).restore()


def test_a_head_that_is_only_read_is_not_refused(folder: Path, key: Key) -> None:
    """That the tests above refuse for what they edit, not for the editing."""
    path = folder / "job.pool"
    saved = trained(path, key, 2)
    rewrite_head(path, lambda head: None)
    training = Training(path, key, seed=2)
    assert training.restore() == 2
    assert training.contents() == saved


def test_every_changed_byte_of_a_head_is_an_error_or_what_was_there(folder: Path, key: Key) -> None:
    path = folder / "job.pool"
    trained(path, key, 1)
    meta, _ = entry_of(path)
    head = parse_head(meta)
    for at in range(len(meta)):
        changed = meta[:at] + bytes([meta[at] ^ 0xFF]) + meta[at + 1 :]
        try:
            assert parse_head(changed) != head
        except (PoolCorrupt, PoolVersion):
            continue


@pytest.mark.parametrize("meta", [b"", b"\x00", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 5000])
def test_garbage_in_the_place_of_a_head(folder: Path, key: Key, meta: bytes) -> None:
    path = folder / "job.pool"
    trained(path, key, 1)
    rewrite_entry(path, lambda _, extents: (meta, extents))
    with pytest.raises(PoolCorrupt):
        Training(path, key).restore()


@pytest.mark.parametrize(
    "meta",
    [
        b"\xdd\x00\xf0\x00\x00" + b"\x01" * (15 << 20),
        b"\x95\x01\xc4\x10" + bytes(16) + b"\xc4\x00\xa0\xdd\x00\xf0\x00\x00" + b"\x95" * (15 << 20),
        b"\x01" * (17 << 20),
    ],
    ids=["many fields", "many generations", "too long"],
)
def test_a_long_head_does_not_take_many_times_its_length(meta: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(PoolCorrupt):
            parse_head(meta)
        assert tracemalloc.get_traced_memory()[1] < len(meta)
    finally:
        tracemalloc.stop()


def test_a_head_is_encoded_in_one_way(folder: Path, key: Key) -> None:
    path = folder / "job.pool"
    trained(path, key, 1)
    meta, _ = entry_of(path)
    assert msgspec.msgpack.encode(msgspec.msgpack.decode(meta, type=Head)) == meta
