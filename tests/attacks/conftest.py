"""What the tests of lying peers share."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from brokers import Desk
from plinius.attest.release import KEMS, RecipientKey


@pytest.fixture(autouse=True)
def warnings_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The enclave shows warnings in its own way, and here it is a thread of this process."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """An owner's desk with one job; the broker is asked without a process and a line in between."""
    return Desk(tmp_path / "broker.sqlite")


@pytest.fixture
def path(folder: Path) -> Path:
    """A pool that does not exist yet."""
    return folder / "job.pool"


@pytest.fixture
def enclave_key() -> RecipientKey:
    return RecipientKey(KEMS[0])


@pytest.fixture
def public_key(enclave_key: RecipientKey) -> bytes:
    return enclave_key.public
