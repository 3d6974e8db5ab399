"""A mirror that drains beside its saves: what is away in the end, what its pool keeps meanwhile, and who is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from plinius import Key, Mirror, Pool
from plinius.errors import PliniusError
from plinius.mirror import ciphertext
from plinius.mirror.draining import fetch


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
