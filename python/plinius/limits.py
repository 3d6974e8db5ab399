"""How large the numbers of a job may be: what the commands take, and what the enclave does."""

from typing import Final

MAX_STEPS: Final = (1 << 40) - 1
MAX_SEED: Final = (1 << 63) - 1
MAX_THREADS: Final = 1024
MAX_KEPT: Final = 1000
