"""A model, and no measurement: what SGX would add to our measured saves and restores, from 10 MB to 1 GB.

Measured here: the seconds of a save and of a restore; the private memory that they need beyond the largest model at
their peak; and how often a step with a save calls out of the enclave, and a start with a restore.

Added by the model:

- Transitions. Each call out of the enclave (a message to the host, a look for one) costs two: out, and back in. Each
  costs what the paper says it costs at most (`fig7.transition`).
- Page swaps. A save reads every byte of the model, a restore writes every byte; with what they need beyond the model
  that is the working set. While it fits what is usable of the EPC (`fig7.usable_epc`) nothing is swapped. Beyond that,
  a pass over it swaps at least what does not fit, since no more can be there when it begins, and at most every page:
  that is what happens when the page that was not used for the longest time is evicted, and pass follows pass. Each swap
  costs `sgxmodel.page_swap`: about 40,000 cycles according to M. Taassori, A. Shafiee, R. Balasubramonian, "VAULT:
  Reducing Paging Overheads in SGX with Efficient Integrity Verification Structures", ASPLOS 2018, abstract.
- Cycles become seconds at the clock rate that this CPU says it has.

Not in the model: the memory of the code and of the framework, which share the EPC; what the encryption of the EPC adds
to each access; and that swaps wait for one another where several threads cause them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final, NamedTuple

from plinius.bench import paper
from plinius.errors import PliniusError

_MEGABYTE: Final = 10**6
_MEGAHERTZ: Final = 10**6
_PAGE_BYTES: Final = 4096
_CPU: Final = Path("/proc/cpuinfo")


class Machine(NamedTuple):
    """What the model assumes of SGX.

    Attributes:
        hz: Cycles a second.
        epc_bytes: What is usable of the EPC.
        transition_cycles: Of one transition.
        swap_cycles: Of a page that is swapped for another.
    """

    hz: float
    epc_bytes: float
    transition_cycles: float
    swap_cycles: float

    @classmethod
    def of(cls, hz: float) -> Machine:
        """With the numbers of the literature."""
        names = ("fig7.usable_epc", "fig7.transition", "sgxmodel.page_swap")
        epc_mb, transition, swap = (paper.number(name).value for name in names)
        return cls(hz, epc_mb * _MEGABYTE, transition, swap)

    def transitions_s(self, calls: int) -> float:
        """What calls out of the enclave add: each leaves it and comes back."""
        return 2 * calls * self.transition_cycles / self.hz

    def swaps(self, working_set_bytes: float) -> tuple[int, int]:
        """The page swaps of one of many passes over a working set: at least, and at most."""
        if working_set_bytes <= self.epc_bytes:
            return 0, 0
        least, most = ((working_set_bytes - fits) / _PAGE_BYTES for fits in (self.epc_bytes, 0))
        return math.ceil(least), math.ceil(most)

    def swaps_s(self, working_set_bytes: float) -> tuple[float, float]:
        """The seconds of these."""
        least, most = self.swaps(working_set_bytes)
        return least * self.swap_cycles / self.hz, most * self.swap_cycles / self.hz


def clock_hz() -> float:
    """The clock rate that this CPU says it has, that of its fastest core.

    Raises:
        PliniusError: It says none.
    """
    rates = [float(line.split(":")[1]) for line in _CPU.read_text().splitlines() if line.startswith("cpu MHz")]
    if not rates:
        raise PliniusError("this CPU does not say its clock rate, so cycles of SGX cannot become seconds")
    return max(rates) * _MEGAHERTZ
