"""The owner's policy: which enclaves get the key. A TOML file.

Of what it names, all but the listed values is refused. A measurement that it does not name may be anything, so it has
to name those that together are the code. What it leaves out beside them is the careful choice.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from plinius.attest import dcap, snp, tpm2_verify
from plinius.attest.release import Anchor
from plinius.attest.tpm_wire import MAX_PCRS
from plinius.errors import ConfigError
from plinius.files import read_small

SIMULATED: Final = "simulated-insecure"
ROOT_BYTES: Final = 32
_DAY_S: Final = 86400
_LIMITS: Final = {"anchor_every": (1, 1 << 40), "anchor_gap_s": (0, _DAY_S), "evidence_max_age_s": (1, _DAY_S)}
_MAX_POLICY_BYTES: Final = 1 << 20

# What each TEE measures, with its length in bytes.
MEASUREMENTS: Final[dict[str, dict[str, int | None]]] = {
    SIMULATED: {"code": 32},
    "sgx": {**dcap.MEASUREMENTS["sgx"]},
    "tdx": {**dcap.MEASUREMENTS["tdx"]},
    "snp": {**snp.MEASUREMENTS},
    "tpm2": {**tpm2_verify.MEASUREMENTS},
}
# TCG PC Client Platform TPM Profile, 4.6: any program may set these PCRs to zero, and then extend them as it likes.
RESETTABLE: Final = frozenset((16, 23))
# One of these must be named: a policy that names no code would give the key to any.
CODE: Final[dict[str, frozenset[str]]] = {
    SIMULATED: frozenset(("code",)),
    "sgx": frozenset(("mrenclave", "mrsigner")),
    "tdx": frozenset(("mrtd",)),
    "snp": frozenset(("measurement",)),
    "tpm2": frozenset(f"pcr{index}" for index in range(MAX_PCRS) if index not in RESETTABLE),
}
# Of these all must be named: mrtd is the firmware alone, and starts any system.
WHOLE: Final = {"tdx": frozenset(("mrtd", "rtmr1", "rtmr2"))}
NUMBERS: Final[dict[str, frozenset[str]]] = {**dcap.NUMBERS, "snp": snp.NUMBERS, "tpm2": tpm2_verify.NUMBERS}
# Where the vendor says of the platform how good its firmware is; a revoked one never verifies.
WITH_STATUS: Final = frozenset(dcap.NUMBERS)
_HIGHEST_VMPL: Final = "00"
# Where a field of a table says something, and why it is refused elsewhere: its owner would believe what is not so.
_APPLIES: Final[dict[str, tuple[frozenset[str], str]]] = {
    "tcb_statuses": (WITH_STATUS, "{} has no TCB status; remove this, and see `minimum`"),
    "advisories": (WITH_STATUS, "{} has no advisories; remove this, and see `minimum`"),
    "debug": (frozenset((snp.TEE,)), "debug enclaves of {} never verify, or never say so; remove this"),
    "trust_os": (frozenset(("tpm2",)), "only evidence of tpm2 asks for this, not that of {}; remove this"),
    "roots": (frozenset((snp.TEE,)), "{} has no choice of roots; remove this"),
}
# The same of the fields of [freshness], by the anchor.
_ANCHORED: Final = {"anchor_every": ("broker", "tpm"), "going_back": ("broker", "tpm"), "anchor_gap_s": ("tpm",)}

Tee: TypeAlias = Literal["simulated-insecure", "sgx", "tdx", "snp", "tpm2"]
Status: TypeAlias = Literal[
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "TDRelaunchAdvised",
    "TDRelaunchAdvisedConfigurationNeeded",
]


class Accept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of enclave that is accepted: all of it must hold.

    Attributes:
        tee: Which TEE.
        measurements: For each name the accepted values in hexadecimal digits.
        minimum: For each name the lowest accepted number.
        tcb_statuses: What the vendor may say of the platform; only where the TEE has such a status.
        advisories: Known weaknesses that are accepted.
        debug: Whether the machine's owner may look inside.
        trust_os: Whether evidence is accepted that other programs of the operating system can make too.
        roots: SHA-256 of the public key of each AMD root certificate (ARK) that is accepted, in the place of the known.
    """

    tee: Tee
    measurements: dict[str, list[str]]
    minimum: dict[str, int] = {}
    tcb_statuses: list[Status] | None = None
    advisories: list[str] = []
    debug: bool = False
    trust_os: bool = False
    roots: list[str] = []

    @property
    def statuses(self) -> tuple[str, ...]:
        """The accepted statuses: without a word of the owner's, the best one only."""
        return ("UpToDate",) if self.tcb_statuses is None else tuple(self.tcb_statuses)

    @property
    def values(self) -> dict[str, list[str]]:
        """The accepted measurements: without a word of the owner's, of an SNP guest's levels only the highest."""
        return {"vmpl": [_HIGHEST_VMPL], **self.measurements} if self.tee == snp.TEE else self.measurements


class Freshness(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a job's state and its evidence are kept fresh.

    Attributes:
        anchor: Where the newest state is remembered, outside the pool.
        anchor_every: At most so many versions may lie between two anchored ones: a rollback is bounded by it.
        anchor_gap_s: So many seconds lie between two writes into a TPM, whose memory wears out; an earlier one waits.
        going_back: Whether the job may go on from an older state than the anchored one.
        evidence_max_age_s: How long a challenge may be answered, in seconds.
    """

    anchor: Anchor = "broker"
    anchor_every: int = 1
    anchor_gap_s: int = 60
    going_back: bool = False
    evidence_max_age_s: int = 60


class Sealing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether the key may rest on the untrusted machine, sealed to its TPM, so that a restart needs no broker.

    Attributes:
        pcrs: Sealed to these, as they are at that moment; none: it may not.
    """

    pcrs: list[Annotated[int, msgspec.Meta(ge=0, le=23)]] = []


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A policy.

    Attributes:
        accept: What is accepted: one of these must hold as a whole.
        freshness: What is asked of the state.
        sealing: Whether the key may be sealed to a TPM.
    """

    accept: list[Accept]
    freshness: Freshness = Freshness()
    sealing: Sealing = Sealing()

    def roots(self) -> frozenset[bytes]:
        """The AMD roots that any of the tables names, for the verifier."""
        return frozenset(bytes.fromhex(root) for accept in self.accept for root in accept.roots)


def load(path: str) -> Policy:
    """Reads a policy.

    Raises:
        ConfigError: The file cannot be read, or is no policy.
    """
    return parse(read_small(path, _MAX_POLICY_BYTES, "the policy"), path)


def parse(text: bytes, path: str) -> Policy:
    """Parses a policy.

    Args:
        text: TOML.
        path: What errors call the file.

    Raises:
        ConfigError: It is no policy; the message names the field.
    """
    if len(text) > _MAX_POLICY_BYTES:
        raise ConfigError(f"a policy has at most {_MAX_POLICY_BYTES} bytes", path=path)
    try:
        policy = msgspec.convert(tomllib.loads(text.decode()), type=Policy)
    except UnicodeDecodeError:
        raise ConfigError("this policy is not text in UTF-8", path=path) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"this policy is not TOML: {error}", path=path) from None
    except (msgspec.ValidationError, RecursionError) as error:
        raise ConfigError(f"{error}; see: plinius policy --help", path=path) from None
    wrong = _wrong(policy)
    if wrong:
        raise ConfigError(wrong, path=path)
    return policy


def _wrong(policy: Policy) -> str | None:
    """What the types cannot say."""
    tables = (
        f"accept[{index}].{wrong}" for index, accept in enumerate(policy.accept) for wrong in _wrong_table(accept)
    )
    return next(chain(_wrong_freshness(policy), tables), None)


def _wrong_freshness(policy: Policy) -> Iterator[str]:
    if not policy.accept:
        yield "accept: nothing is accepted; add a table [[accept]]"
    for name, (least, most) in _LIMITS.items():
        if not least <= getattr(policy.freshness, name) <= most:
            yield f"freshness.{name}: choose a number from {least} to {most}"
    for name, anchors in _ANCHORED.items():
        if policy.freshness.anchor not in anchors and getattr(policy.freshness, name) != getattr(Freshness(), name):
            yield f'freshness.{name}: it means nothing with anchor = "{policy.freshness.anchor}"; leave it out'
    if any(accept.tee != "tpm2" for accept in policy.accept):
        # No other evidence says which TPM is there: the host could hand over one that it can read and put back.
        if policy.sealing.pcrs:
            yield "sealing.pcrs: only evidence of tpm2 says which TPM it is; accept tpm2 alone, or leave this out"
        if policy.freshness.anchor == "tpm":
            yield "freshness.anchor: only evidence of tpm2 says which TPM it is; accept tpm2 alone, or take the broker"
    if policy.sealing.pcrs and RESETTABLE.issuperset(policy.sealing.pcrs):
        yield "sealing.pcrs: any program can set PCR 16 and 23 as it likes; name one that only a boot changes"
    if policy.sealing.pcrs and policy.freshness.anchor == "broker":
        yield "sealing.pcrs: a restart without the broker is not anchored there; set freshness.anchor to tpm or none"


def _wrong_table(accept: Accept) -> Iterator[str]:
    yield from _wrong_measurements(accept)
    yield from _wrong_code(accept)
    yield from _wrong_rest(accept)


def _wrong_measurements(accept: Accept) -> Iterator[str]:
    known = MEASUREMENTS[accept.tee]
    for name, values in accept.measurements.items():
        if name not in known:
            yield f"measurements.{name}: {accept.tee} has no such measurement, but {', '.join(known)}"
        elif not values:
            yield f"measurements.{name}: list the accepted values, in hexadecimal digits"
        elif not all(_is_hex(value, known[name]) for value in values):
            digits = f"{2 * length} " if (length := known[name]) else ""
            yield f"measurements.{name}: a value has {digits}hexadecimal digits"


def _wrong_code(accept: Accept) -> Iterator[str]:
    code = CODE[accept.tee]
    if not code & accept.measurements.keys():
        yield f"measurements: name the accepted code: {' or '.join(sorted(code))}"
    for name in sorted(WHOLE.get(accept.tee, frozenset()) - accept.measurements.keys()):
        yield f"measurements.{name}: mrtd is the firmware alone, which starts any system: name rtmr1 and rtmr2 too"
    if accept.tee == "tpm2" and not {"ek", "ek_root"} & accept.measurements.keys():
        yield "measurements.ek: name the TPM (ek), or who vouches for it (ek_root): else any program can play one"
    if accept.tee == "sgx" and "mrenclave" not in accept.measurements:
        # Whoever signed this enclave has signed others, and older ones of the same.
        if "isv_prod_id" not in accept.measurements:
            yield "measurements.isv_prod_id: mrsigner alone accepts all enclaves of this signer; name the product"
        if accept.minimum.get("isv_svn", 0) < 1:
            yield "minimum.isv_svn: mrsigner alone accepts all old enclaves of this signer; name a version above 0"


def _wrong_rest(accept: Accept) -> Iterator[str]:
    numbers = NUMBERS.get(accept.tee, frozenset())
    for name, least in accept.minimum.items():
        if name not in numbers:
            yield f"minimum.{name}: {accept.tee} has no such number; it has: {', '.join(sorted(numbers)) or 'none'}"
        elif least < 0:
            yield f"minimum.{name}: no number is below 0, so {least} refuses nothing; choose a higher one"
    default = Accept(tee=accept.tee, measurements={})
    for name, (tees, why) in _APPLIES.items():
        if accept.tee not in tees and getattr(accept, name) != getattr(default, name):
            yield f"{name}: {why.format(accept.tee)}"
    if accept.tcb_statuses == []:
        yield "tcb_statuses: name at least one, or leave the line out for UpToDate"
    if not all(_is_hex(root, ROOT_BYTES) for root in accept.roots):
        yield f"roots: a root is the SHA-256 of a public key: {2 * ROOT_BYTES} hexadecimal digits"


def _is_hex(value: str, length: int | None) -> bool:
    try:
        found = bytes.fromhex(value)
    except ValueError:
        return False
    return bool(found) and len(found) == (length or len(found)) and len(value) == 2 * len(found)
