"""The sandbox of the enclave process: from before the key arrives it can use what it has, compute, and end.

It opens no file, makes no connection, starts no process, and looks into none. What a bug in it, or in a library, lets
an attacker do is so limited to what the enclave says on its channels and writes into its pool. ``docs/design.md`` lists
what is left. The sandbox is no protection against the machine's owner: that is what a TEE is for.

This module imports the core itself, as `hosted` does: the system calls that it makes cannot be made from Python.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from plinius import _core
from plinius.errors import EnclaveError

_PATIENCE_S: Final = 1.0


def enter(*, insecurely: bool = False) -> tuple[str, ...]:
    """Gives up, for ever, what an enclave that holds a key does not need.

    Landlock holds for the calling thread and those that it starts from now on (landlock(7)), seccomp for all threads:
    so there must be one thread.

    Args:
        insecurely: Go on where the kernel lacks a layer, or a thread is outside one.

    Returns:
        What is missing, in words; nothing unless `insecurely`.

    Raises:
        EnclaveError: Something is missing.
    """
    others = _other_threads()
    try:
        landlock_abi, seccomp = _core.enter_sandbox()
    except OSError as error:
        raise EnclaveError(f"the sandbox cannot be entered: {error}") from None
    missing = []
    if not landlock_abi:
        missing.append("this kernel has no Landlock, or it is switched off")
    elif others:
        missing.append(f"{others} threads are outside Landlock")
    if not seccomp:
        missing.append("this kernel has no seccomp")
    if missing and not insecurely:
        raise EnclaveError(
            f"no key is asked for outside a sandbox: {'; '.join(missing)}; --insecure-no-sandbox goes on all the same"
        )
    return tuple(missing)


def available() -> tuple[int, bool]:
    """What this kernel has: the version of Landlock's interface (0: none), and whether it has seccomp.

    A child process enters the sandbox and tells: what a kernel says of itself can be otherwise in a container.

    Raises:
        EnclaveError: It failed.
    """
    command = [sys.executable, "-I", "-c", "from plinius import _core; print(*map(int, _core.enter_sandbox()))"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (our own interpreter)
    if done.returncode:
        raise EnclaveError(f"the sandbox cannot be entered: {done.stderr.strip().rpartition(': ')[2]}")
    landlock_abi, seccomp = map(int, done.stdout.split())
    return landlock_abi, bool(seccomp)


def _other_threads() -> int:
    """How many threads there are beside this one; those that were joined take a moment to go."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while (others := sum(1 for _ in Path("/proc/self/task").iterdir()) - 1) and time.monotonic() < deadline_s:
        time.sleep(0.001)
    return others
