"""Which verifier appraises evidence, by the name of its TEE."""

from __future__ import annotations

from datetime import datetime

from plinius.attest import simulated
from plinius.attest.claims import Claims
from plinius.errors import EvidenceError
from plinius.owner.policy import Policy
from plinius.owner.store import Asked


def challenge(tee: str, introduction: bytes, secret: bytes) -> bytes:
    """What an enclave needs beside a nonce to make its evidence: nothing for most TEEs.

    Raises:
        EvidenceError: The introduction is malformed.
    """
    if introduction:
        raise EvidenceError(f"the TEE {tee!r} needs no introduction")
    return b""


def verify(asked: Asked, evidence: bytes, at: datetime, policy: Policy) -> Claims:
    """Verifies evidence, and says what it claims.

    Args:
        asked: What its session began with.
        evidence: In the TEE's own form.
        at: When certificates must be valid.
        policy: Names the roots that are trusted.

    Raises:
        EvidenceError: It does not verify, or no verifier knows the TEE.
    """
    if asked.tee == simulated.TEE:
        return simulated.verify_insecurely(evidence)
    raise EvidenceError(f"this broker has no verifier for {asked.tee!r}")
