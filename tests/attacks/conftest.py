"""What the tests of lying peers share."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from brokers import Desk
from lying import Enclave, Host
from plinius import Key
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
def enclave_key() -> RecipientKey:
    return RecipientKey(KEMS[0])


@pytest.fixture
def public_key(enclave_key: RecipientKey) -> bytes:
    return enclave_key.public


@pytest.fixture
def host(descriptor: int) -> Iterator[Host]:
    made = Host(descriptor)
    yield made
    made.keeper.close()


@pytest.fixture
def enclave(host: Host, descriptor: int, key: Key) -> Enclave:
    """It has saved step 1."""
    made = Enclave(host, descriptor, key)
    made.save(1)
    return made
