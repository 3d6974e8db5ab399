"""A host that gives other space of the pool than it was asked for, or space elsewhere.

What can be noticed at once is an error there. What cannot is ciphertext in the wrong place, which does not open.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lying import DISTORTIONS, ENDS, PAGE, Distortion, Enclave, Host, about_space, distorted, entry, honest, restored
from plinius import Key
from plinius.errors import IntegrityError, PliniusError, PoolError
from small_training import Extents

pytestmark = pytest.mark.filterwarnings("ignore:rollback is not detected")


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


@settings(max_examples=60, deadline=None)
@given(DISTORTIONS, st.booleans())
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
