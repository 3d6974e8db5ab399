"""The plain loop of `examples/torch_loop.py`, killed, with everything that may have state beside the model."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from killing import EXAMPLES, Example, check_resumes_exactly

pytest.importorskip("torch")

STEPS = 120
EPOCH = 7


@pytest.mark.parametrize("options", [[], ["--key", "missing"]], ids=" ".join)
def test_a_loop_that_cannot_begin_says_so_and_makes_no_pool(options: list[str], folder: Path) -> None:
    command = [sys.executable, EXAMPLES / "torch_loop.py", "--pool", folder / "job.pool", "--output", "o", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "key" in done.stderr.splitlines()[-1]
    assert not any(folder.iterdir())


@pytest.mark.parametrize("options", [(), ("--amp",), ("--ema",), ("--accumulate", "4")], ids=" ".join)
def test_a_killed_loop_ends_with_the_same_bytes(options: tuple[str, ...], folder: Path, key: Path) -> None:
    check_resumes_exactly(Example("torch_loop.py", folder, key, STEPS, options), kills=(2, 5))


@pytest.mark.parametrize("options", [("--loader",), ("--loader", "--amp", "--ema", "--accumulate", "2")], ids=" ".join)
def test_a_loader_goes_on_in_the_middle_and_at_the_end_of_an_epoch(
    options: tuple[str, ...], folder: Path, key: Path
) -> None:
    pytest.importorskip("torchdata")
    example = Example("torch_loop.py", folder, key, 5 * EPOCH, options, moments_s=0)  # each kill within a step or two
    check_resumes_exactly(example, kills=(EPOCH - 2, 2, EPOCH, 1))


@pytest.mark.timeout(900)  # each of its lives compiles
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler")
def test_a_killed_compiled_loop_ends_with_the_same_bytes(folder: Path, key: Path) -> None:
    check_resumes_exactly(Example("torch_loop.py", folder, key, STEPS, ("--compile",)), kills=(2,))
