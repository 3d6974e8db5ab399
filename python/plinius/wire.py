"""The messages between owner, host and enclave: few, coarse, typed, bounded.

A frame is the length of its body (four bytes, little-endian) and the body: one message in msgpack. What is unknown,
malformed or too long is refused. `docs/design.md` lists who sends what to whom.
"""

from __future__ import annotations

import socket
import struct
from typing import Annotated, Final, TypeAlias, TypeVar

import msgspec

from plinius.errors import EnclaveError

PROTOCOL_VERSION: Final = 2
MAX_FRAME_BYTES: Final = 1 << 20
MAX_POOL_FRAME_BYTES: Final = 1 << 25
"""Of the channel for the pool: a public head may be half as long, and names extents besides."""
_LENGTH: Final = struct.Struct("<I")


class Message(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The base of all messages; the name of its class is on the wire."""


# From the host to the enclave.


class Train(Message, frozen=True):
    """Train the cfg on the data, mirrored into the pool. What is None is the job's, or has a default.

    Attributes:
        cfg_name: What error messages call the cfg.
        steps: Total optimizer steps.
        every: Mirror every so many steps.
        seed: Of initialization, order and dropout.
        threads: Of the framework.
        keep: How many generations stay in the pool.
    """

    cfg_name: str
    data_name: str
    pool_name: str
    steps: int | None
    every: int | None
    seed: int | None
    threads: int | None
    keep: int | None = None


class Infer(Message, frozen=True):
    """Classify the data with the model in the pool."""

    cfg_name: str
    data_name: str
    pool_name: str
    threads: int | None


class TrainManifest(Message, frozen=True):
    """Train what a signed manifest says, with a key from the broker of the owner who signed it.

    Attributes:
        manifest: As the broker has it; the enclave checks it, and binds its evidence to it.
        sealed_key: What an enclave had sealed to this machine's TPM, in the place of the broker; empty: it is asked.
    """

    manifest: bytes
    data_name: str
    pool_name: str
    sealed_key: bytes = b""


class Stop(Message, frozen=True):
    """Finish the running step, make it durable, and end."""


# From the host to the broker, and its answer.


class ManifestRequest(Message, frozen=True):
    """Which manifest a job has; it is no secret."""

    job: str


class Manifest(Message, frozen=True):
    """A job's signed manifest."""

    manifest: bytes


# Between the enclave and the owner; the host relays them, and can read neither the key nor what is sealed.


class KeyRequest(Message, frozen=True):
    """The enclave asks for the key.

    Attributes:
        protocol: `PROTOCOL_VERSION`.
        tee: What it will prove itself with.
        manifest: The digest of the job's manifest; empty where owner and enclave were started by one person.
        introduction: What the owner must know before she challenges; nothing for most TEEs.
    """

    protocol: int
    tee: str
    manifest: bytes = b""
    introduction: bytes = b""


class Challenge(Message, frozen=True):
    """The owner's answer: what the evidence must be bound to.

    Attributes:
        session: Her name for this exchange.
        nonce: Fresh.
        kem: How she will seal the key.
        credential: Her answer to the introduction.
        signature: Hers, by the key that the manifest names; empty where there is no manifest.
    """

    session: bytes
    nonce: bytes
    kem: str
    credential: bytes = b""
    signature: bytes = b""


class Evidence(Message, frozen=True):
    """What the enclave is.

    Attributes:
        session: Of the challenge.
        evidence: In the TEE's own form.
        public_key: The HPKE key to which the job key is to be sealed; its private half never leaves.
    """

    session: bytes
    evidence: bytes
    public_key: bytes


class KeyRelease(Message, frozen=True):
    """The job key, sealed to the enclave's HPKE key and bound to the session; signed where there is a manifest."""

    sealed_key: bytes
    signature: bytes = b""


class Sealed(Message, frozen=True):
    """What enclave and broker say to each other once the key is released: see `plinius.attest.session`."""

    session: bytes
    counter: int
    box: bytes


class LineLost(Message, frozen=True):
    """The line to the owner broke while she answered evidence; she takes none twice, so the enclave asks anew."""


class Refusal(Message, frozen=True):
    """The owner releases nothing, or does not do what was asked."""

    error: str
    reason: str


# From the enclave to the host.


class PoolOpened(Message, frozen=True):
    """The pool is open; what its medium is and survives, and what the enclave proved itself with."""

    medium: str
    durability: str
    tee: str


class Loading(Message, frozen=True):
    """How much of the data set is in the pool, in records."""

    done: int
    total: int


class Started(Message, frozen=True):
    """Training begins or goes on.

    Attributes:
        step: Steps that are behind it.
        steps: The total.
        every: Mirrored every so many steps.
        resumed: Whether the state came from the pool.
        records: In the data set.
    """

    step: int
    steps: int
    every: int
    resumed: bool
    records: int


class Progress(Message, frozen=True):
    """A step was made.

    Attributes:
        step: Steps made.
        durable_step: The newest step that no crash can lose.
        step_s: How long it took.
        save_s: How much of that was the mirror.
        loss: Only if the owner reveals it.
    """

    step: int
    durable_step: int
    step_s: float
    save_s: float
    loss: float | None


class Notice(Message, frozen=True):
    """Something that the user should know."""

    text: str


class SealedKey(Message, frozen=True):
    """The key, sealed to this machine's TPM, for the next start: the host keeps it, and can do nothing else with it."""

    sealed_key: bytes


class Trained(Message, frozen=True):
    """Training ended: at the last step, or at a `Stop`."""

    step: int
    steps: int


class Inferred(Message, frozen=True):
    """The result of an inference over a data set."""

    step: int
    records: int
    correct: int
    seconds: float


class Failed(Message, frozen=True):
    """The enclave gives up; the class is one of `plinius.errors`."""

    error: str
    reason: str


# Between the enclave and the host about the pool, on a channel of their own: each request has one answer.

_Offset = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_Length = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
_Extents = list[tuple[_Offset, _Length]]


class PoolRequest(Message, frozen=True):
    """Open the pool, or make one of an empty file."""


class FindEntry(Message, frozen=True):
    """What does the catalog hold under a name?"""

    name: str


class Entry(Message, frozen=True):
    """An entry of the catalog: its public bytes, and offset and length of each of its extents. None: there is none."""

    meta: bytes | None
    extents: _Extents


class TakeSpace(Message, frozen=True):
    """Take a free extent for each length, beside those that were taken since the last commit."""

    lengths: list[_Length]


class Space(Message, frozen=True):
    """The extents that were taken, in the order of their lengths."""

    extents: _Extents


class CommitEntry(Message, frozen=True):
    """Put an entry into the catalog, which owns what was taken, and of what it owned before as much as is named."""

    name: str
    meta: bytes
    extents: _Extents


class AbandonSpace(Message, frozen=True):
    """Take back what was taken since the last commit."""


class PoolDone(Message, frozen=True):
    """It is done; a commit is durable."""


class PoolFailed(Message, frozen=True):
    """It was not done; the class is one of `plinius.errors`."""

    error: str
    reason: str


Command: TypeAlias = Train | Infer | TrainManifest
ToEnclave: TypeAlias = Command | Stop | Challenge | KeyRelease | LineLost | Sealed | Refusal
ToOwner: TypeAlias = KeyRequest | Evidence | Sealed
FromEnclave: TypeAlias = (
    ToOwner | SealedKey | PoolOpened | Loading | Started | Progress | Notice | Trained | Inferred | Failed
)
FromOwner: TypeAlias = Challenge | KeyRelease | LineLost | Sealed | Refusal
ToBroker: TypeAlias = ManifestRequest | ToOwner
FromBroker: TypeAlias = Manifest | FromOwner
ToPool: TypeAlias = PoolRequest | FindEntry | TakeSpace | CommitEntry | AbandonSpace
FromPool: TypeAlias = PoolDone | Entry | Space | PoolFailed

_M = TypeVar("_M")


class Channel:
    """One end of a stream socket that carries messages.

    Args:
        connection: Connected, blocking.
        max_frame_bytes: What is longer is neither sent nor taken.
    """

    def __init__(self, connection: socket.socket, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._socket, self._max_frame_bytes = connection, max_frame_bytes

    def fileno(self) -> int:
        """The descriptor, for `select`."""
        return self._socket.fileno()

    def send(self, message: Message) -> None:
        """Sends one message.

        Raises:
            EnclaveError: The other side is gone.
        """
        body = msgspec.msgpack.encode(message)
        if len(body) > self._max_frame_bytes:
            raise EnclaveError(f"a message of {len(body)} bytes is too long to be sent")
        try:
            self._socket.sendall(_LENGTH.pack(len(body)) + body)
        except OSError:
            raise EnclaveError("the other process is gone") from None

    def receive(self, expected: type[_M] | object) -> Message | None:
        """Waits for one message.

        Args:
            expected: The union of classes that may come.

        Returns:
            The message, or None when the other side has closed.

        Raises:
            EnclaveError: What came is not one of these.
        """
        header = self._read(_LENGTH.size)
        if len(header) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack(header)
        if length > self._max_frame_bytes:
            raise EnclaveError(f"refused a message of {length} bytes: the limit is {self._max_frame_bytes}")
        body = self._read(length)
        if len(body) < length:
            return None
        return parse(body, expected)

    def close(self) -> None:
        """Closes this end; the other side sees it."""
        self._socket.close()

    def _read(self, length: int) -> bytes:
        parts = bytearray()
        while len(parts) < length:
            try:
                part = self._socket.recv(length - len(parts))
            except ConnectionError:
                return b""
            if not part:
                break
            parts += part
        return bytes(parts)


def parse(body: bytes, expected: type[_M] | object) -> Message:
    """Parses the body of a frame from a process that is not trusted.

    Raises:
        EnclaveError: It is none of the expected messages.
    """
    try:
        message = msgspec.msgpack.decode(body, type=expected)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise EnclaveError(f"refused a message: {error}") from None
    assert isinstance(message, Message)  # noqa: S101 (the type says so; this tells the checker)
    return message
