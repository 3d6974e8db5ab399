"""Which attester an enclave proves itself with, by the name of its TEE."""

from __future__ import annotations

from typing import Final

from plinius.attest.claims import Attester
from plinius.attest.simulated import SimulatedAttester
from plinius.errors import ConfigError

TEES: Final = ("simulated",)


def open_attester(tee: str) -> Attester:
    """Opens what makes evidence; later, in the sandbox, nothing can be opened.

    Raises:
        ConfigError: There is no such TEE, or this machine has none.
    """
    if tee == "simulated":
        return SimulatedAttester()
    raise ConfigError(f"there is no attester for {tee!r}; this release has {', '.join(TEES)}")
