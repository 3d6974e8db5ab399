"""Which verifier appraises evidence, by the name of its TEE."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final, NamedTuple

from cryptography import x509

from plinius.attest import dcap, simulated, snp, tpm2_messages, tpm2_verify
from plinius.attest.claims import Claims
from plinius.errors import EvidenceError
from plinius.owner.store import Asked

TEES: Final = frozenset((*dcap.MEASUREMENTS, snp.TEE, tpm2_messages.TEE, simulated.TEE))


class Endorsements(NamedTuple):
    """What vendors say of their platforms, as the owner fetched it.

    Attributes:
        collateral: Of SGX and TDX quotes: JSON.
        certificates: Of SEV-SNP reports: VCEK, ASK and ARK, DER.
        revocations: AMD's revocation list, DER.
        ek_roots: Certificates of those who vouch for TPMs' endorsement keys.
    """

    collateral: str = ""
    certificates: tuple[bytes, ...] = ()
    revocations: bytes = b""
    ek_roots: tuple[x509.Certificate, ...] = ()


def challenge(tee: str, introduction: bytes, secret: bytes) -> bytes:
    """What an enclave needs beside a nonce to make its evidence: nothing for most TEEs.

    Args:
        tee: What it will prove itself with.
        introduction: Its own.
        secret: 32 bytes that a TPM must prove to have read.

    Raises:
        EvidenceError: The introduction is malformed, or no verifier knows the TEE.
    """
    if tee not in TEES:  # before it is remembered: it can be a megabyte of anything
        raise EvidenceError(f"this broker has no verifier for this TEE; it has: {', '.join(sorted(TEES))}")
    if tee == tpm2_messages.TEE:
        return tpm2_verify.challenge(introduction, secret)
    if introduction:
        raise EvidenceError(f"the TEE {tee!r} needs no introduction")
    return b""


def verify(asked: Asked, evidence: bytes, at: datetime, roots: Collection[bytes], endorsements: Endorsements) -> Claims:
    """Verifies evidence, and says what it claims.

    Args:
        asked: What its session began with.
        evidence: In the TEE's own form.
        at: When certificates must be valid.
        roots: SHA-256 of the public keys of AMD roots that are trusted beside the known ones.
        endorsements: The owner's, in the place of what the evidence brings.

    Raises:
        EvidenceError: It does not verify.
        ConfigError: A package that is needed is not installed here.
    """
    if asked.tee in dcap.MEASUREMENTS:
        claims = dcap.verify(evidence, at, collateral=endorsements.collateral)
    elif asked.tee == snp.TEE:
        given = (endorsements.certificates, endorsements.revocations)
        claims = snp.verify(evidence, at, roots=roots, certificates=given[0], revocations=given[1])
    elif asked.tee == tpm2_messages.TEE:
        known = {"introduction": asked.introduction, "secret": asked.secret}
        claims = tpm2_verify.verify(evidence, at, **known, roots=endorsements.ek_roots)
    else:
        claims = simulated.verify_insecurely(evidence)
    if claims.tee != asked.tee:
        raise EvidenceError(f"the evidence is said to be from {asked.tee}, and is from {claims.tee}")
    return claims
