"""Draining to an object store: S3's protocol through fsspec and s3fs, to a server that imitates it (moto)."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from plinius import Key, Mirror, Pool
from plinius.errors import PoolError
from plinius.mirror import fetch

pytestmark = pytest.mark.filterwarnings("ignore::plinius.mirror.RollbackWarning")
URL = "s3://bucket/jobs/one"
NAME = "resnet 50/ä"  # what a store makes of a name must not matter
DRAINING = """
import sys
import numpy as np
from plinius import Key, Mirror, Pool
pool, key, url, name = sys.argv[1:]
weights = np.zeros(150_000)
with Pool(pool) as pool, Mirror(pool, Key.load(key), name=name, drain_to=url, weights=[weights]) as mirror:
    for step in range((mirror.restore() or 0) + 1, 1_000_000):
        weights[:] = step
        mirror.save(step)
        if step % 10 == 0:
            mirror.wait()
            print(step, flush=True)
"""


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "anybody",
        "AWS_SECRET_ACCESS_KEY": "anything",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # one of an earlier test knows an earlier server
    yield fsspec.filesystem("s3")
    server.stop()


def fetched(folder: Path, key: Key) -> tuple[int | None, float]:
    """What a new machine goes on from: the step, and what the weights are."""
    path = folder / "new.pool"
    path.unlink(missing_ok=True)
    weights = np.zeros(150_000)
    with Pool(path) as pool:
        fetch(URL, pool, NAME)
        with Mirror(pool, key, name=NAME, weights=[weights]) as mirror:
            step = mirror.restore()
    [value] = set(weights.tolist())
    return step, value


def test_what_was_drained_outlives_the_machine_whenever_it_is_killed(
    store: fsspec.AbstractFileSystem, folder: Path, key: Path
) -> None:
    drained = 0
    for _ in range(4):
        command = [sys.executable, "-W", "ignore", "-c", DRAINING, folder / "job.pool", key, URL, NAME]
        with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            for _ in range(random.randint(1, 4)):  # noqa: S311 (some, no secret)
                drained = int(process.stdout.readline())
            try:
                process.wait(random.uniform(0, 0.1))  # noqa: S311 (a moment, not a secret)
            except subprocess.TimeoutExpired:
                process.kill()
            drained = max([drained, *map(int, process.stdout.read().split())])
        step, value = fetched(folder, Key.load(key))
        assert step is not None
        assert step >= drained
        assert value == step
    names = [path.rpartition("/")[2] for path in store.ls(URL, detail=False)]
    assert sum(name.endswith(".plinius") for name in names) <= 3


def test_a_store_without_the_mirror_and_one_that_is_away_are_told(
    store: fsspec.AbstractFileSystem, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Pool(folder / "job.pool") as pool:
        with pytest.raises(PoolError, match="there is no drained generation"):
            fetch("s3://bucket/empty", pool, NAME)
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        with pytest.raises(PoolError, match="s3://bucket/empty: cannot list it"):
            fetch("s3://bucket/empty", pool, NAME)
