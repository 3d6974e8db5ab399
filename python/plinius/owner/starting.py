"""`plinius policy`: a policy to start from, with comments, filled from evidence where there is some."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from plinius.attest import simulated
from plinius.attest.claims import Claims
from plinius.errors import ConfigError
from plinius.owner.policy import SIMULATED, WITH_STATUS

# Which measurements a policy to start from names, with what they are.
_NAMED: Final = {
    SIMULATED: {"code": "SHA-256 over the installed plinius; self-reported, so it finds a wrong release, no attacker"},
    "sgx": {"mrenclave": "the enclave's code and initial data"},
    "tdx": {
        "mrtd": "the TD's initial memory: its firmware",
        "rtmr0": "the firmware's configuration",
        "rtmr1": "the kernel",
        "rtmr2": "the kernel's command line and initial RAM disk",
        "td_attributes": "what the TD lets be done to it",
    },
    "snp": {
        "measurement": "the guest's initial memory: its firmware, and the system's hashes only if it checks them",
        "host_data": "what the guest's owner gave at launch",
        "guest_policy": "what the guest lets be done to it",
        "vmpl": "the privilege level that asked for the report: 00 is the highest, and accepted if this is left out",
    },
    "tpm2": {
        "ek": "which TPM: SHA-256 of its endorsement key; the audit log names that of one that was refused",
        "pcr11": "the unified kernel image (systemd-stub); name the PCRs that your boot chain uses",
    },
}
_LEAST: Final = {
    "sgx": ("isv_svn", "tcb_evaluation_number"),
    "tdx": ("tcb_evaluation_number",),
    "snp": ("tcb_bootloader", "tcb_tee", "tcb_snp", "tcb_microcode"),
}
_HEAD: Final = """\
# Which enclaves get the key. One of the tables [[accept]] must hold as a whole. Of what it names, all but the listed
# values is refused; a measurement that it does not name may be anything.
# Check evidence against this file: plinius verify EVIDENCE --policy THIS_FILE
"""
_FRESHNESS: Final = """
[freshness]
anchor = "broker"          # where the newest state is remembered, outside the pool: none, broker, tpm
anchor_every = 1           # a rollback by less than so many versions is not found
anchor_gap_s = 60          # seconds between two writes into a TPM, whose memory wears out
going_back = false         # true: the job may go on from an older state
evidence_max_age_s = 60    # how long a challenge may be answered

# [sealing]
# pcrs = [0, 2, 4, 7]      # the key may rest on the machine, sealed to these PCRs of its TPM: a restart asks no broker
"""


def starting_policy(tee: str, claims: Claims | None = None) -> str:
    """The text of a policy.

    Args:
        tee: As the policy names it.
        claims: What verified evidence of the enclave to accept says; without it, lists stay empty where nobody can
            know the values, and the policy is refused until they are filled in.

    Raises:
        ConfigError: The evidence is of another TEE.
    """
    if claims is not None and claims.tee != tee.removesuffix("-insecure"):
        raise ConfigError(f"a policy for {tee} cannot be filled from evidence of {claims.tee}")
    return _HEAD + "\n".join(_table(tee, claims)) + "\n" + _FRESHNESS


def _table(tee: str, claims: Claims | None) -> Iterator[str]:
    yield f'\n[[accept]]\ntee = "{tee}"'
    if tee == "snp":
        yield "debug = false              # true: whoever owns the machine may look inside"
    if tee == "tpm2":
        yield "trust_os = true            # evidence that other programs of that system can make is enough"
    if tee in WITH_STATUS:
        yield 'tcb_statuses = ["UpToDate"]    # what Intel may say of the platform'
        yield "advisories = []            # weaknesses of the platform that you accept, as in INTEL-SA-00615"
    if claims is not None and (claims.advisories or claims.tcb_status not in {None, "UpToDate"}):
        weaknesses = ", ".join(claims.advisories) or "none"
        yield f"# The evidence has TCB status {claims.tcb_status}, advisories: {weaknesses}."
        yield "# Nothing of that is accepted until you write it above."
    yield "\n[accept.measurements]    # accepted values, in hexadecimal digits"
    for name, meaning in _NAMED[tee].items():
        yield f"{name} = [{_value(tee, name, claims)}]    # {meaning}"
    if tee in _LEAST:
        yield "\n[accept.minimum]         # the lowest versions, 0: any; raise them when the firmware was updated"
        for name in _LEAST[tee]:
            yield f"{name} = {0 if claims is None else claims.numbers[name]}"


def _value(tee: str, name: str, claims: Claims | None) -> str:
    if claims is not None:
        return f'"{claims.measurements[name].hex()}"' if name in claims.measurements else ""
    if tee == SIMULATED:
        return f'"{simulated.measurement().hex()}"'
    return ""
