"""A host that lies to the enclave about the pool that it has open for it, and an enclave to lie to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from hypothesis import strategies as st
from plinius import Key, Mirror
from plinius.enclave.hosted import HostedPool, look_at
from plinius.host.keeper import Keeper
from plinius.wire import (
    CommitEntry,
    Entry,
    FindEntry,
    FromPool,
    PoolDone,
    Space,
    ToPool,
    parse,
)
from small_training import Extents

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


def entry(host: Host) -> Entry:
    found = host.keeper.answer(FindEntry("mirror/m"))
    assert isinstance(found, Entry)
    return found


_OFFSETS = st.sampled_from([0, 1, PAGE, 8 * PAGE, 1 << 20, 1 << 22, *ENDS]) | st.integers(0, 1 << 23)
_MOVES = st.sampled_from([-1, 1, 64, -PAGE, PAGE, 8 * PAGE]) | st.integers(-PAGE, PAGE)
DISTORTIONS = st.lists(
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
