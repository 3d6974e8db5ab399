"""Runs an example, kills it with SIGKILL in the middle of its training, and runs it again until it is done.

An example takes ``--pool PATH --key PATH --output PATH`` and ``--steps N``. It prints ``step N``, flushed, once that
step is durable, and at its end writes what the training has come to into the output: equal bytes for equal states.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@dataclass(frozen=True)
class Example:
    """An example, where it keeps what it writes, and how many moments after a step it is killed at most."""

    script: str
    folder: Path
    key: Path
    steps: int
    options: tuple[str, ...] = ()
    moments_s: float = 0.05

    def run(self, name: str, kill_after: int | None = None) -> list[int]:
        """Runs it on the pool of this name and returns the steps that it reported.

        Args:
            name: Of the pool, the output and the log.
            kill_after: It is killed within moments of reporting so many steps; without it, it ends by itself.
        """
        where = ["--pool", self.folder / f"{name}.pool", "--key", self.key, "--output", self.folder / f"{name}.out"]
        command = [sys.executable, EXAMPLES / self.script, *where, "--steps", str(self.steps), *self.options]
        log = self.folder / f"{name}.log"
        # Threads bounded, so that sums are added in one order whatever else the machine does.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
        reported: list[int] = []
        with (
            log.open("ab") as errors,
            subprocess.Popen(
                list(map(str, command)), stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
            ) as process,
        ):
            assert process.stdout
            for line in process.stdout:
                if line.startswith("step "):
                    reported.append(int(line.split()[1]))
                if len(reported) == kill_after:
                    try:
                        process.wait(random.uniform(0, self.moments_s))  # noqa: S311 (a moment, not a secret)
                    except subprocess.TimeoutExpired:
                        process.kill()  # what it reported in these moments is still read
            code = process.wait()
        assert kill_after is not None or code == 0, log.read_text(errors="replace")[-3000:]
        return reported

    def output(self, name: str) -> bytes:
        """What the training came to."""
        return (self.folder / f"{name}.out").read_bytes()


def check_resumes_exactly(example: Example, kills: tuple[int, ...]) -> None:
    """A run that is killed after so many steps of each life ends with the same bytes as one that is not.

    Each life must go on where the last one was durable, or one step on: its report may have been lost with it.
    """
    whole = example.run("whole")
    assert whole == list(range(1, example.steps + 1))
    durable = 0
    for kill_after in kills:
        reported = example.run("killed", kill_after)
        assert reported, "it was killed before its first step"
        assert reported[0] in (durable + 1, durable + 2), f"went on at {reported[0]} after {durable}"
        durable = reported[-1]
    rest = example.run("killed")
    assert not rest or rest[0] in (durable + 1, durable + 2)
    assert example.output("killed") == example.output("whole")
