"""A broker's jobs, as they lie in their folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from brokers import POLICY, job_manifest, sign
from plinius.attest.simulated import measurement
from plinius.errors import ConfigError
from plinius.owner.identity import Identity
from plinius.owner.jobs import load_jobs
from plinius.seal import Key

STATEMENTS = ("collateral.json", "vcek.der", "ask.der", "ark.der", "revocations.der", "ek-roots.pem")


@pytest.fixture
def jobs(tmp_path: Path) -> tuple[Path, Identity]:
    """A folder with one job, and its owner."""
    owner, folder = Identity.generate(), tmp_path / "jobs" / "job"
    folder.mkdir(parents=True)
    (folder / "manifest").write_bytes(sign(owner, job_manifest(owner)))
    (folder / "policy.toml").write_text(POLICY.replace("CODE", measurement().hex()))
    Key.generate().save(str(folder / "job.key"))
    return folder, owner


def test_what_is_there_of_the_vendors_is_read(jobs: tuple[Path, Identity]) -> None:
    folder, owner = jobs
    assert not any(load_jobs(str(folder.parent), owner)["job"].endorsements)
    (folder / "revocations.der").write_bytes(b"a list")
    assert load_jobs(str(folder.parent), owner)["job"].endorsements.revocations == b"a list"


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_that_is_empty_or_leads_nowhere_is_not_taken_for_none(
    jobs: tuple[Path, Identity], name: str
) -> None:
    """Without a revocation list nothing is revoked: one that failed to arrive must be noticed."""
    folder, owner = jobs
    (folder / name).write_bytes(b"")
    with pytest.raises(ConfigError, match="this file is empty"):
        load_jobs(str(folder.parent), owner)
    (folder / name).unlink()
    (folder / name).symlink_to(folder / "nowhere")
    with pytest.raises(ConfigError, match="cannot read"):
        load_jobs(str(folder.parent), owner)
