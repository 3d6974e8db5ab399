"""The owner process on one machine: it alone opens the key file, and releases the key to the enclave it appraised."""

from __future__ import annotations

import argparse
import hmac
import secrets
import socket
from collections.abc import Collection
from contextlib import closing

from plinius import process
from plinius.attest import simulated
from plinius.attest.release import KEMS, REVEALABLE, seal_key
from plinius.attest.report import NONCE_BYTES, SESSION_BYTES, report_data
from plinius.errors import AttestationError, EvidenceError, PliniusError, PolicyError
from plinius.owner.keyfile import load_key
from plinius.wire import PROTOCOL_VERSION, Challenge, Channel, Evidence, KeyRelease, KeyRequest, Refusal


def main() -> None:
    """Hardens the process, answers one enclave, which the host started, and ends."""
    parser = argparse.ArgumentParser(description="The owner process; `plinius train` starts it.")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--reveal", action="append", choices=sorted(REVEALABLE), default=[])
    options = parser.parse_args()
    process.die_with(options.parent)
    process.leave_no_traces()
    process.leave_stopping_to_the_host()
    serve(options)


def serve(options: argparse.Namespace) -> None:
    """Answers one enclave: with the key, or with the reason why not."""
    with closing(Channel(socket.socket(fileno=options.channel))) as channel:
        try:
            request = channel.receive(KeyRequest)
            if isinstance(request, KeyRequest):
                release_key(channel, request, options.key, options.reveal)
        except PliniusError as error:
            channel.send(Refusal(type(error).__name__, str(error)))


def release_key(channel: Channel, request: KeyRequest, key_path: str, reveal: Collection[str]) -> None:
    """Challenges an enclave, appraises its evidence, and seals the key to it.

    Raises:
        AttestationError: The evidence is not accepted.
        ConfigError: The key file cannot be used.
    """
    if (request.protocol, request.tee, request.manifest) != (PROTOCOL_VERSION, simulated.TEE, b""):
        raise AttestationError(f"no key for protocol {request.protocol}, TEE {request.tee!r} and a manifest here")
    challenge = Challenge(secrets.token_bytes(SESSION_BYTES), secrets.token_bytes(NONCE_BYTES), KEMS[0])
    channel.send(challenge)
    answer = channel.receive(Evidence)
    if not isinstance(answer, Evidence):
        raise AttestationError("the enclave sent no evidence")
    bound = report_data(challenge.session, challenge.nonce, answer.public_key, b"", b"")
    # The user started owner, host and enclave on one machine herself: a TEE that is simulated is what she asked for.
    claims = simulated.verify_insecurely(answer.evidence)
    if not hmac.compare_digest(claims.report_data, bound):
        raise EvidenceError("the evidence belongs to another session or key: it was replayed or relayed")
    if not hmac.compare_digest(claims.measurements["code"], simulated.measurement()):
        raise PolicyError("the enclave runs other code than the plinius installed here", field="measurement")
    channel.send(
        KeyRelease(seal_key(load_key(key_path, passphrase=None), challenge.kem, answer.public_key, bound, reveal))
    )


if __name__ == "__main__":
    main()
