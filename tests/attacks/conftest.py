"""What the tests of lying peers share."""

from __future__ import annotations

import warnings

import pytest
from plinius.attest.release import KEMS, RecipientKey


@pytest.fixture(autouse=True)
def warnings_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The enclave shows warnings in its own way, and here it is a thread of this process."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)


@pytest.fixture
def enclave_key() -> RecipientKey:
    return RecipientKey(KEMS[0])


@pytest.fixture
def public_key(enclave_key: RecipientKey) -> bytes:
    return enclave_key.public
