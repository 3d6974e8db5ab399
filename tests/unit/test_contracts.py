"""What the host's process loads: neither keys, nor sealing, nor anything that could open what is sealed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

import pytest

SECRETS = (
    "plinius._core",
    "plinius.attest",
    "plinius.darknet",
    "plinius.dataset",
    "plinius.enclave",
    "plinius.mirror",
    "plinius.owner",
    "plinius.pool",
    "plinius.seal",
    "plinius.state",
    "cryptography",
    "torch",
)


def within(loaded: Iterable[str], packages: Iterable[str]) -> set[str]:
    """Those that are one of the packages or a module in it; `plinius.owner_cli` is no module in `plinius.owner`."""
    return {name for name in loaded for package in packages if f"{name}.".startswith(f"{package}.")}


def loaded_by(module: str) -> set[str]:
    """All modules of a fresh process that has imported one."""
    program = f"import {module}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["plinius.host.commands", "plinius.cli", "plinius"])
def test_the_host_loads_nothing_that_sees_a_secret(module: str) -> None:
    loaded = loaded_by(module)
    assert module in loaded
    assert not within(loaded, SECRETS)


def test_the_host_has_the_pool_open() -> None:
    assert "plinius._pm" in loaded_by("plinius.host.commands")


def test_the_enclave_loads_what_it_needs() -> None:
    """So that the test above does not look for names that no process ever has."""
    loaded = loaded_by("plinius.enclave.trainer, plinius.enclave.provisioning, plinius.owner.main")
    assert {name for name in SECRETS if name not in loaded} == set()


def test_the_enclave_loads_neither_pools_nor_drains_nor_other_frameworks() -> None:
    loaded = loaded_by("plinius.enclave.trainer, plinius.enclave.commands, plinius.enclave.rehearsal")
    needless = ["_pm", "pool.opened", "pool.pooling", "pool.transaction", "mirror.ciphertext", "mirror.farend"]
    assert not within(loaded, [f"plinius.{name}" for name in needless])
    frameworks = {name for name in within(loaded, ["plinius.frameworks"]) if "torch" not in name}
    assert frameworks == {"plinius.frameworks"}


def test_the_enclave_is_hardened_before_it_loads_anything_that_could_be_attacked() -> None:
    assert not [name for name in loaded_by("plinius.enclave.main") if name.startswith(("torch", "plinius._core"))]


def test_whoever_moves_and_drains_loads_neither_keys_nor_sealing() -> None:
    loaded = loaded_by("plinius.mirror.moving, plinius.mirror.draining, plinius.mirror.drainer, plinius.moving_cli")
    assert "plinius.mirror.drainer" in loaded
    needed = ("plinius.pool", "plinius.mirror")
    assert not within(loaded, set(SECRETS) - set(needed))
    assert not {"plinius.mirror.generation", "plinius.mirror.mirroring"} & loaded


def test_whoever_uses_values_alone_loads_no_sealing() -> None:
    loaded = loaded_by("plinius.pool.pooling")
    assert {"plinius._pm", "plinius._core"} & loaded == {"plinius._pm"}


def test_no_framework_is_loaded_before_it_is_asked_for() -> None:
    frameworks = ("accelerate", "lightning", "pytorch_lightning", "torch", "transformers")
    loaded = loaded_by("plinius, plinius.cli, plinius.mirror, plinius.dataset, plinius.frameworks")
    assert not [name for name in loaded if name.startswith(frameworks)]
