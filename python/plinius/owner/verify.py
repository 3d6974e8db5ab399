"""`plinius verify`: evidence appraised offline, each check explained."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from plinius.attest import dcap, snp
from plinius.attest.claims import Claims
from plinius.attest.fields import decode
from plinius.attest.simulated import verify_insecurely
from plinius.errors import EvidenceError, PolicyError
from plinius.owner.appraisal import Check, appraise
from plinius.owner.evidence import Given
from plinius.owner.policy import Policy

_NAMES = {"sgx": "an SGX quote", "tdx": "a TDX quote", "snp": "an SEV-SNP report", "simulated": "simulated evidence"}


class Verdict(msgspec.Struct, frozen=True):
    """What was found.

    Attributes:
        tee: Which TEE the evidence says it is from.
        at: When it was appraised.
        checks: Each question and its answer; without a policy only whether the evidence verifies.
        claims: What it says; None if it does not verify.
    """

    tee: str
    at: datetime
    checks: list[Check]
    claims: Claims | None


def verify(given: Given, at: datetime, policy: Policy | None) -> Verdict:
    """Appraises evidence."""
    roots = policy.roots() if policy else frozenset()
    try:
        claims = claims_of(given, at, roots)
    except EvidenceError as error:
        return Verdict(given.tee, at, [Check("evidence", ok=False, text=str(error))], None)
    genuine = Check("evidence", ok=True, text=_genuine(given, at, roots))
    return Verdict(given.tee, at, [genuine, *(appraise(policy, claims) if policy else ())], claims)


def claims_of(given: Given, at: datetime, roots: frozenset[bytes] = frozenset()) -> Claims:
    """Verifies evidence.

    Args:
        given: The evidence, and what the owner brings.
        at: When.
        roots: AMD roots that are trusted beside the known ones, as SHA-256 of their public keys.

    Raises:
        EvidenceError: It does not verify, or there is no verifier for its TEE.
        ConfigError: A package that is needed is not installed.
    """
    if given.tee in dcap.MEASUREMENTS:
        claims = dcap.verify(given.evidence, at, collateral=given.collateral)
    elif given.tee == snp.TEE:
        claims = snp.verify(
            given.evidence, at, roots=roots, certificates=given.certificates, revocations=given.revocations
        )
    elif given.tee == "simulated":
        claims = verify_insecurely(given.evidence)
    else:
        raise EvidenceError(f"there is no verifier for the TEE {given.tee!r}")
    if claims.tee != given.tee:
        raise EvidenceError(f"the evidence is said to be from {given.tee}, and is from {claims.tee}")
    return claims


def require(verdict: Verdict) -> None:
    """Refuses what a check refused; why, the checks say.

    Raises:
        EvidenceError: The evidence does not verify.
        PolicyError: The policy does not accept it.
    """
    if verdict.claims is None:
        raise EvidenceError("the evidence does not verify; its check says why")
    if refused := [check.field for check in verdict.checks if not check.ok]:
        fields = ", ".join(f"field {field}" for field in refused)
        raise PolicyError(f"the policy refuses, {fields}; the checks say why", field=refused[0])


def explain(verdict: Verdict) -> list[str]:
    """A verdict in lines."""
    lines = [f"{_NAMES.get(verdict.tee, verdict.tee)}, appraised for {verdict.at.isoformat()}"]
    lines += [f"{'ok' if check.ok else 'refused'} {check.field}: {check.text}" for check in verdict.checks]
    if verdict.claims is not None and len(verdict.checks) == 1:
        claims = verdict.claims
        lines += [f"says {name}: {value.hex()}" for name, value in claims.measurements.items()]
        lines += [f"says {name}: {value}" for name, value in claims.numbers.items()]
        lines += [f"says TCB status: {claims.tcb_status}"] if claims.tcb_status else []
        lines += [f"says advisories: {', '.join(claims.advisories)}"] if claims.advisories else []
        lines.append("no policy was given, so nothing is accepted or refused; see: plinius policy --help")
    return lines


def facts(verdict: Verdict) -> dict[str, Any]:
    """A verdict for machines."""
    return {
        "tee": verdict.tee,
        "at": verdict.at.isoformat(),
        "verifies": verdict.claims is not None,
        "accepted": len(verdict.checks) > 1 and all(check.ok for check in verdict.checks),
        "checks": [msgspec.to_builtins(check) for check in verdict.checks],
        "claims": None if verdict.claims is None else _shown(verdict.claims),
    }


def _shown(claims: Claims) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(claims)
    measurements = {name: value.hex() for name, value in claims.measurements.items()}
    return {**shown, "measurements": measurements, "report_data": claims.report_data.hex()}


def _genuine(given: Given, at: datetime, roots: frozenset[bytes]) -> str:
    unlisted = ""
    if given.tee in dcap.MEASUREMENTS:
        first, last = dcap.validity(given.evidence, at, collateral=given.collateral)
    elif given.tee == snp.TEE:
        first, last = snp.validity(
            given.evidence, at, roots=roots, certificates=given.certificates, revocations=given.revocations
        )
        if not (given.revocations or decode(given.evidence, snp.SnpEvidence).revocations):
            unlisted = "; no revocation list was given (--revocations)"
    else:
        return "it can be read; whoever made it could write anything (simulated, insecure)"
    return f"signatures, certificates and dates hold, from {first.isoformat()} until {last.isoformat()}{unlisted}"
