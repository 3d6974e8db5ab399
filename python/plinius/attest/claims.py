"""What verified evidence says: the one form in which every verifier answers, and which a policy then accepts or not."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What the evidence of an attester says, once its signature and its endorsements hold.

    Attributes:
        tee: ``simulated``, ``sgx``, ``tdx``, ``snp`` or ``tpm2``.
        report_data: What the evidence binds: 32 bytes, see `plinius.attest.report`.
        measurements: Of code and configuration, by the TEE's own names: ``code``; ``mrenclave``, ``mrsigner``;
            ``mrtd``, ``rtmr0`` to ``rtmr3``; ``measurement``, ``host_data``; ``pcr0`` to ``pcr23``.
        debug: Whether whoever owns the machine may look inside.
        tcb_status: What the vendor says of the platform's firmware, in the vendor's words; None where there is none.
        advisories: The vendor's names of known weaknesses that the platform has.
        numbers: Versions that a policy may ask a minimum of, such as ``isv_svn`` or ``tcb_microcode``.
        trusts_os: Whether the evidence proves only what the operating system lets it: other programs can make it too.
    """

    tee: str
    report_data: bytes
    measurements: dict[str, bytes]
    debug: bool
    tcb_status: str | None = None
    advisories: tuple[str, ...] = ()
    numbers: dict[str, int] = {}
    trusts_os: bool = False


class Attester(Protocol):
    """Makes evidence, inside the enclave."""

    @property
    def tee(self) -> str:
        """The name of its TEE."""

    def introduce(self) -> bytes:
        """What the verifier must know before it challenges; nothing for most."""

    def attest(self, report_data: bytes, credential: bytes) -> bytes:
        """Makes evidence that binds `report_data`.

        Args:
            report_data: 32 bytes.
            credential: What the verifier answered to the introduction.

        Raises:
            EvidenceError: This machine cannot make any.
        """
