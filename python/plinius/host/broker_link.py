"""The host's line to the broker: each request is sent until it is answered, whatever becomes of the connection."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from plinius.endpoint import Endpoint
from plinius.errors import ConfigError, EnclaveError, named
from plinius.wire import Channel, Evidence, FromBroker, LineLost, Manifest, ManifestRequest, Message, Refusal, ToOwner

_CONNECT_S: Final = 10.0
_ANSWER_S: Final = 60.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 10.0


class BrokerLink:
    """Speaks to the broker in a thread of its own, and to the supervisor as the owner's process would.

    Args:
        endpoint: Where the broker is.
        certificate: The file with its TLS certificate; None is for an endpoint without TLS.
        tell: Shows a line to the user.

    Raises:
        ConfigError: The certificate cannot be used.
    """

    def __init__(self, endpoint: Endpoint, certificate: str | None, tell: Callable[[str], None]) -> None:
        self._endpoint, self._tell = endpoint, tell
        self._tls = _client_context(certificate) if endpoint.tls else None
        self._ended = threading.Event()
        self._connection: Channel | None = None

    def manifest(self, job: str) -> bytes:
        """The signed manifest of a job; the enclave checks it.

        Raises:
            PliniusError: The broker has no such job.
        """
        answer = self._ask(ManifestRequest(job))
        if isinstance(answer, Refusal):
            raise named(answer.error, answer.reason)
        if not isinstance(answer, Manifest):
            raise EnclaveError("the broker answered another question")
        return answer.manifest

    def relay(self) -> Channel:
        """A channel on which whatever is sent is answered by the broker; to close it ends the relaying."""
        ours, theirs = socket.socketpair()
        threading.Thread(target=self._relay, args=(Channel(theirs),), name="broker", daemon=True).start()
        return Channel(ours)

    def close(self) -> None:
        """Gives up what is not answered yet."""
        self._ended.set()
        self._hang_up()

    def _relay(self, inner: Channel) -> None:
        try:
            while (request := inner.receive(ToOwner)) is not None:
                inner.send(self._ask(request))
        except EnclaveError:
            pass  # the supervisor has closed its end
        finally:
            inner.close()

    def _ask(self, request: Message) -> Message:
        pause_s = _FIRST_PAUSE_S
        while not self._ended.is_set():
            try:
                return self._exchange(request)
            except (OSError, EnclaveError) as error:
                self._hang_up()
                if pause_s == _FIRST_PAUSE_S:
                    self._tell(f"the broker at {self._endpoint} {_what_failed(error)}; trying again")
                if isinstance(request, Evidence):
                    return LineLost()
            self._ended.wait(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return Refusal("ProvisioningError", "the broker did not answer")

    def _exchange(self, request: Message) -> Message:
        if self._connection is None:
            plain = self._endpoint.connect(_CONNECT_S)
            plain.settimeout(_ANSWER_S)
            # The certificate itself is what is trusted, so there is no name to compare.
            self._connection = Channel(self._tls.wrap_socket(plain) if self._tls else plain)
        self._connection.send(request)
        answer = self._connection.receive(FromBroker)
        if answer is None:
            raise EnclaveError("it hung up")
        return answer

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


@dataclass(frozen=True)
class Relay:
    """The line to the broker in the place of an owner's process (`plinius.host.child.Peer`)."""

    channel: Channel

    def end(self) -> None:
        """Closes it; a request that is not answered yet is given up when the link is closed."""
        self.channel.close()

    def kill(self) -> None:
        """There is no process."""


def _what_failed(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"has another certificate than that of --broker-cert ({error.verify_message})"
    return f"does not answer ({error})"


def _client_context(certificate: str | None) -> ssl.SSLContext:
    if certificate is None:
        raise ConfigError("name the broker's TLS certificate with --broker-cert; the broker writes it as broker.crt")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    try:
        context.load_verify_locations(certificate)
    except (OSError, ssl.SSLError) as error:
        reason = "this is no certificate (PEM)" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(f"cannot use the broker's certificate: {reason}", path=certificate) from None
    return context
