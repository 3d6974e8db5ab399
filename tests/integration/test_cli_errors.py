"""Files that are missing, cut, changed, or of another kind or job: one line, an exit code by class, nothing lost."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from inside import Command
from jobs import Job, contents, line_of, plinius, refused

FILES = [field.name for field in fields(Job)]
OPTION_OR_FILE, DAMAGED_POOL, POOL_VERSION, INTEGRITY = 3, 7, 8, 9
FLIPS = 40

Refusal = Callable[..., str]


@pytest.fixture
def intact(inside: Command, trained: Job, folder: Path) -> Iterator[Job]:
    """The trained job with private copies of its files; the test over, the originals are as they were and go on."""
    before = contents(folder)
    own = folder / "own"
    own.mkdir()
    copies = {name: Path(shutil.copy(getattr(trained, name), own)) for name in FILES}
    copies["key"].chmod(0o600)
    yield Job(**copies)
    shutil.rmtree(own)
    assert contents(folder) == before
    (started,) = inside(*trained.train("--json")).of("Started")
    assert (started["step"], started["resumed"]) == (4, True)


@pytest.fixture
def other(inside: Command, files: Path, intact: Job) -> Job:
    """Another job: its own key, data, cfg and pool."""
    own = intact.pool.parent / "other"
    own.mkdir()
    made = Job(own / "net.cfg", own / "data.sealed", own / "job.key", own / "job.pool")
    made.cfg.write_text(intact.cfg.read_text().replace("probability=.2", "probability=.3"))
    inside("keygen", made.key)
    idx = ["--images", files / "images.idx", "--labels", files / "labels.idx"]
    inside("seal", "--key", made.key, *idx, "--output", made.data)
    assert inside(*made.train("--steps", 1)).code == 0
    return made


def commands(job: Job) -> list[list[str]]:
    """What a user may do with a trained job."""
    return [job.train("--steps", 5), job.infer(), job.export(job.pool.with_suffix(".weights"))]


# Missing, empty, a folder.


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(refusal: Refusal, intact: Job, name: str) -> None:
    missing = getattr(intact, name)
    missing.unlink()
    for command in commands(intact):
        if (command[0], name) in {("train", "pool"), ("export", "data")}:
            continue  # a new job begins; the data are not needed
        line = refusal(OPTION_OR_FILE, *command)
        assert str(missing) in line
        assert not missing.exists()


@pytest.mark.parametrize("name", FILES)
def test_an_empty_file(refusal: Refusal, intact: Job, name: str) -> None:
    empty = getattr(intact, name)
    empty.write_bytes(b"")
    for command in commands(intact):
        if (command[0], name) in {("train", "pool"), ("export", "data")}:
            continue  # an empty file becomes a pool; the data are not needed
        assert str(empty) in refusal(OPTION_OR_FILE, *command)
        assert empty.stat().st_size == 0


@pytest.mark.parametrize("name", FILES)
def test_a_folder(refusal: Refusal, intact: Job, name: str) -> None:
    folder = getattr(intact, name)
    folder.unlink()
    folder.mkdir(mode=0o700)
    for command in commands(intact):
        if (command[0], name) != ("export", "data"):
            assert str(folder) in refusal(OPTION_OR_FILE, *command)


@pytest.mark.parametrize("name", FILES)
def test_a_named_pipe_does_not_hang(refusal: Refusal, intact: Job, name: str) -> None:
    pipe = getattr(intact, name)
    pipe.unlink()
    os.mkfifo(pipe, 0o600)
    for command in commands(intact):
        if (command[0], name) != ("export", "data"):
            assert str(pipe) in refusal(OPTION_OR_FILE, *command)


def test_a_pool_that_is_missing_and_a_command_that_fails_leave_no_pool(refusal: Refusal, intact: Job) -> None:
    intact.pool.unlink()
    intact.key.write_text("no key")
    refusal(OPTION_OR_FILE, *intact.train())
    assert not intact.pool.exists()


@pytest.mark.parametrize("made", [None, Path.touch, Path.mkdir, lambda path: path.write_text("a letter")])
def test_what_is_no_pool(refusal: Refusal, folder: Path, made: Callable[[Path], object] | None) -> None:
    """The same exit code from every command that needs one."""
    none = folder / "none.pool"
    if made:
        made(none)
    for command in (["status", none], ["drain", none, folder / "far"], ["move", none, folder / "to.pool"]):
        line = refusal(OPTION_OR_FILE, *command)
        assert line.startswith(f"{none}: ")
        assert "no file yet" not in line
    assert set(contents(folder)) <= {none.name}


# Of the wrong kind, or of another job.


@pytest.mark.parametrize("given", FILES)
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_wrong_kind(refusal: Refusal, intact: Job, name: str, given: str) -> None:
    if name == given:
        return
    place = getattr(intact, name)
    shutil.copyfile(getattr(intact, given), place)
    for command in commands(intact):
        if (command[0], name) != ("export", "data"):
            line = refusal(OPTION_OR_FILE, *command)
            assert str(place) in line or (name == "data" and "descriptor" not in line)


@pytest.mark.parametrize(("name", "code"), [("cfg", 3), ("data", 9), ("key", 9), ("pool", 9)])
def test_a_file_of_another_job(refusal: Refusal, intact: Job, other: Job, name: str, code: int) -> None:
    mixed = intact.but(**{name: getattr(other, name)})
    for command in commands(mixed):
        if (command[0], name) != ("export", "data"):
            refusal(code, *command)


def test_the_whole_of_another_job_but_the_key(refusal: Refusal, intact: Job, other: Job) -> None:
    for command in commands(other.but(key=intact.key)):
        refusal(INTEGRITY, *command)


# Cut.


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9, 0.99])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_cut(refusal: Refusal, intact: Job, name: str, share: float) -> None:
    cut = getattr(intact, name)
    length = max(1, int(cut.stat().st_size * share))
    os.truncate(cut, length)
    codes = {"cfg": 3, "key": 3, "pool": DAMAGED_POOL, "data": 3 if length < 256 else INTEGRITY}
    for command in commands(intact):
        if (command[0], name) != ("export", "data"):
            refusal(codes[name], *command)
    assert cut.stat().st_size == length


def test_data_that_were_cut_by_one_byte(refusal: Refusal, intact: Job) -> None:
    os.truncate(intact.data, intact.data.stat().st_size - 1)
    assert "was cut or lengthened" in refusal(INTEGRITY, *intact.train())


def test_data_that_grew_by_one_byte(refusal: Refusal, intact: Job) -> None:
    with intact.data.open("ab") as file:
        file.write(b"\0")
    assert "was cut or lengthened" in refusal(INTEGRITY, *intact.train())


# A flipped bit anywhere.


def positions(length: int, chance: random.Random) -> list[int]:
    """The first and the last bytes, and others anywhere."""
    return [0, 1, length - 1, *(chance.randrange(length) for _ in range(FLIPS - 3))]


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :]


def test_a_flipped_bit_in_the_key_file(refusal: Refusal, intact: Job) -> None:
    content = intact.key.read_bytes()
    for at in positions(len(content), random.Random(1)):  # noqa: S311 (a plan that can be repeated)
        intact.key.write_bytes(flipped(content, at))
        if intact.key.read_bytes().split() == content.split():
            continue  # one kind of white space became another
        assert str(intact.key) in refusal(OPTION_OR_FILE, *intact.train())


def test_a_flipped_bit_in_the_cfg(refusal: Refusal, intact: Job) -> None:
    content = intact.cfg.read_bytes()
    for at in positions(len(content), random.Random(2)):  # noqa: S311 (a plan that can be repeated)
        intact.cfg.write_bytes(flipped(content, at))
        assert str(intact.cfg) in refusal(OPTION_OR_FILE, *intact.train())


def test_a_flipped_bit_in_the_data_of_a_new_job(refusal: Refusal, inside: Command, intact: Job) -> None:
    content = intact.data.read_bytes()
    for at in [*range(0, 256, 8), *positions(len(content), random.Random(3))]:  # noqa: S311 (a plan that can be repeated)
        intact.pool.unlink(missing_ok=True)
        intact.data.write_bytes(flipped(content, at))
        done = inside(*intact.train("--steps", 1))
        line_of(done.code, done)
        assert done.code in ((OPTION_OR_FILE, INTEGRITY) if at < 256 else (INTEGRITY,)), at


def test_a_flipped_bit_in_the_data_does_not_matter_once_they_are_in_the_pool(inside: Command, intact: Job) -> None:
    """The file's header only tells which data set it is; its records are those that were checked and loaded."""
    content = intact.data.read_bytes()
    intact.data.write_bytes(flipped(content, len(content) // 2))
    assert inside(*intact.train("--steps", 5)).err == ""


def test_a_flipped_bit_in_the_pool_changes_nothing_or_is_refused(inside: Command, intact: Job) -> None:
    """The heap's second copy, and what is free, may change: then everything goes on to the same bytes."""
    content = intact.pool.read_bytes()

    def use(at: int | None) -> tuple[int, bytes] | None:
        """What the accuracy and the weights are; None if the pool is refused."""
        intact.pool.write_bytes(content if at is None else flipped(content, at))
        output = intact.pool.with_suffix(".weights")
        output.unlink(missing_ok=True)
        for done in (inferred := inside(*intact.infer("--json")), inside(*intact.export(output))):
            if done.code:
                line_of(done.code, done)
                no_pool = at is not None and at < len(b"PLINIUS")  # it does not begin as one any more
                assert done.code in (DAMAGED_POOL, POOL_VERSION, INTEGRITY) or no_pool, (at, done)
                return None
        return json.loads(inferred.out)["correct"], output.read_bytes()

    expected = use(None)
    assert expected
    chance = random.Random(4)  # noqa: S311 (a plan that can be repeated)
    written = chance.sample([at for at, byte in enumerate(content) if byte], FLIPS)
    results = [use(at) for at in [*positions(len(content), chance), *written]]
    assert all(result in (None, expected) for result in results)
    assert results.count(None) > FLIPS // 4


# The same through real processes, once for each class of error.


def test_processes_report_the_same(intact: Job) -> None:
    missing = intact.key.with_name("missing")
    assert str(missing) in refused(OPTION_OR_FILE, *intact.but(key=missing).train())
    os.truncate(intact.pool, 100_000)
    assert refused(DAMAGED_POOL, *intact.train()).startswith(f"{intact.pool}: the pool is damaged")


def test_processes_report_tampering(intact: Job) -> None:
    content = bytearray(intact.data.read_bytes())
    content[1000] ^= 1
    intact.data.write_bytes(content)
    intact.pool.unlink()
    line = refused(INTEGRITY, *intact.train())
    assert line.startswith(f"{intact.data}: ")
    assert "record 8" in line
    assert plinius("status", intact.pool).code == 0


# Names that are no text, and names with spaces.


@pytest.mark.parametrize("odd", [b"with space", b"no\xfftext", "größe".encode(), b"--option"])
def test_odd_names(inside: Command, intact: Job, odd: bytes) -> None:
    folder = intact.pool.parent / os.fsdecode(odd)
    folder.mkdir()
    moved = Job(**{name: getattr(intact, name).rename(folder / getattr(intact, name).name) for name in FILES})
    assert inside(*moved.train("--steps", 5)).err == ""
    assert inside(*moved.infer()).err == ""
    assert inside(*moved.export(folder / "net.weights")).err == ""
    assert inside("status", moved.pool).err == ""
    assert inside("doctor", folder).err == ""
    (folder / "job.pool").write_bytes(b"no pool")
    done = inside(*moved.train("--steps", 6))
    assert "not a pool" in line_of(OPTION_OR_FILE, done)
