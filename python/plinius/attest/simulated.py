"""The simulated TEE, for development: the process reports itself, so the evidence proves nothing to a stranger.

It is accepted only where the owner and the enclave are started by the same person on one machine.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from plinius.errors import EvidenceError, PolicyError

TEE: Final = "simulated"


class SimulatedEvidence(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a simulated enclave says of itself.

    Attributes:
        measurement: SHA-256 over the installed package.
        report_data: Binds the evidence to a session and a key.
    """

    measurement: bytes
    report_data: bytes


def report_data(session: bytes, nonce: bytes, public_key: bytes) -> bytes:
    """The hash that binds evidence to its session: of length-prefixed fields, so it can be read in one way only."""
    fields = (b"plinius evidence 1", session, nonce, public_key)
    return hashlib.sha256(b"".join(len(field).to_bytes(8, "little") + field for field in fields)).digest()


def attest(data: bytes) -> bytes:
    """Makes evidence about this process."""
    return msgspec.msgpack.encode(SimulatedEvidence(measurement(), data))


def verify_insecurely(evidence: bytes, expected_report_data: bytes) -> None:
    """Appraises simulated evidence: insecure by name, because the process that made it can lie.

    Raises:
        EvidenceError: It is malformed, or belongs to another session or key.
        PolicyError: The enclave runs other code than the package that is installed here.
    """
    try:
        claims = msgspec.msgpack.decode(evidence, type=SimulatedEvidence)
    except (msgspec.MsgspecError, ValueError) as error:
        raise EvidenceError(f"the evidence cannot be read: {error}") from None
    if not hmac.compare_digest(claims.report_data, expected_report_data):
        raise EvidenceError("the evidence belongs to another session or key: it was replayed or relayed")
    if not hmac.compare_digest(claims.measurement, measurement()):
        raise PolicyError("the enclave runs other code than the plinius installed here", field="measurement")


@cache
def measurement() -> bytes:
    """SHA-256 over every module of the installed package and its core, names included: read once in a process.

    An enclave asks for it before it enters its sandbox, in which it could not.
    """
    package = Path(__file__).resolve().parent.parent
    total = hashlib.sha256()
    for file in sorted(package.rglob("*")):
        if file.suffix in {".py", ".so"}:
            total.update(str(file.relative_to(package)).encode() + b"\0")
            total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.digest()
