"""The broker on the network: TLS, one thread a connection, one answer a request."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import socket
import sqlite3
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from plinius.endpoint import Endpoint
from plinius.errors import ConfigError, EnclaveError
from plinius.files import new_file, sync_folder
from plinius.owner.broker import Broker, Job
from plinius.owner.identity import Identity
from plinius.owner.lines import Lines
from plinius.owner.store import Store
from plinius.wire import Channel, ToBroker

MAX_CONNECTIONS: Final = 64
IDLE_S: Final = 3600.0
"""A host whose enclave says nothing for so long is cut off; it connects again when there is something to say."""
_HANDSHAKE_S: Final = 10.0
_PAUSE_S: Final = 0.1
_DATABASE: Final = "broker.sqlite"
_CERTIFICATE, _PRIVATE = "broker.crt", "broker.tls-key"
_VALID: Final = timedelta(days=3650)


def open_store(folder: str, *, create: bool) -> Store:
    """Opens the broker's database in its state folder.

    Raises:
        ConfigError: It cannot be used, or there is none and `create` does not say so.
    """
    path = Path(folder)
    try:
        if create:
            path.mkdir(mode=0o700, exist_ok=True)
            with contextlib.suppress(PermissionError):  # a parent that may be entered and not read
                sync_folder(os.fspath(path.parent))  # what is answered must not be lost with the folder's name
        others = path.stat().st_mode & 0o077
    except OSError as error:
        raise ConfigError(f"cannot use the state folder: {error.strerror}", path=folder) from None
    if not create and not (path / _DATABASE).exists():
        raise ConfigError("no broker was ever here", path=folder)
    if others:
        raise ConfigError(f"others may enter this folder; run: chmod 700 {folder}", path=folder)
    return Store(os.fspath(path / _DATABASE))


def serve_broker(
    identity: Identity, jobs: dict[str, Job], endpoint: Endpoint, folder: str, say: Callable[[str], None]
) -> None:
    """Runs a broker until it is killed or interrupted.

    Raises:
        ConfigError: The state folder cannot be used, another broker uses it, or nobody can listen there.
    """
    store = open_store(folder, create=True)
    lock = os.open(Path(folder) / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ConfigError("another broker uses this state folder", path=folder) from None
    service = Service(Broker(identity, jobs, store), endpoint, Path(folder), say)
    insecurely = "" if endpoint.tls else ", WITHOUT TLS"
    say(f"broker for {', '.join(jobs)} at {service.endpoint}{insecurely}")
    service.serve()


class Service:
    """Listens, and lets a broker answer.

    Args:
        broker: Answers.
        endpoint: Where to listen; port 0 is any free one.
        folder: Has the TLS certificate, which is made when there is none.
        say: Tells the owner what goes wrong here.

    Raises:
        ConfigError: It cannot listen there.
    """

    def __init__(
        self, broker: Broker, endpoint: Endpoint, folder: Path, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self._broker, self._say = broker, say
        self._tls = _server_context(folder, endpoint.host) if endpoint.tls else None
        self._lines, self._closed = Lines(MAX_CONNECTIONS), threading.Event()
        try:
            self._listener = socket.create_server((endpoint.host, endpoint.port), family=_family(endpoint.host))
        except OSError as error:
            raise ConfigError(f"cannot listen at {endpoint}: {error.strerror or error}") from None
        self.endpoint = Endpoint(endpoint.host, self._listener.getsockname()[1], endpoint.tls)

    def serve(self) -> None:
        """Serves until `close`."""
        while not self._closed.is_set():
            try:
                connection, _ = self._listener.accept()
                self._begin(connection)
            except (OSError, RuntimeError):  # closed; or there is no descriptor or thread left now
                self._closed.wait(_PAUSE_S)

    def close(self) -> None:
        """Listens no more."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes whoever waits in accept
        self._listener.close()

    def _begin(self, connection: socket.socket) -> None:
        line = None
        try:
            line = self._lines.admit(connection)
            if line is not None:
                threading.Thread(target=self._serve_one, args=(connection, line), daemon=True).start()
                return
        except BaseException:
            if line is not None:
                self._lines.leave(line)
            connection.close()
            raise
        connection.close()

    def _serve_one(self, connection: socket.socket, line: socket.socket) -> None:
        with connection:
            try:
                connection.settimeout(_HANDSHAKE_S)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                secured = self._tls.wrap_socket(connection, server_side=True) if self._tls else connection
                secured.settimeout(IDLE_S)
                channel = Channel(secured)
                while (request := channel.receive(ToBroker)) is not None:
                    with self._lines.answering(line):
                        answer = self._broker.answer(request)  # type: ignore[arg-type]
                    channel.send(answer)  # outside: who does not read it keeps no place
            except (OSError, EnclaveError):
                pass  # whoever it was speaks no TLS, sent no message of ours, or is gone
            except BaseException as error:
                # Nothing was decided, so nothing is answered: the host asks again.
                text = f"its database fails: {error}" if isinstance(error, sqlite3.Error) else type(error).__name__
                self._say(f"the broker could not answer a request: {text}")
            finally:
                self._lines.leave(line)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _server_context(folder: Path, host: str) -> ssl.SSLContext:
    certificate, private = folder / _CERTIFICATE, folder / _PRIVATE
    if not certificate.exists() or not private.exists():
        _make_certificate(certificate, private, host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(certificate, private)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot use the TLS certificate: {error}", path=str(certificate)) from None
    return context


def _make_certificate(certificate: Path, private: Path, host: str) -> None:
    """A certificate signed by itself: hosts are given the file and trust this one alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "plinius broker")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName([_alternative(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, SHA256())
    )
    for path in (private, certificate):
        path.unlink(missing_ok=True)  # half of a pair that a kill left
    with new_file(os.fspath(private)) as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with new_file(os.fspath(certificate), 0o644) as file:
        file.write(made.public_bytes(Encoding.PEM))


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
