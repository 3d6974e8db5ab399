"""What enclave and broker say to each other after the key release, sealed end to end: TLS ends at the host.

Each direction has a key of its own and counts its messages, so that none can be repeated, left out, reordered or sent
back to whom it came from. The host can only lose them, which the other side sees as silence.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from plinius.attest.report import joined
from plinius.errors import EvidenceError
from plinius.mirror.manifest import AnchoredHead
from plinius.wire import Sealed

_NONCE_BYTES: Final = 12
_TO_BROKER, _TO_ENCLAVE = "plinius enclave to broker 1", "plinius broker to enclave 1"


class Confirm(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The enclave's first message: it has the session's key, and so the job's, which came with it."""


class Advance(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The enclave asks to move the anchor from one head to another."""

    expected: AnchoredHead | None
    new: AnchoredHead
    going_back: bool


class Done(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The broker has done what was asked, durably."""


class Denied(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The broker does not do it; the class is one of `plinius.errors`."""

    error: str
    reason: str


class Session:
    """One end of a session.

    Args:
        name: The session, as both ends and the host call it.
        key: 32 bytes, which only the two ends have.
        is_broker: Which end.
        sent: Messages that this end has sent already.
        received: Messages that it has received.
    """

    def __init__(self, name: bytes, key: bytes, *, is_broker: bool, sent: int = 0, received: int = 0) -> None:
        self.name = name
        self.sent, self.received = sent, received
        mine, theirs = (_TO_ENCLAVE, _TO_BROKER) if is_broker else (_TO_BROKER, _TO_ENCLAVE)
        self._mine, self._theirs = (AESGCM(_derived(key, name, purpose)) for purpose in (mine, theirs))

    def seal(self, message: msgspec.Struct) -> Sealed:
        """Seals the next message of this end."""
        self.sent += 1
        box = self._mine.encrypt(_nonce(self.sent), msgspec.msgpack.encode(message), self.name)
        return Sealed(self.name, self.sent, box)

    def open(self, sealed: Sealed, expected: object) -> Any:
        """Opens the next message of the other end.

        Args:
            sealed: What came.
            expected: The union of classes that may be in it.

        Raises:
            EvidenceError: It is not that end's next message in this session.
        """
        if (sealed.session, sealed.counter) != (self.name, self.received + 1):
            raise EvidenceError("a sealed message is out of its turn: it was repeated, left out or reordered")
        try:
            content = self._theirs.decrypt(_nonce(sealed.counter), sealed.box, self.name)
            message = msgspec.msgpack.decode(content, type=expected)
        except (InvalidTag, ValueError, msgspec.MsgspecError):
            raise EvidenceError("a sealed message does not open: it was changed, or is of another session") from None
        self.received += 1
        return message


def _derived(key: bytes, name: bytes, purpose: str) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=joined(purpose, name)).derive(key)


def _nonce(counter: int) -> bytes:
    return counter.to_bytes(_NONCE_BYTES, "big")
