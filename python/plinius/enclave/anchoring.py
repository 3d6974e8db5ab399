"""The job's freshness anchor: the broker, asked with messages that are sealed end to end, or this machine's TPM."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from plinius.attest.attesters import Platform
from plinius.attest.release import Grant, Terms
from plinius.attest.session import Advance, Confirm, Denied, Done, Session
from plinius.errors import ConfigError, EnclaveError, ProvisioningError, RollbackError, named
from plinius.mirror.anchoring import Anchor
from plinius.mirror.manifest import AnchoredHead
from plinius.wire import Channel, Refusal, Sealed, Stop


class BrokerAnchor:
    """An anchor behind the host's channel (`plinius.mirror.anchoring.Anchor`).

    Args:
        channel: To the host, which relays.
        session: With the broker.
        terms: On which the key was released: how often the anchor follows, and what it knows.
    """

    def __init__(self, channel: Channel, session: Session, terms: Terms) -> None:
        self.every = terms.anchor_every
        self.stop_requested = False
        self._channel, self._session = channel, session
        self._head = terms.head

    @classmethod
    def begin(cls, channel: Channel, session: bytes, terms: Terms) -> BrokerAnchor:
        """Confirms to the broker that the key arrived.

        Raises:
            ProvisioningError: There is no session, or no answer.
        """
        if not terms.session_key:
            raise ProvisioningError("the release names no session with the broker")
        anchor = cls(channel, Session(session, terms.session_key, is_broker=False), terms)
        anchor._ask(Confirm())
        return anchor

    def head(self) -> AnchoredHead | None:
        """What the broker knew when it released the key; that another copy has moved it since, `advance` finds out."""
        return self._head

    def advance(self, expected: AnchoredHead | None, new: AnchoredHead, *, going_back: bool = False) -> None:
        """Moves the head; see `plinius.mirror.anchoring.Anchor`.

        Raises:
            PliniusError: The broker does not do it, or is silent for good.
        """
        self._ask(Advance(expected, new, going_back))
        self._head = new

    def _ask(self, message: Confirm | Advance) -> None:
        self._channel.send(self._session.seal(message))
        answer = self._channel.receive(Sealed | Refusal | Stop)
        while isinstance(answer, Stop):  # the host may say so at any moment
            self.stop_requested = True
            answer = self._channel.receive(Sealed | Refusal | Stop)
        if isinstance(answer, Refusal):  # not sealed: the host's word, or that of a broker that does not know us
            raise named(answer.error, answer.reason)
        if not isinstance(answer, Sealed):
            raise EnclaveError("the host is gone")
        opened = self._session.open(answer, Done | Denied)
        if isinstance(opened, Denied):
            raise named(opened.error, opened.reason)


def tpm_anchor(
    platform: Platform, grant: Grant, job_id: bytes, broker: BrokerAnchor | None, notice: Callable[[str], None]
) -> Anchor:
    """The anchor in this machine's TPM.

    The broker is told once which index it is, before anything is anchored in it: from then on one that is missing is
    refused and not made anew, and so is the index of another TPM, or one that was made anew here.

    Args:
        platform: Has the TPM, and the lock of the job's place in it.
        grant: The key, from which the right to that place is derived; where it was kept, its terms name the index.
        job_id: Of the manifest.
        broker: Where one was asked; None after a restart without one.
        notice: Tells the user.

    Raises:
        ConfigError: No TPM was named.
        AttestationError: The TPM fails.
        RollbackError: The index is gone, or is not the one that the broker was told of.
    """
    from plinius.attest.tpm_anchor import TpmAnchor, create  # noqa: PLC0415 (an optional package)

    if platform.tpm is None or platform.place is None:
        raise ConfigError("the owner wants a freshness anchor in a TPM: name it with --tpm")
    auth = grant.key.anchor_auth(job_id)
    told = broker.head() if broker is not None else grant.terms.head
    if broker is not None and told is None:
        with suppress(ConfigError):  # made before a crash: whether it is ours, its first use says
            create(platform.tpm, platform.place.index, auth)
    anchor = TpmAnchor(
        platform.tpm,
        platform.place,
        auth,
        every=grant.terms.anchor_every,
        least_gap_s=grant.terms.anchor_gap_s,
        waiting=lambda wait_s: notice(f"the TPM's memory wears out: its anchor waits {wait_s:.0f} s"),
    )
    ours = AnchoredHead(0, anchor.instance(), 0)
    if broker is not None and told is None:
        broker.advance(None, ours)
    elif told != ours:
        raise RollbackError(
            "the TPM's anchor of this job is another one than the broker was told of: it was made anew, or the job "
            "runs on another machine"
        )
    return anchor
