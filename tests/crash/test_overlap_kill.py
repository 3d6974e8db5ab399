"""SIGKILL at random moments of a training that saves in the background."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("overlapped.py")


@pytest.mark.timeout(7200)
def test_no_durable_step_is_lost_and_the_end_is_the_same(folder: Path, request: pytest.FixtureRequest) -> None:
    kills = request.config.getoption("--overlap-kills")
    seed = secrets.randbits(32)
    command = [sys.executable, PROGRAM, folder, str(kills), str(seed)]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    print(f"seed {seed}: {told}")
    assert (told["kills"], told["lost"], told["equal"]) == (kills, 0, True), f"seed {seed}: {told}"
    assert told["last begun"] < told["steps"], "the kills were over before the training was"
