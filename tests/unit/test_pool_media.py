"""How a pool is made durable can be chosen for measurements, and what it must survive can be demanded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plinius import Pool
from plinius.enclave.hosted import HostedPool, look_at
from plinius.errors import DurabilityUnavailable, PoolError, PoolFull
from plinius.pool import cpu_write_back, medium_at
from plinius.wire import FromPool, PoolDone, ToPool


def test_a_medium_that_survives_less_than_required_is_refused_and_left_alone(folder: Path) -> None:
    path = folder / "pool"
    with Pool(path) as pool:
        pool["w"] = 1
    if medium_at(path)[1] == "power failure":
        Pool(path, require="power failure").close()
        return
    before = path.read_bytes()
    for where in (path, folder / "new"):
        with pytest.raises(DurabilityUnavailable, match="survives a process crash, not a power failure") as caught:
            Pool(where, require="power failure")
        assert str(caught.value).startswith(f"{where}: ")
    assert path.read_bytes() == before
    with Pool(path, require="process crash") as pool:
        assert pool["w"] == 1


@pytest.mark.parametrize("flush", ["clwb", "clflushopt", "clflush", "none", "auto"])
def test_the_write_back_can_be_chosen(folder: Path, flush: Any) -> None:
    try:
        pool = Pool(folder / "pool", flush=flush)
    except PoolError as error:
        assert "this CPU has no" in str(error)  # noqa: PT017 (either of two is right, and which depends on the CPU)
        return
    with pool:
        assert pool.write_back == (pool.write_back if flush == "auto" else flush)
        pool["w"] = range(5)
    with Pool(folder / "pool") as pool:
        assert pool["w"].tolist() == [0, 1, 2, 3, 4]
        assert pool.verify() == []
        if pool.medium.startswith("emulated PM"):
            assert pool.write_back == cpu_write_back()


def test_unknown_words_are_refused_before_anything_is_touched(folder: Path) -> None:
    wrong: list[dict[str, Any]] = [{"flush": "pcommit"}, {"require": "anything"}, {"flush": ""}, {"require": ""}]
    for options in wrong:
        with pytest.raises(PoolError, match="is not known; use"):
            Pool(folder / "pool", **options)
    assert list(folder.iterdir()) == []


def test_a_creation_that_fails_leaves_no_file(folder: Path) -> None:
    path = folder / "new"
    with pytest.raises(PoolFull):
        Pool(path, max_bytes=0)
    assert not path.exists()
    path.touch()
    with pytest.raises(PoolFull):
        Pool(path, max_bytes=0)
    assert path.exists(), "it was not this call that made it"


def answered(_: ToPool) -> FromPool:
    return PoolDone()


def test_a_medium_can_be_looked_at_before_the_pool_is_mapped(folder: Path) -> None:
    """By a process that will enter a sandbox in between."""
    with Pool(folder / "first.pool") as pool:
        expected = (pool.medium, pool.durability)
    with (folder / "first.pool").open("r+b") as file, (folder / "second.pool").open("w+b") as other:
        medium = look_at(file.fileno(), "first.pool")
        with pytest.raises(PoolError, match=r"second\.pool: this is the medium of another file"):
            HostedPool(answered, other.fileno(), "second.pool", medium)
        mapping = HostedPool(answered, file.fileno(), "first.pool", medium).mapping
        assert (mapping.medium, mapping.durability) == expected
        mapping.close()
    with pytest.raises(PoolError, match=r"no descriptor: .*Bad file descriptor"):
        look_at(1 << 20, "no descriptor")
