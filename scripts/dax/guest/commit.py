"""Inside the guest: checks what the last machine left in the pool, and commits until this one is killed."""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from plinius import Key, Mirror, Pool, status
from plinius.mirror import RollbackWarning

# A machine that nobody killed ends by itself.
SECONDS = 120


class Job:
    """State that tells its step in every element: small and larger arrays, and a list that grows."""

    def __init__(self, pool: Pool, key: Key) -> None:
        self.arrays: dict[str, npt.NDArray[np.generic]] = {
            "small": np.zeros(5),
            "large": np.zeros(5000),
            "bytes": np.zeros(1000, np.uint16),
        }
        self.history: list[int] = []
        self.mirror = Mirror(pool, key, name="job", arrays=self.arrays, history={"steps": self.history})

    def restore(self) -> int:
        """Restores, checks every element, and returns the step."""
        step = self.mirror.restore() or 0
        if any((array != step % 60_000).any() for array in self.arrays.values()):
            raise SystemExit(f"an array is not that of step {step}: {self.arrays}")
        if self.history != list(range(1, step + 1)):
            raise SystemExit(f"the history is not that of step {step}: {self.history}")
        return step

    def save(self, step: int) -> None:
        """Makes a step's state, and makes it durable."""
        for array in self.arrays.values():
            array[:] = step % 60_000
        self.history.append(step)
        self.mirror.save(step)


def main() -> None:
    """Reports the state word that was found, the step that was recovered, and each step that is durable."""
    warnings.simplefilter("ignore", RollbackWarning)
    path, key = Path(sys.argv[1]), Key.load(sys.argv[2])
    print("found", status(path).state if path.exists() else "nothing", flush=True)
    with Pool(path) as pool:
        job = Job(pool, key)
        step = job.restore()
        print("recovered", step, flush=True)
        end_s = time.monotonic() + SECONDS
        while time.monotonic() < end_s:
            step += 1
            job.save(step)
            print("step", step, flush=True)


if __name__ == "__main__":
    main()
