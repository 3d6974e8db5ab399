"""A model, not a measurement: what SGX would add to our saves and restores.

Transitions: each thread enters and leaves the enclave once; the pool is mapped, so that nothing in between leaves it.
Paging: when the model and its temporary memory exceed the usable EPC, a page that is missing costs two transitions (the
fault leaves the enclave, ERESUME goes back) and the sealing of one page and the opening of another (EWB, ELDU), here at
the speed of AES-GCM on this CPU. What the kernel's driver does beside that is not counted, so this is a lower bound.
Of the pages, at least those beyond the EPC are missing; at most all, because a walk through more than fits finds
nothing of the last walk under LRU. The cycles of a transition and the usable EPC are the paper's.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from plinius.bench import paper
from plinius.bench.clock import timed

_PAGE_BYTES: Final = 4096
_SAMPLES: Final = 2000


@dataclass(frozen=True)
class Modelled:
    """What SGX would add to one save or one restore of ours.

    Attributes:
        size_mb: The model's size.
        transitions_s: For entering and leaving.
        least_paging_s: If only the pages beyond the EPC are missing.
        most_paging_s: If all pages are.
    """

    size_mb: float
    transitions_s: float
    least_paging_s: float
    most_paging_s: float


def page_s() -> float:
    """Seconds to seal one page and open another, measured."""
    aead, nonce, page = AESGCM(os.urandom(16)), os.urandom(12), bytes(_PAGE_BYTES)
    sealed = aead.encrypt(nonce, page, None)
    seal_s = statistics.median(timed(lambda: aead.encrypt(nonce, page, None)) for _ in range(_SAMPLES))
    return seal_s + statistics.median(timed(lambda: aead.decrypt(nonce, sealed, None)) for _ in range(_SAMPLES))


def cycles_per_s() -> float:
    """The clock of this CPU, as the kernel tells it.

    Raises:
        OSError: /proc/cpuinfo cannot be read.
        ValueError: It does not say.
    """
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("cpu MHz"):
            return float(line.split(":")[1]) * 1e6
    raise ValueError("/proc/cpuinfo does not say the CPU's clock")


def modelled(state_bytes: Sequence[tuple[float, int, int]], threads: int) -> list[Modelled]:
    """What SGX would add.

    Args:
        state_bytes: By size: MB, bytes of the model, bytes of private memory beyond it.
        threads: That save.
    """
    transition_s = paper.number("fig7.transition").value / cycles_per_s()
    missing_page_s = 2 * transition_s + page_s()
    return [_one(size, model + beyond, threads, transition_s, missing_page_s) for size, model, beyond in state_bytes]


def _one(size_mb: float, working_bytes: int, threads: int, transition_s: float, missing_page_s: float) -> Modelled:
    over_bytes = max(0, working_bytes - paper.number("fig7.usable_epc").value * 10**6)
    return Modelled(
        size_mb=size_mb,
        transitions_s=2 * threads * transition_s,
        least_paging_s=over_bytes / _PAGE_BYTES * missing_page_s,
        most_paging_s=working_bytes / _PAGE_BYTES * missing_page_s if over_bytes else 0,
    )
