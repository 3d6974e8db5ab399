"""Sealing to a TPM and to what its machine booted: opens again on the same machine, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from plinius.errors import ConfigError, ProvisioningError
from tpms import SoftwareTpm

SECRET = bytes(range(128))


def opened(software: SoftwareTpm) -> Any:
    from plinius.attest.tpm import Tpm  # noqa: PLC0415 (a package that may be missing)

    return Tpm(software.connect())


def seal(tpm: Any, secret: bytes, pcrs: Any) -> bytes:
    from plinius.attest import tpm_sealing  # noqa: PLC0415

    return tpm_sealing.seal(tpm, secret, pcrs)


def unseal(tpm: Any, blob: bytes) -> bytes:
    from plinius.attest import tpm_sealing  # noqa: PLC0415

    return tpm_sealing.unseal(tpm, blob)


def extend(tpm: Any, pcr: int) -> None:
    from tpm2_pytss.constants import ESYS_TR, TPM2_ALG  # noqa: PLC0415
    from tpm2_pytss.types import TPML_DIGEST_VALUES, TPMT_HA, TPMU_HA  # noqa: PLC0415

    value = TPMT_HA(hashAlg=TPM2_ALG.SHA256, digest=TPMU_HA(sha256=os.urandom(32)))
    tpm.esys.pcr_extend(getattr(ESYS_TR, f"PCR{pcr}"), TPML_DIGEST_VALUES([value]))


@pytest.mark.parametrize("secret", [b"k", SECRET[:32], SECRET], ids=len)
def test_the_same_machine_opens_it_again(software_tpm: SoftwareTpm, secret: bytes) -> None:
    with opened(software_tpm) as tpm:
        blob = seal(tpm, secret, [7, 0, 7])
    assert secret not in blob or len(secret) == 1
    with opened(software_tpm) as tpm:
        for _ in range(4):  # a TPM has room for three keys and three sessions: nothing may stay in it
            assert unseal(tpm, blob) == secret


def test_a_machine_that_booted_something_else(new_tpm: Callable[[], SoftwareTpm]) -> None:
    with opened(new_tpm()) as tpm:
        blob = seal(tpm, SECRET, range(8))
        extend(tpm, 8)
        assert unseal(tpm, blob) == SECRET
        extend(tpm, 7)
        for _ in range(4):
            with pytest.raises(ProvisioningError, match="booted something else than when it was sealed"):
                unseal(tpm, blob)
        assert unseal(tpm, seal(tpm, SECRET, range(8))) == SECRET


def test_no_other_way_than_the_policy(software_tpm: SoftwareTpm) -> None:
    """Without the policy, the password that the object has, an empty one, is of no use."""
    from plinius.attest import tpm_sealing  # noqa: PLC0415
    from tpm2_pytss import TSS2_Exception  # noqa: PLC0415

    with opened(software_tpm) as tpm, tpm.storage_root() as parent:
        sealed = tpm_sealing.msgspec.msgpack.decode(seal(tpm, SECRET, [0]), type=tpm_sealing._Sealed)
        item = tpm_sealing._load(tpm, parent, sealed)
        try:
            with pytest.raises(TSS2_Exception, match="authValue or authPolicy is not available"):
                tpm.esys.unseal(item)
        finally:
            tpm.flush(item)


def test_other_pcrs_than_it_was_sealed_to(software_tpm: SoftwareTpm) -> None:
    from plinius.attest import tpm_sealing  # noqa: PLC0415

    with opened(software_tpm) as tpm:
        fields = tpm_sealing.msgspec.msgpack.decode(seal(tpm, SECRET, [0, 7]))
        for pcrs in ([0], [7], [0, 7, 8]):
            with pytest.raises(ProvisioningError, match="booted something else"):
                unseal(tpm, tpm_sealing.msgspec.msgpack.encode([pcrs, *fields[1:]]))


def test_another_machine(software_tpm: SoftwareTpm, other_software_tpm: SoftwareTpm) -> None:
    with opened(software_tpm) as ours:
        blob = seal(ours, SECRET, [0])
    with (
        opened(other_software_tpm) as theirs,
        pytest.raises(ProvisioningError, match="which it has not made or which was changed"),
    ):
        unseal(theirs, blob)


def test_every_byte_of_a_blob_counts(software_tpm: SoftwareTpm) -> None:
    with opened(software_tpm) as tpm:
        blob = seal(tpm, SECRET[:32], [0])
        for at in range(len(blob)):
            changed = bytearray(blob)
            changed[at] ^= 0x01
            with pytest.raises(ProvisioningError):
                unseal(tpm, bytes(changed))
        for wrong, message in ((blob[:-1], "read"), (blob + b"\0", "read"), (b"", "read"), (bytes(9999), "more than")):
            with pytest.raises(ProvisioningError, match=message):
                unseal(tpm, wrong)


def test_a_tpm_that_dies(new_tpm: Callable[[], SoftwareTpm]) -> None:
    software = new_tpm()
    with opened(software) as tpm:
        blob = seal(tpm, SECRET, [0])
        software.kill()
        for use in (lambda: unseal(tpm, blob), lambda: seal(tpm, SECRET, [0])):
            with pytest.raises(ProvisioningError, match="no TPM answers"):
                use()


@pytest.mark.parametrize(("secret", "pcrs"), [(b"", [0]), (bytes(129), [0]), (b"k", []), (b"k", [24]), (b"k", [-1])])
def test_what_cannot_be_sealed(software_tpm: SoftwareTpm, secret: bytes, pcrs: list[int]) -> None:
    with opened(software_tpm) as tpm, pytest.raises(ConfigError):
        seal(tpm, secret, pcrs)


def test_no_secret_crosses_to_the_tpm_in_plain(software_tpm: SoftwareTpm, monkeypatch: Any) -> None:
    """Whoever reads along between process and TPM sees neither what is sealed nor what is opened."""
    seen = bytearray()
    write, read = os.write, os.read

    def written(descriptor: int, data: bytes) -> int:
        seen.extend(data)
        return write(descriptor, data)

    def was_read(descriptor: int, size: int) -> bytes:
        data = read(descriptor, size)
        seen.extend(data)
        return data

    with opened(software_tpm) as tpm:
        monkeypatch.setattr(os, "write", written)
        monkeypatch.setattr(os, "read", was_read)
        assert unseal(tpm, seal(tpm, SECRET, [0])) == SECRET
        monkeypatch.undo()
    assert len(seen) > 1000
    assert SECRET[:16] not in seen
