"""Attack: other code asks for the key. Stopped by: policy and manifest name the code's measurement."""

from __future__ import annotations

import msgspec
import pytest
from brokers import POLICY, Desk, Enclave
from plinius.attest.simulated import SimulatedEvidence, measurement
from plinius.wire import Evidence, KeyRelease, Refusal


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


def test_a_tee_that_the_policy_does_not_name(desk: Desk) -> None:
    """Simulated evidence is accepted by its insecure name alone."""
    desk.with_policy(f'[[accept]]\ntee = "sgx"\nmeasurements.mrenclave = ["{"00" * 32}"]\n')
    answer = present(desk, measurement())
    assert isinstance(answer, Refusal)
    assert answer.error == "PolicyError"
    assert "simulated-insecure" in answer.reason
