"""Where a broker listens: ``HOST:PORT``, with TLS unless the address itself says that it is insecure."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Final

from plinius.errors import ConfigError

DEFAULT_PORT: Final = 7654
_TLS, _INSECURE = "tls://", "insecure-tcp://"
_MAX_PORT: Final = 65535


@dataclass(frozen=True)
class Endpoint:
    """A host, a port, and whether TLS is spoken there."""

    host: str
    port: int
    tls: bool = True

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Reads ``HOST:PORT`` or ``tls://HOST:PORT``; ``insecure-tcp://HOST:PORT`` is without TLS.

        Raises:
            ConfigError: It is none of these.
        """
        tls = not text.startswith(_INSECURE)
        rest = text.removeprefix(_TLS if tls else _INSECURE)
        host, colon, port = rest.rpartition(":")
        if not colon:
            host, port = rest, str(DEFAULT_PORT)
        host = host.removeprefix("[").removesuffix("]")
        if not host or "/" in host or not port.isascii() or not port.isdecimal() or int(port) > _MAX_PORT:
            raise ConfigError(f"{text!r} is no address; give HOST:PORT, or {_INSECURE}HOST:PORT for no TLS")
        return cls(host, int(port), tls)

    def __str__(self) -> str:
        return f"{_TLS if self.tls else _INSECURE}{self.host}:{self.port}"

    def connect(self, timeout_s: float) -> socket.socket:
        """Connects, without TLS as yet.

        Raises:
            OSError: Nobody answers.
        """
        connection = socket.create_connection((self.host, self.port), timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection
