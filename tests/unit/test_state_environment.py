"""What a result's bits depend on besides the state, and how a difference is named."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from plinius.state import differences, environment


def test_versions_threads_and_flags_are_named() -> None:
    facts = environment()
    assert facts["numpy"] == np.__version__
    assert facts["torch"] == torch.__version__
    assert facts["torch threads"] == str(torch.get_num_threads())
    assert facts["CPU capability"] == torch.backends.cpu.get_cpu_capability()
    assert all(type(key) is str and type(value) is str for key, value in facts.items())
    assert "GPUs" in facts or not torch.cuda.is_initialized()


def test_a_flag_that_changes_the_kernels_is_seen() -> None:
    was = torch.are_deterministic_algorithms_enabled()
    try:
        torch.use_deterministic_algorithms(False)
        before = environment()
        torch.use_deterministic_algorithms(True)
        changed = differences(before, environment())
    finally:
        torch.use_deterministic_algorithms(was)
    assert changed == ["deterministic algorithms False then, True now"]


def test_flushed_denormal_numbers_are_seen() -> None:
    before = environment()
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU flushes no denormal numbers")
    try:
        changed = differences(before, environment())
    finally:
        torch.set_flush_denormal(False)
    assert changed == ["denormal numbers not in use then, flushed to zero now"]


def test_variables_that_choose_kernels_are_seen() -> None:
    script = "from plinius.state import environment; print(environment().get('MKL_CBWR'))"
    for expected in ("AVX2", "None"):
        variables = {"MKL_CBWR": expected} if expected != "None" else {}
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected


def test_differences() -> None:
    saved, now = {"torch": "2.11.0", "python": "3.11.7", "GPUs": "A"}, {"torch": "2.12.0", "python": "3.11.7", "x": "1"}
    assert differences(saved, now) == [
        "torch 2.11.0 then, 2.12.0 now",
        "GPUs A then, not in use now",
        "x not in use then, 1 now",
    ]
    assert differences(saved, saved) == []


def test_torch_is_not_imported_for_those_who_do_not_use_it() -> None:
    script = (
        "import sys, numpy as np; from plinius.state import capture, environment, plan_restore\n"
        "state = {'arrays': [np.arange(3)], 'rng': np.random.default_rng(1), 'progress': {'epoch': 1}}\n"
        "snapshot = capture(state); environment()\n"
        "restoration = plan_restore(state, snapshot.tree, [buffer.spec for buffer in snapshot.buffers])\n"
        "[target.__setitem__(slice(None), b.memory) for target, b in zip(restoration.targets, snapshot.buffers)]\n"
        "restoration.apply(); sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
