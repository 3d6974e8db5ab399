"""A host that lies to the enclave about the pool that it has open for it.

What can be noticed at once is an error there. What cannot is ciphertext in the wrong place, which does not open.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hostile import GARBAGE, HALF, HUGE
from hypothesis import given, settings
from hypothesis import strategies as st
from inside import Command
from jobs import Job, line_of
from plinius import Key, Mirror, Pool
from plinius.enclave.hosted import HostedPool, host_at, look_at
from plinius.errors import EnclaveError, IntegrityError, PliniusError, PoolCorrupt, PoolError
from plinius.host.keeper import Keeper
from plinius.wire import (
    MAX_POOL_FRAME_BYTES,
    Channel,
    CommitEntry,
    Entry,
    FindEntry,
    FromPool,
    Message,
    PoolDone,
    PoolFailed,
    PoolRequest,
    Space,
    TakeSpace,
    ToPool,
    parse,
)
from small_training import Extents, rewrite_entry

pytestmark = pytest.mark.filterwarnings("ignore:rollback is not detected")

Lie = Callable[[ToPool, FromPool], FromPool]
Distortion = Callable[[Extents], Extents]
PAGE = 4096
ENDS = [1 << 40, 1 << 62, (1 << 63) - 1]


def honest(_: ToPool, answer: FromPool) -> FromPool:
    return answer


class Host:
    """Has a pool, and answers as it likes; what it answers goes through the messages.

    Attributes:
        lie: Makes another answer of the honest one.
        entries: What it has said is committed without doing it, by name.
    """

    def __init__(self, descriptor: int) -> None:
        self.keeper = Keeper(descriptor)
        self.lie: Lie = honest
        self.entries: dict[str, Entry] = {}

    def __call__(self, request: ToPool) -> FromPool:
        told = self.lie(request, self.keeper.answer(parse(msgspec.msgpack.encode(request), ToPool)))  # type: ignore[arg-type]
        return parse(msgspec.msgpack.encode(told), FromPool)  # type: ignore[return-value]

    def abet(self, request: ToPool, answer: FromPool) -> FromPool:
        """Commits whatever it is told: what lies where is wrong, and the enclave shall not notice."""
        match request:
            case CommitEntry(name=name, meta=meta, extents=extents):
                self.entries[name] = Entry(meta, extents)
                return PoolDone()
            case FindEntry(name=name):
                return self.entries.get(name, answer)
        return answer


class Enclave:
    """A mirror of a few arrays in a pool that the host has."""

    def __init__(self, host: Callable[[ToPool], FromPool], descriptor: int, key: Key, name: str = "m") -> None:
        self.arrays = [np.zeros(length, np.uint8) for length in (5000, 300, 300, 40_000)]
        self.pool = HostedPool(host, descriptor, "the pool", look_at(descriptor, "the pool"))
        self.mirror = Mirror(self.pool, key, name=name, arrays={str(at): each for at, each in enumerate(self.arrays)})

    def save(self, step: int) -> None:
        for number, array in enumerate(self.arrays):
            array[:] = content(step, number, array.size)
        self.mirror.save(step)

    def restore(self) -> int | None:
        """The step, when every byte is that step's."""
        step = self.mirror.restore()
        if step is not None:
            assert all((array == content(step, at, array.size)).all() for at, array in enumerate(self.arrays))
        return step

    def zeroed(self) -> bool:
        return not any(array.any() for array in self.arrays)


def content(step: int, number: int, length: int) -> Any:
    return np.random.default_rng([step, number]).integers(0, 256, length, np.uint8)


@pytest.fixture
def key() -> Key:
    return Key.generate()


@pytest.fixture
def descriptor(path: Path) -> Iterator[int]:
    opened = os.open(path, os.O_RDWR | os.O_CREAT)
    yield opened
    os.close(opened)


@pytest.fixture
def host(descriptor: int) -> Iterator[Host]:
    made = Host(descriptor)
    yield made
    made.keeper.close()


@pytest.fixture
def enclave(host: Host, descriptor: int, key: Key) -> Enclave:
    """It has saved step 1."""
    made = Enclave(host, descriptor, key)
    made.save(1)
    return made


def about_space(distort: Distortion) -> Lie:
    """Another answer to each question for space."""

    def lie(_: ToPool, answer: FromPool) -> FromPool:
        return Space(distort(answer.extents)) if isinstance(answer, Space) else answer

    return lie


def about_entries(distort: Callable[[Entry], FromPool]) -> Lie:
    def lie(_: ToPool, answer: FromPool) -> FromPool:
        return distort(answer) if isinstance(answer, Entry) and answer.meta is not None else answer

    return lie


def restored(host: Host, descriptor: int, key: Key) -> int | None:
    """What the next enclave finds."""
    return Enclave(host, descriptor, key).restore()


# Space that is not what was asked for.

NOTICED: dict[str, Distortion] = {
    "shorter": lambda extents: [(at, length - 1) for at, length in extents],
    "longer": lambda extents: [(at, length + 1) for at, length in extents],
    "as the next": lambda extents: [extents[-1], *extents[:-1]] if len(extents) > 1 else extents,
    "empty": lambda extents: [(at, 0) for at, _ in extents],
    "endless": lambda extents: [(at, (1 << 63) - 1) for at, _ in extents],
    "one less": lambda extents: extents[:-1],
    "one more": lambda extents: [*extents, (extents[-1][0] + PAGE, 1)] if extents else extents,
    "the last one twice": lambda extents: extents + extents[-1:],
    "none": lambda _: [],
    "two for the manifest": lambda extents: extents * 2 if len(extents) == 1 else extents,
    "none for the manifest": lambda extents: [] if len(extents) == 1 else extents,
    "all in one place": lambda extents: [(extents[0][0], length) for _, length in extents],
    "one page apart": lambda extents: [(extents[0][0] + at * PAGE, each[1]) for at, each in enumerate(extents)],
    "behind the file": lambda extents: [(at + (1 << 30), length) for at, length in extents],
    "the last one behind the file": lambda extents: [*extents[:-1], (1 << 40, extents[-1][1])],
    **{f"at {end}": lambda extents, end=end: [(end, length) for _, length in extents] for end in ENDS},  # type: ignore[misc]
    **{
        f"up to {end}": lambda extents, end=end: [(end - length, length) for _, length in extents]  # type: ignore[misc]
        for end in ENDS
    },
    "negative": lambda extents: [(-at, length) for at, length in extents],
    "of negative length": lambda extents: [(at, -length) for at, length in extents],
    "beyond 2^63": lambda extents: [(at + (1 << 63), length) for at, length in extents],
}


@pytest.mark.parametrize("distort", NOTICED.values(), ids=NOTICED.keys())
def test_other_space_than_was_asked_for_is_refused_before_anything_is_stored(
    host: Host, enclave: Enclave, descriptor: int, key: Key, path: Path, distort: Distortion
) -> None:
    before = path.read_bytes()
    host.lie = about_space(distort)
    with pytest.raises(PliniusError):
        enclave.save(2)
    if not only_of_the_manifest(distort):
        after = path.read_bytes()  # the pool may have grown, as its superblock says
        assert after[2 * PAGE : len(before)] == before[2 * PAGE :]
        assert not any(after[len(before) :])
    host.lie = honest
    assert restored(host, descriptor, key) == 1
    enclave.save(3)
    assert restored(host, descriptor, key) == 3


def only_of_the_manifest(distort: Distortion) -> bool:
    """The buffers are stored by then."""
    two = [(PAGE, 1), (2 * PAGE, 2)]
    return distort(two) == two


def entry(host: Host) -> Entry:
    found = host.keeper.answer(FindEntry("mirror/m"))
    assert isinstance(found, Entry)
    return found


# Space that is as long as it should be, but somewhere else.


def beginning(extents: Extents, at: int) -> Extents:
    """Apart from each other, from a place on."""
    places = []
    for _, length in extents:
        places.append((at, length))
        at += -(-length // PAGE) * PAGE
    return places


UNNOTICED: dict[str, Callable[[Extents, Extents], Extents]] = {
    "a byte apart": lambda taken, _: [(at - 1, length) for at, length in taken],
    "over the generation before": lambda taken, before: beginning(taken, min(before)[0]),
    "a part of it": lambda taken, before: [*taken[:-1], (min(before)[0] + 7, taken[-1][1])] if taken else taken,
    "over the heap": lambda taken, _: beginning(taken, PAGE * 8),
}
OVER_THE_SUPERBLOCK: Callable[[Extents, Extents], Extents] = lambda taken, _: beginning(taken, 0)  # noqa: E731


@pytest.mark.parametrize(
    "distort", [*UNNOTICED.values(), OVER_THE_SUPERBLOCK], ids=[*UNNOTICED.keys(), "over the superblock"]
)
def test_space_in_the_wrong_place_is_refused_by_an_honest_commit(
    host: Host, enclave: Enclave, descriptor: int, key: Key, path: Path, distort: Callable[[Extents, Extents], Extents]
) -> None:
    before, length = entry(host).extents, path.stat().st_size
    host.lie = about_space(lambda taken: distort(taken, before))
    with pytest.raises(PliniusError):
        enclave.save(2)
    host.lie = honest
    assert path.stat().st_size in range(length, length + (1 << 20))
    with suppress(PoolError, IntegrityError):  # where the lie had its own pool written over
        assert restored(host, descriptor, key) == 1


@pytest.mark.parametrize("distort", UNNOTICED.values(), ids=UNNOTICED.keys())
def test_what_was_stored_in_the_wrong_place_is_whole_or_does_not_open(
    host: Host, enclave: Enclave, descriptor: int, key: Key, path: Path, distort: Callable[[Extents, Extents], Extents]
) -> None:
    before, length = entry(host).extents, path.stat().st_size
    tell = about_space(lambda taken: distort(taken, before))
    host.lie = lambda request, answer: host.abet(request, tell(request, answer))
    enclave.save(2)
    assert path.stat().st_size in range(length, length + (1 << 20))
    late = Enclave(host, descriptor, key)
    with suppress(IntegrityError):
        assert late.restore() == 2
        return
    assert late.zeroed()
    with pytest.raises(PliniusError):
        late.mirror.save(3)


def test_space_may_be_given_in_any_order(host: Host, enclave: Enclave, descriptor: int, key: Key) -> None:
    host.lie = about_space(lambda taken: [taken[0], taken[2], taken[1], taken[3]] if len(taken) == 4 else taken)
    enclave.save(2)
    assert restored(host, descriptor, key) == 2


def test_two_tensors_in_one_place_are_refused(host: Host, enclave: Enclave, descriptor: int, key: Key) -> None:
    tell = about_space(lambda taken: [taken[0], taken[1], taken[1], taken[3]] if len(taken) == 4 else taken)
    host.lie = lambda request, answer: host.abet(request, tell(request, answer))
    with pytest.raises(PoolError, match=r"^the pool: the extents are .* not apart"):
        enclave.save(2)
    host.lie = honest
    assert restored(host, descriptor, key) == 1


def test_the_generation_before_that_was_written_over_does_not_open(
    host: Host, enclave: Enclave, descriptor: int, key: Key
) -> None:
    before = entry(host)
    tell = about_space(lambda taken: beginning(taken, min(before.extents)[0]))
    host.lie = lambda request, answer: host.abet(request, tell(request, answer))
    enclave.save(2)
    host.entries["mirror/m"] = before
    with pytest.raises(IntegrityError, match=r"^the pool: "):
        restored(host, descriptor, key)


_OFFSETS = st.sampled_from([0, 1, PAGE, 8 * PAGE, 1 << 20, 1 << 22, *ENDS]) | st.integers(0, 1 << 23)
_MOVES = st.sampled_from([-1, 1, 64, -PAGE, PAGE, 8 * PAGE]) | st.integers(-PAGE, PAGE)
_DISTORTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 4), _OFFSETS),
        st.tuples(st.just("move"), st.integers(0, 4), _MOVES),
        st.tuples(st.just("stretch"), st.integers(0, 4), _MOVES),
        st.tuples(st.just("swap"), st.integers(0, 4), st.integers(0, 4)),
        st.tuples(st.just("like"), st.integers(0, 4), st.integers(0, 4)),
        st.tuples(st.just("drop"), st.integers(0, 4), st.just(0)),
        st.tuples(st.just("more"), st.integers(0, 4), st.just(0)),
    ),
    max_size=3,
)


def distorted(extents: Extents, how: list[tuple[str, int, int]]) -> Extents:
    extents = list(extents)
    for kind, which, much in how:
        if not extents:
            break
        at = which % len(extents)
        (offset, length), other = extents[at], much % len(extents)
        match kind:
            case "put":
                extents[at] = (much, length)
            case "move":
                extents[at] = (offset + much, length)
            case "stretch":
                extents[at] = (offset, length + much)
            case "swap":
                extents[at], extents[other] = extents[other], extents[at]
            case "like":
                extents[at] = (extents[other][0], length)
            case "drop":
                del extents[at]
            case "more":
                extents.append((offset, length))
    return extents


@settings(max_examples=60, deadline=None)
@given(_DISTORTIONS, st.booleans())
def test_whatever_is_said_of_space_nothing_wrong_is_ever_restored(
    how: list[tuple[str, int, int]], abetted: bool
) -> None:
    descriptor = os.memfd_create("pool")
    try:
        host, key = Host(descriptor), Key.generate()
        enclave = Enclave(host, descriptor, key)
        enclave.save(1)
        tell = about_space(lambda taken: distorted(taken, how))
        host.lie = (lambda request, answer: host.abet(request, tell(request, answer))) if abetted else tell
        saved = False
        with suppress(PliniusError):
            enclave.save(2)
            saved = True
        host.lie = host.abet if abetted else honest
        with suppress(IntegrityError, PoolError):
            assert restored(host, descriptor, key) == (2 if saved else 1)
        host.keeper.close()
    finally:
        os.close(descriptor)


@settings(max_examples=60, deadline=None)
@given(_DISTORTIONS)
def test_whatever_is_said_of_an_entry_nothing_wrong_is_ever_restored(how: list[tuple[str, int, int]]) -> None:
    descriptor = os.memfd_create("pool")
    try:
        host, key = Host(descriptor), Key.generate()
        Enclave(host, descriptor, key).save(1)
        host.lie = about_entries(lambda entry: Entry(entry.meta, distorted(entry.extents, how)))
        late = Enclave(host, descriptor, key)
        try:
            assert late.restore() == 1
        except PliniusError:
            assert late.zeroed()
        host.keeper.close()
    finally:
        os.close(descriptor)


# Entries that are not what the catalog has.

OTHERS: dict[str, Callable[[Entry], FromPool]] = {
    "no extents": lambda entry: Entry(entry.meta, []),
    "one extent less": lambda entry: Entry(entry.meta, entry.extents[:-1]),
    "extents without bytes": lambda entry: Entry(entry.meta, [(at, 0) for at, _ in entry.extents]),
    "nothing at nowhere": lambda entry: Entry(entry.meta, [(0, 0) for _ in entry.extents]),
    "longer extents": lambda entry: Entry(entry.meta, [(at, length + 1) for at, length in entry.extents]),
    "other extents": lambda entry: Entry(entry.meta, entry.extents[::-1]),
    "extents behind the file": lambda entry: Entry(entry.meta, [(at + (1 << 40), each) for at, each in entry.extents]),
    "extents behind all files": lambda entry: Entry(entry.meta, [((1 << 63) - 1, each) for _, each in entry.extents]),
    "endless extents": lambda entry: Entry(entry.meta, [(at, (1 << 63) - 1) for at, _ in entry.extents]),
    "no head": lambda entry: Entry(b"", entry.extents),
    "garbage": lambda entry: Entry(b"\xdd\xff\xff\xff\xff", entry.extents),
    "half a head": lambda entry: Entry((entry.meta or b"")[:100], entry.extents),
    "a head and more": lambda entry: Entry((entry.meta or b"") + b"\0", entry.extents),
    "a long head": lambda entry: Entry(bytes(MAX_POOL_FRAME_BYTES - 1000), entry.extents),
    "another answer": lambda _: PoolDone(),
    "space": lambda entry: Space(entry.extents),
    "an error": lambda _: PoolFailed("PoolCorrupt", "damaged"),
    "an error of no class": lambda _: PoolFailed("KeyboardInterrupt", "now"),
}


@pytest.mark.parametrize("distort", OTHERS.values(), ids=OTHERS.keys())
def test_another_entry_than_there_is_is_not_restored(
    host: Host, enclave: Enclave, descriptor: int, key: Key, distort: Callable[[Entry], FromPool]
) -> None:
    host.lie = about_entries(distort)
    late = Enclave(host, descriptor, key)
    with pytest.raises((IntegrityError, PoolCorrupt, EnclaveError)):
        late.restore()
    assert late.zeroed()
    with pytest.raises(PliniusError):
        late.mirror.save(1000)
    host.lie = honest
    assert restored(host, descriptor, key) == 1


def test_the_entry_of_another_mirror_is_not_restored(host: Host, enclave: Enclave, descriptor: int, key: Key) -> None:
    other = Enclave(host, descriptor, key, "other")
    other.save(7)
    found = host.keeper.answer(FindEntry("mirror/other"))
    host.lie = about_entries(lambda _: found)
    with pytest.raises(IntegrityError, match=r"^the pool: "):
        restored(host, descriptor, key)


def test_an_older_entry_is_what_there_was_or_does_not_open(
    host: Host, enclave: Enclave, descriptor: int, key: Key
) -> None:
    older = entry(host)
    enclave.save(2)
    host.lie = about_entries(lambda _: older)
    with pytest.raises(PoolError, match="was not restored here"):  # a running training notices
        enclave.save(3)
    assert restored(host, descriptor, key) == 1  # a new one is told by its anchor alone
    host.lie = honest
    enclave.save(4)  # into what the first generation had
    host.lie = about_entries(lambda _: older)
    with pytest.raises(IntegrityError, match=r"^the pool: "):
        restored(host, descriptor, key)


def test_an_entry_that_is_denied_once_is_not_given_up(host: Host, enclave: Enclave, descriptor: int, key: Key) -> None:
    host.lie = about_entries(lambda _: Entry(None, []))
    late = Enclave(host, descriptor, key)
    assert late.restore() is None
    host.lie = honest
    with pytest.raises(PoolError, match="was not restored here"):
        late.save(1)
    assert restored(host, descriptor, key) == 1


def test_an_entry_that_is_always_denied_begins_the_training_anew(
    host: Host, enclave: Enclave, descriptor: int, key: Key
) -> None:
    """As an empty pool in its place would: no more than that is told here without an anchor."""
    enclave.save(5)
    host.lie = about_entries(lambda _: Entry(None, []))
    late = Enclave(host, descriptor, key)
    assert late.restore() is None
    late.save(1)
    host.lie = honest
    assert restored(host, descriptor, key) == 1
    with pytest.raises(PoolError, match="was not restored here"):
        enclave.save(6)


def test_a_running_training_whose_entry_is_denied_does_not_go_on(host: Host, enclave: Enclave) -> None:
    host.lie = about_entries(lambda _: Entry(None, []))
    with pytest.raises(PoolError, match="was not restored here"):
        enclave.save(2)


def test_a_commit_that_was_not_made_is_a_rollback_and_no_more(
    host: Host, enclave: Enclave, descriptor: int, key: Key
) -> None:
    known = entry(host)

    def lie(request: ToPool, answer: FromPool) -> FromPool:
        return known if isinstance(request, FindEntry) else answer

    host.lie = lie
    enclave.save(2)  # committed in truth, and denied from now on
    with pytest.raises(PoolError, match="was not restored here"):
        enclave.save(3)
    assert restored(host, descriptor, key) == 1


@pytest.mark.timeout(60)
def test_an_entry_that_is_longer_than_a_message_does_not_leave_the_enclave_waiting(inside: Command, job: Job) -> None:
    """The host is honest here: somebody else has put that into the pool."""
    assert inside(*job.train("--steps", 1)).err == ""
    with Pool(job.pool) as pool:
        (name,) = (name for name, *_ in pool.core.entries() if name.startswith("mirror/"))
    rewrite_entry(job.pool, lambda _, extents: (bytes(MAX_POOL_FRAME_BYTES + 1), extents), name)
    line = line_of(7, inside(*job.train("--steps", 2)))
    assert line.startswith(f"{job.pool}: an entry of it cannot be read: ")


# Answers to other questions, and errors.

ANSWERS: list[FromPool] = [PoolDone(), Entry(None, []), Entry(b"", []), Space([]), Space([(PAGE, 1)])]


@pytest.mark.parametrize("question", [PoolRequest, FindEntry, TakeSpace, CommitEntry])
def test_the_answer_to_another_question(
    host: Host, enclave: Enclave, descriptor: int, key: Key, question: type[Message]
) -> None:
    fitting = {PoolRequest: PoolDone, FindEntry: Entry, TakeSpace: Space, CommitEntry: PoolDone}[question]
    for number, other in enumerate(ANSWERS):
        if isinstance(other, fitting):
            continue
        host.lie = lambda request, answer, other=other: other if isinstance(request, question) else answer  # type: ignore[misc]
        with pytest.raises(EnclaveError, match="the host answered another question"):
            Enclave(host, descriptor, key, f"new {number}").save(1)


@pytest.mark.parametrize(
    "name", ["KeyboardInterrupt", "SystemExit", "named", "annotations", "", "Exception", "PliniusErr"]
)
@pytest.mark.parametrize("question", [PoolRequest, FindEntry, TakeSpace, CommitEntry])
def test_an_error_of_an_unknown_class_is_the_hosts(
    host: Host, descriptor: int, key: Key, question: type[Message], name: str
) -> None:
    host.lie = lambda request, answer: PoolFailed(name, "why") if isinstance(request, question) else answer
    with pytest.raises(EnclaveError, match=r"^why$"):
        Enclave(host, descriptor, key).save(1)


def test_what_a_pool_can_fail_with_can_be_said_and_nothing_else(host: Host, descriptor: int, key: Key) -> None:
    """No word of the host's makes an enclave say that it met a rollback, or that an owner refused something."""
    for kind in (PliniusError, *subclasses(PliniusError)):
        host.lie = lambda request, answer, kind=kind: (  # type: ignore[misc]
            PoolFailed(kind.__name__, "why") if isinstance(request, TakeSpace) else answer
        )
        with pytest.raises(PliniusError, match=r"why$") as caught:
            Enclave(host, descriptor, key).save(1)
        assert type(caught.value) is (kind if issubclass(kind, PoolError) else EnclaveError)


def subclasses(kind: type[PliniusError]) -> list[type[PliniusError]]:
    direct = kind.__subclasses__()
    return [*direct, *(further for each in direct for further in subclasses(each))]


# What is no message.


def framed(fields: object) -> bytes:
    body = msgspec.msgpack.encode(fields)
    return struct.pack("<I", len(body)) + body


NO_ANSWERS = {
    "garbage": GARBAGE,
    "a huge frame": HUGE,
    "a frame too long by one": struct.pack("<I", MAX_POOL_FRAME_BYTES + 1) + bytes(100),
    "half a frame": HALF,
    "half a length": HALF[:3],
    "the end": b"",
    "an empty frame": bytes(4),
    "a negative offset": framed({"type": "Space", "extents": [(-1, 1)]}),
    "a negative length": framed({"type": "Entry", "meta": b"", "extents": [(1, -1)]}),
    "2^63": framed({"type": "Space", "extents": [(1 << 63, 1)]}),
    "2^64 - 1": framed({"type": "Space", "extents": [(1, (1 << 64) - 1)]}),
    "a fraction": framed({"type": "Space", "extents": [(4096.0, 1)]}),
    "three numbers": framed({"type": "Space", "extents": [(1, 1, 1)]}),
    "no list": framed({"type": "Space", "extents": 7}),
    "a question": framed({"type": "PoolRequest"}),
    "another channel's": framed({"type": "Stop"}),
    "one field more": framed({"type": "PoolDone", "more": 1}),
}


@contextmanager
def speaking(keeper: Keeper, said: bytes, question: type[Message]) -> Iterator[socket.socket]:
    """A host that answers honestly until it says its last words to a question."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(20)

    def serve() -> None:
        channel = Channel(ours, MAX_POOL_FRAME_BYTES)
        while isinstance(request := channel.receive(ToPool), ToPool):
            if isinstance(request, question):
                with suppress(BrokenPipeError):
                    ours.sendall(said)
                ours.close()
                return
            channel.send(keeper.answer(request))

    thread = threading.Thread(target=serve)
    thread.start()
    with theirs:
        yield theirs
    thread.join(20)
    assert not thread.is_alive()
    ours.close()


@pytest.mark.parametrize("question", [PoolRequest, FindEntry, TakeSpace, CommitEntry])
@pytest.mark.parametrize("said", NO_ANSWERS.values(), ids=NO_ANSWERS.keys())
def test_what_is_no_answer_is_an_error_of_the_host(
    host: Host, descriptor: int, key: Key, said: bytes, question: type[Message]
) -> None:
    with speaking(host.keeper, said, question) as end:
        ask = host_at(Channel(end, MAX_POOL_FRAME_BYTES))
        with pytest.raises(EnclaveError):
            Enclave(ask, descriptor, key).save(1)


def test_a_frame_that_is_too_long_is_refused_before_it_is_read(host: Host, descriptor: int, key: Key) -> None:
    with (
        speaking(host.keeper, struct.pack("<I", MAX_POOL_FRAME_BYTES + 1), PoolRequest) as end,
        pytest.raises(EnclaveError, match=f"^refused a message of {MAX_POOL_FRAME_BYTES + 1} bytes"),
    ):
        Enclave(host_at(Channel(end, MAX_POOL_FRAME_BYTES)), descriptor, key)
