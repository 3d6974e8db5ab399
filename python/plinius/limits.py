"""How large things are and may be, for processes that share nothing else."""

from typing import Final

DEFAULT_HEAP_BYTES: Final = 2 << 20
"""First length of each of the twin heaps of a pool."""
MAX_STEPS: Final = (1 << 40) - 1
MAX_SEED: Final = (1 << 63) - 1
MAX_THREADS: Final = 1024
MAX_KEPT: Final = 1000
