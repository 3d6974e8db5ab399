"""Attack: other code asks for the key. Stopped by: policy and manifest name the code's measurement."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
from brokers import POLICY, Desk, Enclave, job_manifest, sign
from hostile import talk_to
from hosting import kept
from plinius.attest.simulated import SimulatedEvidence, measurement
from plinius.enclave import main as enclave
from plinius.enclave.provisioning import Ordered
from plinius.wire import Evidence, Failed, FromEnclave, KeyRelease, Refusal, TrainManifest


def present(desk: Desk, code: bytes) -> KeyRelease | Refusal:
    enclave = Enclave(desk)
    enclave.challenged()
    made = msgspec.msgpack.encode(SimulatedEvidence(code, enclave.bound()))
    return enclave.present(Evidence(enclave.challenge.session, made, enclave.recipient.public))


def test_the_code_that_the_policy_names(desk: Desk) -> None:
    assert isinstance(present(desk, measurement()), KeyRelease)


@pytest.mark.parametrize("at", [0, 15, 31])
def test_other_code(desk: Desk, at: int) -> None:
    other = bytearray(measurement())
    other[at] ^= 1
    answer = present(desk, bytes(other))
    assert isinstance(answer, Refusal)
    assert answer.error == "PolicyError"
    assert "measurements.code" in answer.reason
    assert desk.events() == ["refused"]


def test_code_that_the_policy_names_and_the_manifest_does_not(desk: Desk) -> None:
    """A policy may accept several releases; a job runs on the one that it was signed for."""
    other = bytes(32)
    desk.with_policy(POLICY.replace('["CODE"]', f'["CODE", "{other.hex()}"]'))
    answer = present(desk, other)
    assert isinstance(answer, Refusal)
    assert answer.error == "PolicyError"
    assert "the manifest names" in answer.reason


def test_a_manifest_for_another_release_is_not_begun(desk: Desk) -> None:
    """Whatever its TEE is: evidence of a real one does not say which plinius it runs, so the enclave compares."""
    assert Ordered.read(desk.job.signed).digest == desk.job.digest
    other = sign(desk.identity, job_manifest(desk.identity, code=bytes(32)))
    options = {"data": -1, "cfg": -1, "tee": "sgx", "tpm": None}
    with (
        pool_of(desk) as pool,
        kept(pool) as channel,
        talk_to(enclave.serve, pool=pool, pool_channel=channel.detach(), **options) as (host, _),
    ):
        host.send(TrainManifest(other, "data", "pool"))
        answer = host.receive(FromEnclave)
    assert isinstance(answer, Failed)
    assert answer.error == "PolicyError"
    assert f"the manifest names {bytes(32).hex()}, and this plinius is {measurement().hex()}" in answer.reason


@contextmanager
def pool_of(desk: Desk) -> Iterator[int]:
    pool = os.open(desk.path.with_name("pool"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield pool
    finally:
        os.close(pool)


def test_a_tee_that_the_policy_does_not_name(desk: Desk) -> None:
    """Simulated evidence is accepted by its insecure name alone."""
    desk.with_policy(f'[[accept]]\ntee = "sgx"\nmeasurements.mrenclave = ["{"00" * 32}"]\n')
    answer = present(desk, measurement())
    assert isinstance(answer, Refusal)
    assert answer.error == "PolicyError"
    assert "simulated-insecure" in answer.reason
