"""Which attester an enclave proves itself with, by the name of its TEE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plinius.attest.claims import Attester
from plinius.attest.simulated import SimulatedAttester
from plinius.errors import ConfigError

if TYPE_CHECKING:
    from plinius.attest.tpm import Tpm
    from plinius.attest.tpm_anchor import Place

TEES: Final = ("simulated", "sgx", "tdx", "snp", "tpm2")


@dataclass(frozen=True)
class Platform:
    """What this machine has for an enclave: opened once, for in the sandbox nothing can be opened.

    Attributes:
        attester: Makes evidence.
        tpm: The TPM, where one was named: for evidence, for an anchor, for a sealed key.
        place: Where a job's anchor is in it.
    """

    attester: Attester
    tpm: Tpm | None
    place: Place | None

    @classmethod
    def open(cls, tee: str, tpm_fd: int | None, job_id: bytes | None) -> Platform:
        """Opens it.

        Args:
            tee: What the enclave proves itself with.
            tpm_fd: The TPM: its device, open; None: there is none.
            job_id: Of the job's manifest, where it has one.

        Raises:
            ConfigError: There is no such TEE here, or no such TPM.
        """
        if tpm_fd is None:
            return cls(_attester(tee, None), None, None)
        import plinius.attest.tpm_keeping  # noqa: F401, PLC0415 (an optional package; in the sandbox it is too late)
        from plinius.attest.tpm import Tpm  # noqa: PLC0415 (an optional package)
        from plinius.attest.tpm_anchor import Place  # noqa: PLC0415 (an optional package)

        tpm = Tpm(tpm_fd)
        return cls(_attester(tee, tpm), tpm, Place.of_job(job_id) if job_id is not None else None)


def _attester(tee: str, tpm: Tpm | None) -> Attester:
    if tee == "simulated":
        return SimulatedAttester()
    if tee == "tpm2":
        if tpm is None:
            raise ConfigError("--tee tpm2 needs a TPM: name it with --tpm, such as --tpm /dev/tpmrm0")
        from plinius.attest.tpm2 import Tpm2Attester  # noqa: PLC0415 (an optional package)

        return Tpm2Attester(tpm)
    if tee in ("tdx", "snp"):
        from plinius.attest.tsm import TsmAttester  # noqa: PLC0415 (what one TEE needs alone)

        attester = TsmAttester()
        if attester.tee != tee:
            raise ConfigError(f"this machine is a guest of {attester.tee}, not of {tee}")
        return attester
    if tee == "sgx":
        from plinius.attest.gramine import GramineAttester  # noqa: PLC0415 (what one TEE needs alone)

        return GramineAttester()
    raise ConfigError(f"there is no TEE {tee!r}; this release has {', '.join(TEES)}")
