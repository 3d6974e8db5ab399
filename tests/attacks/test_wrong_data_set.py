"""Attack: another data set of the same owner, under the same key. Stopped by: the manifest names the data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from brokers import job_manifest
from plinius.attest.release import Grant, Terms
from plinius.darknet.cfg import parse
from plinius.enclave.job import Job
from plinius.errors import ConfigError
from plinius.owner.identity import Identity
from plinius.pool import Pool
from plinius.seal import Key
from plinius.wire import TrainManifest


@pytest.fixture
def ordered(files: Path, folder: Path) -> Job:
    cfg = (files / "net.cfg").read_bytes()
    manifest = job_manifest(Identity.generate(), cfg=cfg, data="ab" * 16)
    asked = TrainManifest(b"", "train.sealed", "job.pool")
    with Pool(folder / "job.pool") as pool:
        return Job.ordered(manifest, asked, parse(cfg, "net.cfg"), pool, Grant(Key.generate(), Terms()))


def test_the_data_set_of_the_manifest(ordered: Job) -> None:
    assert ordered.bound_to("ab" * 16).facts["data"] == "ab" * 16


def test_another_data_set(ordered: Job) -> None:
    with pytest.raises(ConfigError, match="the manifest names abab"):
        ordered.bound_to("cd" * 16)


def test_another_data_set_of_a_job_that_has_begun(ordered: Job) -> None:
    begun = replace(ordered, data_id=None, known={**ordered.facts, "data": "ef" * 16})
    with pytest.raises(ConfigError, match="not the job's"):
        begun.bound_to("ab" * 16)
