"""Whether a policy accepts what verified evidence says; every question is answered, not only the first that fails."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from plinius.attest import snp
from plinius.attest.claims import Claims
from plinius.attest.snp_chain import AMD_ROOTS
from plinius.errors import PolicyError
from plinius.owner.policy import SIMULATED, WITH_STATUS, Accept, Policy


class Check(msgspec.Struct, frozen=True):
    """One question and its answer.

    Attributes:
        field: The policy's field that asks.
        ok: Whether what was found is accepted.
        text: What was asked and what was found.
    """

    field: str
    ok: bool
    text: str


def appraise(policy: Policy, claims: Claims) -> list[Check]:
    """Appraises claims.

    Returns:
        The checks of a table that accepts them; if none does, those of the one with the fewest refusals.
    """
    tee = SIMULATED if claims.tee == "simulated" else claims.tee
    tables = [_checks(accept, claims) for accept in policy.accept if accept.tee == tee]
    if not tables:
        accepted = ", ".join(dict.fromkeys(accept.tee for accept in policy.accept))
        return [Check("tee", ok=False, text=f"accepted are {accepted}, this is {tee}")]
    checks = min(tables, key=lambda table: sum(not check.ok for check in table))
    return [Check("tee", ok=True, text=f"this is {tee}"), *checks]


def require(checks: Iterable[Check]) -> None:
    """Refuses what a check refused.

    Raises:
        PolicyError: The first one that failed.
    """
    for check in checks:
        if not check.ok:
            raise PolicyError(f"the policy refuses, field {check.field}: {check.text}", field=check.field)


def _checks(accept: Accept, claims: Claims) -> list[Check]:
    checks = [
        *(_measurement(name, values, claims) for name, values in accept.values.items()),
        *(_minimum(name, least, claims) for name, least in accept.minimum.items()),
    ]
    if accept.tee in WITH_STATUS:
        found = claims.tcb_status or "no status"
        text = f"accepted: {', '.join(accept.statuses)}; found: {found}"
        checks.append(Check("tcb_statuses", ok=found in accept.statuses, text=text))
    checks.append(_advisories(accept.advisories, claims))
    if accept.tee == snp.TEE:
        checks.append(_root(accept, claims))
    found = "others may look inside (debug)" if claims.debug else "nobody may look inside"
    checks.append(Check("debug", ok=accept.debug or not claims.debug, text=found))
    found = "proves only what the operating system lets it" if claims.trusts_os else "does not depend on the system"
    checks.append(Check("trust_os", ok=accept.trust_os or not claims.trusts_os, text=f"the evidence {found}"))
    return checks


def _measurement(name: str, accepted: list[str], claims: Claims) -> Check:
    found = claims.measurements.get(name)
    ok = found is not None and found in map(bytes.fromhex, accepted)
    shown = "nothing" if found is None else found.hex()
    text = f"accepted, and found: {shown}" if ok else f"found {shown}, which is none of the {len(accepted)} accepted"
    return Check(f"measurements.{name}", ok=ok, text=text)


def _minimum(name: str, least: int, claims: Claims) -> Check:
    found = claims.numbers.get(name)
    text = f"at least {least}, found {'none' if found is None else found}"
    return Check(f"minimum.{name}", ok=found is not None and found >= least, text=text)


def _advisories(accepted: Collection[str], claims: Claims) -> Check:
    others = [name for name in claims.advisories if name not in accepted]
    text = f"not accepted: {', '.join(others)}" if others else f"found: {', '.join(claims.advisories) or 'none'}"
    return Check("advisories", ok=not others, text=text)


def _root(accept: Accept, claims: Claims) -> Check:
    found = claims.measurements.get(snp.ROOT, b"")
    known = {key: f"AMD's for {name}" for name, key in AMD_ROOTS.items()}
    accepted = set(map(bytes.fromhex, accept.roots)) or set(known)
    text = f"the root is {known.get(found, found.hex())}"
    return Check("roots", ok=found in accepted, text=text if found in accepted else f"{text}, which is not accepted")
