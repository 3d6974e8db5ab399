"""Attests in Gramine-SGX, whose /dev/attestation makes SGX quotes (Gramine's manual, "Low-level interface")."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from plinius.attest.report import REPORT_DATA_BYTES
from plinius.errors import EvidenceError

ROOT: Final = Path("/dev/attestation")
_FIELD_BYTES: Final = 64


class GramineAttester:
    """Makes evidence in an SGX enclave. Gramine's files are its own, so it opens them when it needs them.

    Args:
        root: Gramine's folder.

    Raises:
        EvidenceError: This is no enclave of Gramine's, or one whose manifest has no remote attestation by DCAP.
    """

    tee: Final = "sgx"

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        try:
            kind = (root / "attestation_type").read_text().strip()
        except OSError as error:
            raise EvidenceError(f"no enclave of Gramine's: {root}: {error.strerror}") from None
        if kind != "dcap":
            raise EvidenceError(f"Gramine's manifest must say sgx.remote_attestation = 'dcap', not {kind!r}")

    def introduce(self) -> bytes:
        """Nothing: the verifier knows Intel's root."""
        return b""

    def attest(self, report_data: bytes, credential: bytes) -> bytes:  # noqa: ARG002 (every attester takes it)
        """Makes a quote that binds `report_data` (32 bytes), in the form of `plinius.attest.dcap.QuoteEvidence`.

        Raises:
            EvidenceError: Gramine makes none.
        """
        if len(report_data) != REPORT_DATA_BYTES:
            raise ValueError(f"report data has {REPORT_DATA_BYTES} bytes")
        try:
            (self._root / "user_report_data").write_bytes(report_data.ljust(_FIELD_BYTES, b"\0"))
            quote = (self._root / "quote").read_bytes()
        except OSError as error:
            raise EvidenceError(f"Gramine makes no quote: {error.strerror}") from None
        return msgspec.msgpack.encode(("quote", quote, ""))
