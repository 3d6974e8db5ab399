"""A mirror and its freshness anchor: what a crash leaves is gone on from, what somebody put back is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plinius.errors import ConfigError, IntegrityError, PliniusError, PolicyError, RollbackError
from plinius.mirror import Mirror, RollbackWarning, tracking
from plinius.mirror.manifest import AnchoredHead
from plinius.pool import Pool
from plinius.seal import Key
from small_training import rewrite_head


class Killed(BaseException):
    """The process dies here."""


@dataclass
class Memory:
    """An anchor in this process, which can die before or after it has remembered."""

    every: int = 1
    may_go_back: bool = False
    remembered: AnchoredHead | None = None
    advances: list[AnchoredHead] = field(default_factory=list)
    die: str = ""

    def head(self) -> AnchoredHead | None:
        return self.remembered

    def advance(self, expected: AnchoredHead | None, new: AnchoredHead, *, going_back: bool = False) -> None:
        if self.die == "before":
            raise Killed
        if going_back and not self.may_go_back:
            raise PolicyError("the owner lets no job go back", field="going_back")
        if self.remembered not in (expected, new):
            raise RollbackError("another copy of the job was here")
        if self.remembered is not None and not going_back and not _is_forward(self.remembered, new):
            raise RollbackError("an anchor never goes back by itself")
        self.remembered = new
        self.advances.append(new)
        if self.die == "after":
            raise Killed


def _is_forward(old: AnchoredHead, new: AnchoredHead) -> bool:
    """What a broker asks for."""
    same = (old.version, old.digest) == (new.version, new.digest)
    return (same or new.version > old.version) and new.epoch >= old.epoch


@pytest.fixture
def key() -> Key:
    return Key.generate()


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "job.pool"


@pytest.fixture
def anchor() -> Memory:
    return Memory()


class Life:
    """One life of the job: a process that opens the pool, and restores or begins."""

    def __init__(self, path: Path, key: Key, anchor: Memory, *, back_to: int | None = None, **options: int) -> None:
        self.weights = np.zeros(8)
        self._pool = Pool(path)
        self.mirror = Mirror(self._pool, key, name="m", anchor=anchor, weights=self.weights, **options)
        try:
            self.step = self.mirror.restore(back_to)
        except BaseException:
            self.end()
            raise

    def train(self, to: int, *, wait: bool = True) -> None:
        for step in range((self.step or 0) + 1, to + 1):
            self.weights[:] = step
            self.mirror.save(step, wait=wait)
            self.step = step

    def end(self) -> None:
        self._pool.close()


def lived(path: Path, key: Key, anchor: Memory, to: int, **options: int) -> Life:
    """A life that trains to a step and ends."""
    life = Life(path, key, anchor, **options)
    life.train(to)
    life.end()
    return life


def test_the_anchor_follows_every_save_and_every_new_life(path: Path, key: Key, anchor: Memory) -> None:
    lived(path, key, anchor, 2)
    assert [(it.version, it.epoch) for it in anchor.advances] == [(1, 1), (2, 1)]
    life = Life(path, key, anchor)
    assert life.step == 2
    assert (life.weights == 2).all()
    assert (anchor.advances[-1].version, anchor.advances[-1].epoch) == (2, 2)
    assert anchor.advances[-1].digest == anchor.advances[-2].digest
    life.end()


@pytest.mark.parametrize("die", ["before", "after"])
@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 6, 7])
def test_a_death_around_any_advance_is_gone_on_from(path: Path, key: Key, every: int, at: int, die: str) -> None:
    """The save of this step is committed and its advance is cut; then a restore's advance is cut as well."""
    anchor = Memory(every)
    life = Life(path, key, anchor)
    life.train(at - 1)
    anchor.die = die
    due = (at - 1) % every == 0
    if due:
        with pytest.raises(Killed):
            life.train(at)
        assert life.mirror.latest_step() == (at - 1 or None)
    else:
        life.train(at)
    life.end()
    with pytest.raises(Killed):
        Life(path, key, anchor)
    anchor.die = ""
    life = Life(path, key, anchor)
    assert life.step == at
    assert (life.weights == at).all()
    life.train(at + 5)
    life.end()
    assert Life(path, key, anchor).step == at + 5


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("overlapped", [False, True])
def test_every_older_image_of_the_pool_is_refused(path: Path, key: Key, every: int, overlapped: bool) -> None:
    """But those that are fewer generations behind than the anchor's bound, of this very life."""
    anchor, images = Memory(every), []
    for life_number in range(3):
        life = Life(path, key, anchor)
        for step in range(4 * life_number + 1, 4 * life_number + 5):
            life.train(step, wait=not overlapped)
            life.mirror.wait()
            images.append(shutil.copy(path, path.with_suffix(f".{step}")))
        life.end()
    for age, image in enumerate(reversed(images)):
        before = anchor.remembered
        if age >= every:
            with pytest.raises(RollbackError):
                Life(Path(image), key, anchor)
            assert anchor.remembered == before
    assert Life(path, key, anchor).step == 12


def test_an_empty_or_new_pool_is_refused(path: Path, key: Key, anchor: Memory) -> None:
    lived(path, key, anchor, 1)
    with pytest.raises(RollbackError, match="holds nothing of this job"):
        Life(path.with_suffix(".new"), key, anchor)


def test_a_first_save_without_restore_is_refused_too(path: Path, key: Key, anchor: Memory) -> None:
    lived(path, key, anchor, 1)
    with Pool(path.with_suffix(".new")) as pool:
        mirror = Mirror(pool, key, name="m", anchor=anchor, weights=np.zeros(8))
        with pytest.raises(RollbackError, match="call restore"):
            mirror.save(1)


def test_another_copy_is_fenced_off(path: Path, key: Key, anchor: Memory) -> None:
    first = Life(path, key, anchor)
    first.train(2)
    copy = Path(shutil.copy(path, path.with_suffix(".copy")))
    second = Life(copy, key, anchor)
    with pytest.raises(RollbackError, match="another copy"):
        first.train(3)
    assert first.mirror.latest_step() == 2
    second.train(3)
    first.end()
    second.end()
    with pytest.raises(RollbackError, match="another copy"):
        Life(path, key, anchor)


def test_what_a_copy_saved_after_another_had_taken_over_is_refused(path: Path, key: Key, anchor: Memory) -> None:
    """Also when it is only one generation ahead: it names the head that the anchor had before."""
    first = Life(path, key, anchor)
    first.train(2)
    copy = Path(shutil.copy(path, path.with_suffix(".copy")))
    second = Life(copy, key, anchor)
    with pytest.raises(RollbackError, match="another copy"):
        first.train(3)
    first.end()
    with pytest.raises(RollbackError, match="another copy of the job has gone on"):
        Life(path, key, anchor)
    second.train(3)
    second.end()


def test_each_life_is_fenced_off_by_the_next_also_one_that_has_saved_nothing(
    path: Path, key: Key, anchor: Memory
) -> None:
    lived(path, key, anchor, 1)
    first = Life(path, key, anchor)
    second = Life(Path(shutil.copy(path, path.with_suffix(".copy"))), key, anchor)
    assert [it.epoch for it in anchor.advances] == [1, 2, 3]
    with pytest.raises(RollbackError, match="another copy"):
        first.train(2)
    second.train(2)
    first.end()
    second.end()


def test_two_copies_that_begin_together_are_one(path: Path, key: Key, anchor: Memory) -> None:
    first, second = Life(path, key, anchor), Life(path.with_suffix(".copy"), key, anchor)
    first.train(1)
    with pytest.raises(RollbackError, match="another copy"):
        second.train(1)


def test_an_anchor_that_has_forgotten_is_refused(path: Path, key: Key, anchor: Memory) -> None:
    lived(path, key, anchor, 3)
    with pytest.raises(RollbackError, match="knows nothing of this job"):
        Life(path, key, Memory())


def test_a_job_gets_an_anchor_later(path: Path, key: Key, anchor: Memory) -> None:
    weights = np.zeros(8)
    with Pool(path) as pool:
        Mirror(pool, key, name="m", weights=weights).save(5)
    lived(path, key, anchor, 6)
    assert anchor.remembered is not None
    assert anchor.remembered.version == 2


def test_going_back_is_the_owners_decision(path: Path, key: Key, anchor: Memory) -> None:
    lived(path, key, anchor, 5, keep=3)
    with pytest.raises(PolicyError):
        Life(path, key, anchor, back_to=3, keep=3)
    assert Life(path, key, anchor, keep=3).step == 5


@pytest.mark.parametrize("die", ["", "after"])
def test_a_job_that_went_back_goes_on_from_there(path: Path, key: Key, die: str) -> None:
    """Also when it died before it saved again: the pool's newest generation is no longer the one that counts."""
    anchor = Memory(may_go_back=True)
    lived(path, key, anchor, 5, keep=3)
    anchor.die = die
    if die:
        with pytest.raises(Killed):
            Life(path, key, anchor, back_to=3, keep=3)
        anchor.die = ""
        anchor.may_go_back = False  # it has gone back already: that is not asked again
        life = Life(path, key, anchor, keep=3)
    else:
        life = Life(path, key, anchor, back_to=3, keep=3)
    assert anchor.remembered is not None
    assert anchor.remembered.version == 5, "versions only grow"
    assert life.step == 3
    assert (life.weights == 3).all()
    life.train(4)
    life.end()
    assert anchor.remembered.version == 6
    anchor.may_go_back = False
    assert Life(path, key, anchor, keep=3).step == 4


def test_the_step_in_the_head_does_not_choose_what_is_gone_on_from(path: Path, key: Key) -> None:
    """Whoever has the pool gives the generation that the job went back to the step of a later one."""
    anchor = Memory(may_go_back=True)
    lived(path, key, anchor, 5, keep=4)
    Life(path, key, anchor, back_to=2, keep=4).end()
    remembered = anchor.remembered

    def later(head: list[Any]) -> None:
        [written] = [generation[0] for generation in head[4] if generation[0][1] == 2]
        written[1] = 3

    rewrite_head(path, later, "mirror/m")
    with pytest.raises(IntegrityError, match="changed"):
        Life(path, key, anchor, keep=4)
    assert anchor.remembered == remembered


def test_a_rolled_back_pool_cannot_be_gone_back_in(path: Path, key: Key) -> None:
    anchor = Memory(may_go_back=True)
    lived(path, key, anchor, 5, keep=3)
    image = Path(shutil.copy(path, path.with_suffix(".5")))
    lived(path, key, anchor, 6, keep=3)
    with pytest.raises(RollbackError):
        Life(image, key, anchor, back_to=5, keep=3)


def test_starting_anew_is_the_owners_decision(path: Path, key: Key, anchor: Memory) -> None:
    life = Life(path, key, anchor)
    life.train(3)
    with pytest.raises(PolicyError):
        life.mirror.save(1, overwrite=True)
    anchor.may_go_back = True
    life.mirror.save(2, overwrite=True)
    life.end()
    assert Life(path, key, anchor).step == 2


def test_what_the_owner_does_not_let_start_anew_is_still_there(path: Path, key: Key, anchor: Memory) -> None:
    lived(path, key, anchor, 3)
    with Pool(path) as pool:
        mirror = Mirror(pool, key, name="m", anchor=anchor, weights=np.zeros(8))
        with pytest.raises(PolicyError):
            mirror.save(1, overwrite=True)
    assert Life(path, key, anchor).step == 3


@pytest.mark.parametrize("die", ["before", "after"])
@pytest.mark.parametrize("advance", [1, 2])
def test_a_death_while_a_job_starts_anew_is_gone_on_from(
    path: Path, key: Key, die: str, advance: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starting anew is two advances, of which the first one asks, and between them the pool is overwritten."""
    anchor = Memory(may_go_back=True)
    lived(path, key, anchor, 5)
    with Pool(path) as pool:
        mirror = Mirror(pool, key, name="m", anchor=anchor, weights=np.ones(8))
        advances, real = [], anchor.advance

        def counted(*heads: AnchoredHead, going_back: bool = False) -> None:
            advances.append(heads)
            anchor.die = die if len(advances) == advance else ""
            real(*heads, going_back=going_back)

        monkeypatch.setattr(anchor, "advance", counted)
        with pytest.raises(Killed):
            mirror.save(1, overwrite=True)
        monkeypatch.undo()
    anchor.die = ""
    life = Life(path, key, anchor)
    assert life.step == (5 if advance == 1 else 1)
    life.train(7)
    life.end()


def test_starting_anew_ends_what_was_there(path: Path, key: Key) -> None:
    """The pool as it was is refused from then on, and another copy of the job cannot go on."""
    anchor = Memory(may_go_back=True)
    lived(path, key, anchor, 5)
    image = Path(shutil.copy(path, path.with_suffix(".5")))
    with Pool(path) as pool:
        Mirror(pool, key, name="m", anchor=anchor, weights=np.ones(8)).save(1, overwrite=True)
    with pytest.raises(RollbackError):
        Life(image, key, anchor)
    assert Life(path, key, anchor).step == 1


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("overlapped", [False, True])
def test_an_anchor_that_fails_for_long_leaves_nothing_that_it_would_refuse(
    path: Path, key: Key, every: int, overlapped: bool
) -> None:
    """Somebody catches the error and trains on: the pool gets no further ahead than a restart accepts."""
    anchor = Memory(every)
    life = Life(path, key, anchor)
    life.train(1)
    anchor.die = "before"
    for step in range(2, 7):
        life.weights[:] = step
        with suppress(Killed, PliniusError):
            life.mirror.save(step, wait=not overlapped)
    with suppress(Killed, PliniusError):
        life.mirror.wait()
    life.end()
    anchor.die = ""
    again = Life(path, key, anchor)
    assert again.step == 1 + every
    again.end()


def test_a_refused_restore_is_no_permission_to_save(path: Path, key: Key, anchor: Memory) -> None:
    lived(path, key, anchor, 1)
    path.unlink()
    with Pool(path) as pool:
        mirror = Mirror(pool, key, name="m", anchor=anchor, weights=np.zeros(8))
        for _ in range(2):
            with pytest.raises(RollbackError, match="holds nothing"):
                mirror.restore()
            with pytest.raises(RollbackError, match="call restore"):
                mirror.save(1)
    assert len(anchor.advances) == 1


def test_a_restore_whose_new_life_the_anchor_does_not_confirm_changes_nothing(
    path: Path, key: Key, anchor: Memory
) -> None:
    """Another copy of the job may have begun one since the anchor was asked: the state is not touched before."""
    lived(path, key, anchor, 2)
    weights = np.full(8, 7.0)
    with Pool(path) as pool:
        mirror = Mirror(pool, key, name="m", anchor=anchor, weights=weights)
        anchor.die = "before"
        with pytest.raises(Killed):
            mirror.restore()
    assert (weights == 7).all()


def test_the_last_step_is_anchored_whatever_the_bound(path: Path, key: Key) -> None:
    anchor = Memory(every=100)
    life = Life(path, key, anchor)
    life.train(5)
    assert [it.version for it in anchor.advances] == [1]
    life.mirror.save(6, force=True)
    assert [it.version for it in anchor.advances] == [1, 6]
    life.end()


def test_what_cannot_be_anchored_is_not_called_durable_and_is_tried_again(path: Path, key: Key, anchor: Memory) -> None:
    life = Life(path, key, anchor)
    life.train(1)
    anchor.die = "before"
    with pytest.raises(Killed):
        life.train(2)
    assert life.mirror.latest_step() == 1
    anchor.die = ""
    life.mirror.save(3)
    assert life.mirror.latest_step() == 3
    assert [it.version for it in anchor.advances] == [1, 2, 3], "none is left out: a kill may follow"
    life.end()


def test_a_first_generation_that_could_not_be_anchored_is_before_the_second(
    path: Path, key: Key, anchor: Memory
) -> None:
    life = Life(path, key, anchor)
    anchor.die = "before"
    with pytest.raises(Killed):
        life.train(1)
    anchor.die = ""
    life.mirror.save(2)
    assert [it.version for it in anchor.advances] == [1, 2]
    life.end()


@pytest.mark.parametrize("every", [1, 100])
def test_a_save_that_was_interrupted_behind_its_commit_is_anchored_when_it_is_made_again(
    path: Path, key: Key, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    anchor = Memory(every)
    life = Life(path, key, anchor)
    life.train(1)
    with monkeypatch.context() as patched:
        patched.setattr(tracking.Tracker, "learn", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            life.mirror.save(2, force=True)
    assert [it.version for it in anchor.advances] == [1]
    assert life.mirror.save(2, force=True)
    assert [it.version for it in anchor.advances] == [1, 2], "it was to be anchored at once"
    assert life.mirror.latest_step() == 2
    life.end()


def test_what_is_anchored_was_drained_before(path: Path, key: Key, tmp_path: Path) -> None:
    far: Callable[[], list[Path]] = lambda: sorted((tmp_path / "far").rglob("*"))  # noqa: E731

    class Looking(Memory):
        def advance(self, expected: AnchoredHead | None, new: AnchoredHead, *, going_back: bool = False) -> None:
            seen.append(len(far()))
            super().advance(expected, new, going_back=going_back)

    seen: list[int] = []
    with Pool(path) as pool:
        mirror = Mirror(
            pool, key, name="m", anchor=Looking(), drain_to=tmp_path / "far", drain_every=100, w=np.zeros(8)
        )
        mirror.save(1)
        mirror.close()
    assert seen
    assert seen[0] > 0


def test_the_bound_is_told(path: Path, key: Key) -> None:
    anchor = Memory(every=7)
    lived(path, key, anchor, 1)
    with pytest.warns(RollbackWarning, match="fewer than 7 generations"):
        Life(path, key, anchor).end()


@pytest.mark.parametrize("every", [0, -1])
def test_an_anchor_that_never_follows_is_refused(path: Path, key: Key, every: int) -> None:
    with Pool(path) as pool, pytest.raises(ConfigError, match="anchor"):
        Mirror(pool, key, name="m", anchor=Memory(every), weights=np.zeros(8))


def test_more_unanchored_generations_than_the_bound_are_refused(path: Path, key: Key, anchor: Memory) -> None:
    """As they are where the owner lowers the bound before they were anchored: they are not fewer than she wants."""
    anchor.every = 5
    lived(path, key, anchor, 4)
    anchor.every = 2
    with pytest.raises(RollbackError):
        Life(path, key, anchor)
    anchor.every = 3
    assert Life(path, key, anchor).step == 4
