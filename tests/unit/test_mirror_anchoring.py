"""When an anchor follows a mirror, and what is gone on from where one of them failed or died."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from anchored import Killed, Life, Memory, lived
from plinius.errors import ConfigError, PliniusError, RollbackError
from plinius.mirror import Mirror, RollbackWarning, tracking
from plinius.mirror.manifest import AnchoredHead
from plinius.pool import Pool
from plinius.seal import Key


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


def test_a_job_gets_an_anchor_later(path: Path, key: Key, anchor: Memory) -> None:
    weights = np.zeros(8)
    with Pool(path) as pool:
        Mirror(pool, key, name="m", weights=weights).save(5)
    lived(path, key, anchor, 6)
    assert anchor.remembered is not None
    assert anchor.remembered.version == 2


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


@pytest.mark.parametrize("die", ["before", "after"])
def test_an_anchor_that_may_have_moved_is_made_sure_of_before_the_next_generation(
    path: Path, key: Key, die: str
) -> None:
    """A process may outlive what interrupted its anchor: Ctrl-C, or an answer that was lost."""
    anchor = Memory(every=5)
    life = Life(path, key, anchor)
    life.train(2)
    anchor.die = die
    with pytest.raises(Killed):
        life.mirror.save(3, force=True)
    life.step, anchor.die = 3, ""
    life.train(4)
    life.end()
    assert Life(path, key, anchor).step == 4


CALLS: dict[str, Callable[[Mirror], object]] = {
    "restore": lambda mirror: mirror.restore(),
    "overwrite": lambda mirror: mirror.save(2, overwrite=True),
}


@pytest.mark.parametrize("trained", [1, 2])  # the anchor is at the newest generation, or behind it
@pytest.mark.parametrize("call", CALLS)
def test_after_a_new_life_that_was_interrupted_nothing_is_saved_that_would_be_refused(
    path: Path, key: Key, call: str, trained: int
) -> None:
    anchor = Memory(every=5, may_go_back=True)
    life = Life(path, key, anchor)
    life.train(trained)
    anchor.die = "after"
    with pytest.raises(Killed):
        CALLS[call](life.mirror)
    anchor.die = ""
    with pytest.raises(RollbackError):
        life.mirror.save(3)
    CALLS[call](life.mirror)
    life.mirror.save(3)
    life.end()
    assert Life(path, key, anchor).step == 3


@dataclass
class Asked(Memory):
    """An anchor that takes its time: something happens while it is asked, before or after it has looked."""

    meanwhile: Callable[[], object] | None = None
    looks: str = "last"

    def head(self) -> AnchoredHead | None:
        found, meanwhile, self.meanwhile = self.remembered, self.meanwhile, None
        if meanwhile is not None:
            other = threading.Thread(target=meanwhile)
            other.start()
            other.join()
        return found if self.looks == "first" else self.remembered


@pytest.mark.parametrize("looks", ["first", "last"])
def test_whoever_asks_for_the_latest_step_may_meet_the_first_save(path: Path, key: Key, looks: str) -> None:
    anchor = Asked(looks=looks)
    with Pool(path) as pool:
        mirror = Mirror(pool, key, name="m", anchor=anchor, weights=np.zeros(8))
        anchor.meanwhile = lambda: mirror.save(1)
        assert mirror.latest_step() in (None, 1)
        assert mirror.latest_step() == 1


def test_what_was_asked_for_the_latest_step_alone_is_not_gone_on_from(path: Path, key: Key) -> None:
    anchor = Asked(every=5, may_go_back=True, looks="first")
    lived(path, key, anchor, 2)
    with Pool(path) as pool:
        mirror = Mirror(pool, key, name="m", anchor=anchor, weights=np.zeros(8))
        anchor.meanwhile = lambda: mirror.save(7, overwrite=True)
        assert mirror.latest_step() in (2, 7)
        mirror.save(8)
    assert Life(path, key, anchor).step == 8


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
