"""The supervisor: starts the enclave, relays between it and the owner, restarts it when it dies, stops it cleanly."""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from types import FrameType

from plinius.errors import EnclaveError, named
from plinius.host.child import Enclave, Peer, start_enclave
from plinius.host.files import Files
from plinius.host.keeper import Keeper
from plinius.wire import (
    Command,
    Failed,
    FromEnclave,
    FromOwner,
    Infer,
    Inferred,
    KeyRelease,
    Message,
    Notice,
    Refusal,
    SealedKey,
    Stop,
    ToOwner,
    Trained,
    TrainManifest,
)

View = Callable[[Message], None]
"""Shows a message to the user."""


class Supervisor:
    """Runs one command in an enclave.

    Args:
        files: What the enclave works on.
        start_owner: Starts what answers the enclave: a process on this machine, or the line to a broker.
        view: Receives what the enclave reports.
        restarts: How often an enclave that died is started again.
        options: Further options of the enclave's command line.
        keep: Stores the key that the enclave had this machine's TPM seal.
    """

    def __init__(
        self,
        files: Files,
        start_owner: Callable[[], Peer],
        view: View,
        restarts: int,
        options: tuple[str, ...] = (),
        keep: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self._files, self._start_owner, self._keep = files, start_owner, keep
        self._view, self._restarts, self._options = view, restarts, options
        self.stopped_by: signal.Signals | None = None
        self._provisioned = False
        self._wake_reader = self._wake_writer = -1

    def run(self, command: Command) -> Message:
        """Runs the command to its end.

        Returns:
            `Trained` or `Inferred`.

        Raises:
            PliniusError: What the enclave or the owner reported.
            EnclaveError: The enclave died more often than it may be restarted.
        """
        # An inference has nothing to make durable: the first Ctrl-C ends it.
        with self._wake_pipe(), self._clean_stop() if not isinstance(command, Infer) else nullcontext():
            for left in range(self._restarts, -1, -1):
                outcome, status = self._attempt(command)
                if isinstance(outcome, Failed):
                    raise named(outcome.error, outcome.reason)
                if outcome is not None:
                    return outcome
                if self.stopped_by is not None:
                    break
                if left:
                    self._view(Notice(f"the enclave died ({_cause(status)}); starting it again, {left} restarts left"))
        raise EnclaveError(
            f"the enclave died ({_cause(status)}); what was reported durable is in the pool: "
            "run the same command to go on"
        )

    def _attempt(self, command: Command) -> tuple[Message | None, int]:
        """Runs one enclave to its end; it is surely gone when this returns."""
        owner, enclave = self._start_owner(), start_enclave(self._files, *self._options)
        self._provisioned = isinstance(command, TrainManifest) and bool(command.sealed_key)  # then it asks nobody
        with closing(Keeper(self._files.pool)) as self._keeper:  # closed when the enclave is gone
            try:
                with suppress(EnclaveError):  # it died already: its exit status says so
                    enclave.channel.send(command)
                outcome = self._relay(enclave, owner)
            except BaseException:
                enclave.kill()
                owner.kill()
                raise
            finally:
                owner.end()
                status = enclave.end()
        return outcome, status

    def _relay(self, enclave: Enclave, owner: Peer) -> Message | None:
        """Passes messages on until the enclave has a result or is gone."""
        handlers: dict[object, Callable[[Enclave, Peer], tuple[Message | None, bool]]] = {
            enclave.channel: self._from_enclave,
            enclave.pool_channel: self._for_the_pool,
            owner.channel: self._from_owner,
            self._wake_reader: self._from_user,
        }
        with selectors.DefaultSelector() as selector:
            for source in (enclave.channel, enclave.pool_channel, owner.channel, self._wake_reader):
                selector.register(source, selectors.EVENT_READ)
            while True:
                for ready, _ in selector.select():
                    outcome, going_on = handlers[ready.fileobj](enclave, owner)
                    if not going_on and ready.fileobj is enclave.channel:
                        return outcome
                    if not going_on:
                        selector.unregister(ready.fileobj)

    def _from_enclave(self, enclave: Enclave, owner: Peer) -> tuple[Message | None, bool]:
        message = enclave.channel.receive(FromEnclave)
        if isinstance(message, ToOwner):
            with suppress(EnclaveError):  # an owner that is gone is seen on its own channel
                owner.channel.send(message)
            return None, True
        if message is None or isinstance(message, Trained | Inferred | Failed):
            return message, False
        if isinstance(message, SealedKey):
            self._keep(message.sealed_key)
            return None, True
        self._view(message)
        return None, True

    def _for_the_pool(self, enclave: Enclave, _: Peer) -> tuple[None, bool]:
        return None, self._keeper.serve(enclave.pool_channel)

    def _from_owner(self, enclave: Enclave, owner: Peer) -> tuple[None, bool]:
        message = owner.channel.receive(FromOwner)
        if message is None and self._provisioned:
            return None, False
        # An owner that died leaves the enclave waiting for an answer.
        answer = message or Refusal("ProvisioningError", "the owner's process died before it released the key")
        with suppress(EnclaveError):
            enclave.channel.send(answer)
            if isinstance(answer, KeyRelease | Refusal):
                self._provisioned = True
                self._pass_on_stop(enclave)
        return None, message is not None

    def _from_user(self, enclave: Enclave, _: Peer) -> tuple[None, bool]:
        os.read(self._wake_reader, 1)
        self._view(Notice("stopping after the running step; press Ctrl-C again to stop at once"))
        with suppress(EnclaveError):
            self._pass_on_stop(enclave)
        return None, True

    def _pass_on_stop(self, enclave: Enclave) -> None:
        """Tells the enclave of a stop, but not while it expects the owner's answers and nothing else."""
        if self._provisioned and self.stopped_by is not None:
            enclave.channel.send(Stop())

    @contextmanager
    def _wake_pipe(self) -> Iterator[None]:
        """What a signal handler wakes the relay with."""
        self._wake_reader, self._wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            yield
        finally:
            os.close(self._wake_reader)
            os.close(self._wake_writer)

    @contextmanager
    def _clean_stop(self) -> Iterator[None]:
        """Turns the first Ctrl-C or SIGTERM into a clean stop; the second one acts as usual."""
        signals = (signal.SIGINT, signal.SIGTERM)

        def on_signal(number: int, _: FrameType | None) -> None:
            self.stopped_by = signal.Signals(number)
            signal.signal(number, before[self.stopped_by])
            os.write(self._wake_writer, b"s")

        before = {number: signal.getsignal(number) for number in signals}  # complete, when the first one comes
        try:
            for number in signals:
                signal.signal(number, on_signal)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _cause(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"
