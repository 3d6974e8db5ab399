"""`plinius doctor`: what this machine has, in words. Looks only, and changes nothing."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any, Final

from plinius import pool
from plinius.enclave import sandbox
from plinius.errors import EnclaveError
from plinius.seal import key_custody

_INSTRUCTIONS: Final = {
    "aes": "AES in hardware",
    "vaes": "wide AES",
    "pclmulqdq": "GCM in hardware",
    "clwb": "write-back that keeps the line",
    "clflushopt": "unordered flush",
}
_CUSTODY: Final = {
    "memfd_secret": "in memory that no other process reaches, nor the kernel's core dumps and debuggers (memfd_secret)",
    "locked": "locked into memory, out of core dumps; root can read them (the kernel has no memfd_secret)",
    "plain": "out of core dumps; they can be swapped to a disk (raise ulimit -l)",
}
_TEE_DEVICES: Final = {
    "/dev/sgx_enclave": "Intel SGX",
    "/dev/tdx_guest": "Intel TDX guest",
    "/dev/sev-guest": "AMD SEV-SNP guest",
    "/sys/kernel/config/tsm/report": "configfs-tsm (TDX, SEV-SNP)",
    "/dev/tpmrm0": "TPM 2.0",
}


def describe(path: str) -> dict[str, Any]:
    """CPU instructions, the medium at a path, TEE devices, the sandbox, cores and kernel of this machine.

    Raises:
        PoolError: There is nothing at the path, or it cannot be looked at.
    """
    flags = _cpu_flags()
    medium, durability = pool.medium_at(path)
    return {
        "kernel": platform.release(),
        "cores": len(os.sched_getaffinity(0)),
        "instructions": {name: name in flags for name in _INSTRUCTIONS},
        "write_back": pool.cpu_write_back(),
        "path": path,
        "medium": medium,
        "durability": durability,
        "tee_devices": {device: Path(device).exists() for device in _TEE_DEVICES},
        "sandbox": _sandbox(),
        "key_custody": key_custody(),
    }


def explain(facts: dict[str, Any]) -> list[str]:
    """The same in sentences, a line each."""
    lines = [f"kernel {facts['kernel']}, {facts['cores']} cores"]
    lines += [
        f"{name}: {'yes' if has else 'no'} ({_INSTRUCTIONS[name]})" for name, has in facts["instructions"].items()
    ]
    lines.append(f"write-back on persistent memory: {facts['write_back']}")
    lines.append(f"a pool at {facts['path']} lies on {facts['medium']}: a commit survives a {facts['durability']}")
    found = [f"{_TEE_DEVICES[device]} ({device})" for device, has in facts["tee_devices"].items() if has]
    lines.append(
        f"TEE: {', '.join(found) or 'none found'}; this release runs enclaves simulated, without its protection"
    )
    kept = facts["sandbox"]
    parts = f"Landlock {kept['landlock'] or 'missing'}, seccomp {'yes' if kept['seccomp'] else 'missing'}"
    whole = kept["landlock"] and kept["seccomp"]
    lines.append(f"sandbox: {parts}{'' if whole else '; an enclave does not start without both'}")
    lines.append(f"keys: {_CUSTODY[facts['key_custody']]}")
    return lines


def _sandbox() -> dict[str, int | bool]:
    try:
        landlock_abi, seccomp = sandbox.available()
    except EnclaveError:
        landlock_abi, seccomp = 0, False
    return {"landlock": landlock_abi, "seccomp": seccomp}


def _cpu_flags() -> set[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.split(":", 1)[1].split())
    return set()
