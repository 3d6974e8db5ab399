"""How the enclave gets its key: it proves what it is, and opens what the owner sealed to it alone."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import msgspec

from plinius.attest.attesters import Platform
from plinius.attest.claims import Attester
from plinius.attest.manifest import JobManifest, digest, parse
from plinius.attest.release import Grant, RecipientKey
from plinius.attest.report import report_data
from plinius.attest.signing import challenge_content, check_signature, release_content
from plinius.attest.simulated import measurement
from plinius.enclave.anchoring import BrokerAnchor
from plinius.errors import ConfigError, PolicyError, ProvisioningError, named
from plinius.files import reason
from plinius.mirror.manifest import AnchoredHead
from plinius.wire import PROTOCOL_VERSION, Challenge, Channel, Evidence, KeyRelease, KeyRequest, LineLost, Refusal

if TYPE_CHECKING:
    from plinius.attest.tpm import Tpm

_ATTEMPTS: Final = 10
_Answer = TypeVar("_Answer", Challenge, KeyRelease)


class Ordered(NamedTuple):
    """What the host hands over, parsed: what is to run, and the digest of what was signed."""

    manifest: JobManifest
    digest: bytes

    @classmethod
    def read(cls, signed: bytes) -> Ordered:
        """Reads a signed manifest, before the sandbox.

        What a TEE measures says that this code is honest; here it says for itself which release it is.

        Raises:
            EvidenceError: It is malformed, or was changed.
            PolicyError: It is for another plinius than this one.
        """
        try:
            manifest, running = parse(signed), measurement()
        except OSError as error:
            raise ProvisioningError(f"this plinius cannot measure itself: {reason(error)}") from None
        if not hmac.compare_digest(manifest.code, running):
            both = f"the manifest names {manifest.code.hex()}, and this plinius is {running.hex()}"
            raise PolicyError(
                f"field code: {both}; install that one, or have a job for this one signed (plinius manifest --code)",
                field="code",
            )
        return cls(manifest, digest(signed))


def request_key(channel: Channel, attester: Attester) -> Grant:
    """Asks the owner on this machine for the job's key and what may be revealed.

    Raises:
        PliniusError: She refuses, or what arrives does not open.
    """
    try:
        return _exchange(channel, attester, None)[0]
    except _LineLostError:
        raise ProvisioningError("the line to the owner's process broke") from None


def request_ordered_key(channel: Channel, attester: Attester, ordered: Ordered) -> tuple[Grant, BrokerAnchor]:
    """Asks the broker, through the host, for the key of a manifest's job, and confirms that it arrived.

    Returns:
        The key, and the broker as the job's freshness anchor, which it is if the terms say so.

    Raises:
        PliniusError: The broker refuses, or what arrives does not open, or was not signed by the manifest's owner.
    """
    for _ in range(_ATTEMPTS):
        try:
            grant, session = _exchange(channel, attester, ordered)
        except _LineLostError:
            continue
        return grant, BrokerAnchor.begin(channel, session, grant.terms)
    raise ProvisioningError(f"the line to the broker broke {_ATTEMPTS} times while it released the key")


def keep_key(platform: Platform, grant: Grant, head: AnchoredHead | None, ordered: Ordered) -> bytes:
    """Seals a grant to the machine's TPM, as its terms allow: the next start on this machine needs no broker.

    Args:
        platform: Has the TPM.
        grant: The key.
        head: What the broker knows by now; of an anchor in a TPM, which one it is.
        ordered: The job.

    Raises:
        ConfigError: No TPM was named.
        ProvisioningError: It cannot seal.
    """
    from plinius.attest import tpm_keeping  # noqa: PLC0415 (an optional package, loaded before the sandbox)

    kept = Grant(grant.key, msgspec.structs.replace(grant.terms, head=head))
    return tpm_keeping.keep(_tpm(platform), kept, ordered.digest)


def recall_key(platform: Platform, kept: bytes, ordered: Ordered) -> Grant:
    """Opens what `keep_key` made.

    Raises:
        ConfigError: No TPM was named.
        ProvisioningError: It does not open, or the owner wants an anchor that only a broker has.
    """
    from plinius.attest import tpm_keeping  # noqa: PLC0415 (an optional package, loaded before the sandbox)

    grant = tpm_keeping.recall(_tpm(platform), kept, ordered.digest)
    if grant.terms.anchor == "broker":
        raise ProvisioningError("a kept key cannot be used where the broker is the anchor")
    return grant


def _tpm(platform: Platform) -> Tpm:
    if platform.tpm is None:
        raise ConfigError("the owner lets the key be kept by a TPM: name it with --tpm")
    return platform.tpm


def _exchange(channel: Channel, attester: Attester, ordered: Ordered | None) -> tuple[Grant, bytes]:
    manifest, owner = (ordered.digest, ordered.manifest.owner) if ordered else (b"", b"")
    channel.send(KeyRequest(PROTOCOL_VERSION, attester.tee, manifest, attester.introduce()))
    asked = _expect(channel, Challenge)
    if ordered is not None:
        content = challenge_content(asked.session, asked.nonce, asked.kem, asked.credential, manifest)
        check_signature(owner, content, asked.signature, "the challenge")
    recipient = RecipientKey(asked.kem)
    bound = report_data(asked.session, asked.nonce, recipient.public, owner, manifest)
    channel.send(Evidence(asked.session, attester.attest(bound, asked.credential), recipient.public))
    released = _expect(channel, KeyRelease)
    if ordered is not None:
        # Anybody can seal something to a public key: only the owner's signature says that it is her key.
        check_signature(owner, release_content(bound, released.sealed_key), released.signature, "the release")
    return recipient.open(released.sealed_key, bound), asked.session


class _LineLostError(Exception):
    """The host says that its line to the owner broke before she answered."""


def _expect(channel: Channel, kind: type[_Answer]) -> _Answer:
    answer = channel.receive(kind | Refusal | LineLost)
    if isinstance(answer, kind):
        return answer
    if isinstance(answer, LineLost):
        raise _LineLostError
    if isinstance(answer, Refusal):
        raise named(answer.error, answer.reason)
    raise ProvisioningError("the owner's process ended before it released the key")
