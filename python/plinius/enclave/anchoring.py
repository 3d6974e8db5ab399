"""The broker as the job's freshness anchor: what the enclave asks of it, sealed end to end."""

from __future__ import annotations

from plinius.attest.release import Terms
from plinius.attest.session import Advance, Confirm, Denied, Done, Session
from plinius.errors import EnclaveError, ProvisioningError, named
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
