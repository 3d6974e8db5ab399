"""What the verifiers share: limits, and the fields that every TEE has."""

from __future__ import annotations

from datetime import datetime
from typing import Final, TypeVar

import msgspec

from plinius.attest.report import REPORT_DATA_BYTES
from plinius.errors import EvidenceError

# A quote has about 5 KiB, its collateral 20 KiB, a chain of three certificates 5 KiB.
MAX_EVIDENCE_BYTES: Final = 1 << 18

_Evidence = TypeVar("_Evidence")


def decode(evidence: bytes, form: type[_Evidence]) -> _Evidence:
    """Reads evidence that anybody may have written.

    Raises:
        EvidenceError: It is too long, or not of this form.
    """
    if len(evidence) > MAX_EVIDENCE_BYTES:
        raise EvidenceError(f"refused evidence of {len(evidence)} bytes: the limit is {MAX_EVIDENCE_BYTES}")
    try:
        return msgspec.msgpack.decode(evidence, type=form)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise EvidenceError(f"the evidence cannot be read: {error}") from None


def unpadded(field: bytes) -> bytes:
    """The report data in a field of 64 bytes: 32 bytes, if zeros follow; else all, which equals no report data."""
    bound, rest = field[:REPORT_DATA_BYTES], field[REPORT_DATA_BYTES:]
    return field if any(rest) else bound


def seconds(at: datetime) -> int:
    """A time in whole seconds since 1970.

    Raises:
        ValueError: It has no time zone, so it could be any of 24 hours.
    """
    if at.tzinfo is None:
        raise ValueError("the time of verification needs a time zone")
    return int(at.timestamp())
