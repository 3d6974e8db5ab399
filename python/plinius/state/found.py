"""The arrays that a capture came by, so that the next one can tell that it comes by the same."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

from plinius.state.arrays import ArrayLibrary
from plinius.state.snapshot import Buffer, Place
from plinius.state.tree import Node


class Visit(NamedTuple):
    """An array as a capture came by it: one that is tied to another is come by twice.

    Args:
        seen: All that was seen of it, and all that what follows depends on.
        node: What the tree says of it.
        place: Its place.
    """

    seen: tuple[object, ...]
    node: list[Node]
    place: Place


_KEYS = frozenset({str, int})


class Stretch(NamedTuple):
    """A container of nothing but arrays whose memory the buffers are.

    Args:
        at: How many arrays had been come by before.
        kind: The container's type.
        keys: Its keys, each a `str` or an `int`: of other types, different ones may be equal; none for a list.
        kinds: The types of its keys and arrays.
        library: Whose arrays they are.
        evidence: What the library saw of them.
        node: What the tree says of the container.
    """

    at: int
    kind: type
    keys: list[object]
    kinds: list[type]
    library: ArrayLibrary
    evidence: object
    node: list[Node]

    @classmethod
    def of(
        cls, at: int, kind: type, keys: list[object], values: list[object], library: ArrayLibrary, node: list[Node]
    ) -> Stretch | None:
        """Returns what is noted of a container of arrays of one library; ``None`` where they could not be compared."""
        if not _KEYS.issuperset(map(type, keys)):
            return None
        return cls(at, kind, keys, list(map(type, keys + values)), library, library.evidence(values), node)

    def is_again(self, kind: type, keys: list[object], values: list[object]) -> bool:
        """Tells whether a container is this one still, and all arrays in it as well."""
        if (self.kind, self.kinds, self.keys) != (kind, list(map(type, keys + values)), keys):
            return False
        return self.evidence is not None and self.evidence == self.library.evidence(values)


class Found(NamedTuple):
    """All but the states of generators.

    Args:
        visits: In their order.
        stretches: Containers among them, by their paths.
        places: Where each array is among the buffers, by what identifies the array.
        names: Of the buffers.
        buffers: The buffers.
        spans: Which buffer the array at an address, and of a length in bytes, is; ``None`` where that is not known.
    """

    visits: list[Visit]
    stretches: dict[str, Stretch]
    places: dict[Hashable, Place]
    names: set[str]
    buffers: list[Buffer]
    spans: dict[tuple[int, int], int | None]

    def number_of(self, tensor: Any) -> int | None:
        """Returns which buffer a tensor is: by address and length, which cost less than its whole identity does."""
        return self.spans.get((tensor.data_ptr(), tensor.nbytes))


def spans_of(places: Mapping[Hashable, Place]) -> dict[tuple[int, int], int | None]:
    """Returns the numbers of buffers by where their arrays lie; ``None``, where several lie in one place."""
    spans: dict[tuple[int, int], int | None] = {}
    for identity, place in places.items():
        if isinstance(identity, tuple):
            span = identity[0], place.buffer.memory.nbytes
            spans[span] = None if span in spans else place.number
    return spans
