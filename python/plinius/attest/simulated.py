"""The simulated TEE, for development: the process reports itself, so the evidence proves nothing to a stranger.

It is accepted only where the owner and the enclave are started by the same person on one machine.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from plinius.attest.claims import Claims
from plinius.errors import EvidenceError

TEE: Final = "simulated"


class SimulatedEvidence(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a simulated enclave says of itself.

    Attributes:
        measurement: SHA-256 over the installed package.
        report_data: Binds the evidence to a session and a key.
    """

    measurement: bytes
    report_data: bytes


class SimulatedAttester:
    """Reports this process's code.

    It is measured when this is made: later, in the sandbox, no file can be opened.
    """

    tee = TEE

    def __init__(self) -> None:
        self._measurement = measurement()

    def introduce(self) -> bytes:
        """Nothing."""
        return b""

    def attest(self, report_data: bytes, credential: bytes) -> bytes:  # noqa: ARG002 (there is none)
        """Makes evidence that anybody could make."""
        return msgspec.msgpack.encode(SimulatedEvidence(self._measurement, report_data))


def verify_insecurely(evidence: bytes) -> Claims:
    """Reads simulated evidence: insecure by name, because the process that made it can lie.

    Raises:
        EvidenceError: It is malformed.
    """
    try:
        claims = msgspec.msgpack.decode(evidence, type=SimulatedEvidence)
    except (msgspec.MsgspecError, ValueError) as error:
        raise EvidenceError(f"the evidence cannot be read: {error}") from None
    # That anybody can look inside is what its name in a policy says: it needs no second word of the owner's.
    return Claims(tee=TEE, report_data=claims.report_data, measurements={"code": claims.measurement}, debug=False)


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
