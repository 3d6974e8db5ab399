"""How the enclave gets its key: it proves what it is, and opens what the owner sealed to it alone."""

from __future__ import annotations

from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from plinius.attest import simulated
from plinius.attest.release import Grant, open_key
from plinius.errors import ProvisioningError, named
from plinius.wire import PROTOCOL_VERSION, Challenge, Channel, Evidence, KeyRelease, KeyRequest, Refusal

_Answer = TypeVar("_Answer", Challenge, KeyRelease)


def request_key(channel: Channel) -> Grant:
    """Asks the owner, through the host, for the job's key and what may be revealed.

    Raises:
        PliniusError: The owner refuses, or what arrives does not open.
    """
    channel.send(KeyRequest(PROTOCOL_VERSION, simulated.TEE))
    challenge = _expect(channel, Challenge)
    private_key = X25519PrivateKey.generate()
    public_key = private_key.public_key().public_bytes_raw()
    bound = simulated.report_data(challenge.session, challenge.nonce, public_key)
    channel.send(Evidence(simulated.attest(bound), public_key))
    return open_key(_expect(channel, KeyRelease).sealed_key, private_key, bound)


def _expect(channel: Channel, kind: type[_Answer]) -> _Answer:
    answer = channel.receive(kind | Refusal)
    if isinstance(answer, kind):
        return answer
    if isinstance(answer, Refusal):
        raise named(answer.error, answer.reason)
    raise ProvisioningError("the owner's process ended before it released the key")
