"""What the tests of lying peers share."""

from __future__ import annotations

import warnings

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey


@pytest.fixture(autouse=True)
def warnings_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The enclave shows warnings in its own way, and here it is a thread of this process."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)


@pytest.fixture
def enclave_key() -> X25519PrivateKey:
    return X25519PrivateKey.generate()


@pytest.fixture
def public_key(enclave_key: X25519PrivateKey) -> bytes:
    return enclave_key.public_key().public_bytes_raw()
