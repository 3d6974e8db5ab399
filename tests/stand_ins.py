"""A stand-in for `plinius train` in the tests of what kills and starts it: it steps, saves and reports, in no time.

The kills are real; the tests of the real command are in tests/crash.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
from plinius.bench.runs import Job

_PROGRAM = """
import json, os, sys, time
pool, steps, every = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def tell(**message): print(json.dumps(message, separators=(",", ":")), flush=True)
resumed = os.path.exists(pool)
step = durable = int(open(pool).read()) if resumed else 0
tell(type="Started", step=step, resumed=resumed)
while step < steps:
    time.sleep(0.004)
    step += 1
    if step % every == 0 or step == steps:
        with open(pool + ".new", "w") as file:
            file.write(str(step))
        os.replace(pool + ".new", pool)
        durable = step
    tell(type="Progress", step=step, durable_step=durable, step_s=0.005, save_s=0.001, loss=1 / step)
tell(type="Trained", step=step, steps=steps)
"""


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts the stand-in where a training would be started."""

    def start(job: Job, steps: int) -> subprocess.Popen[str]:
        every = job.options[job.options.index("--every") + 1]
        command = [sys.executable, "-S", "-c", _PROGRAM, str(job.pool), str(steps), every]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    monkeypatch.setattr(Job, "start", start)
    monkeypatch.setattr("plinius.bench.runs.enclave_of", lambda host: host)
