"""Going back and starting anew under an anchor: the owner decides, and what was given up is over."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anchored import Killed, Life, Memory, lived
from plinius.errors import IntegrityError, PolicyError, RollbackError
from plinius.mirror import Mirror
from plinius.mirror.manifest import AnchoredHead
from plinius.pool import Pool
from plinius.seal import Key
from small_training import rewrite_head


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
