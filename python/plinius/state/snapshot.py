"""What a capture hands over: named memory, and the structure that it hangs in."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from plinius.state.found import Found

Memory: TypeAlias = npt.NDArray[np.uint8]
"""The bytes of one array: 1-D, contiguous."""

Layout: TypeAlias = tuple[int, ...] | Literal["copied"] | None
"""How an array's elements lie in its bytes: ``None`` is row-major, a tuple the strides in elements of another
dense order, ``"copied"`` the row-major copy of an array that does not fill its memory, such as a slice."""


class Spec(Protocol):
    """What a `BufferSpec` says, however it came here."""

    @property
    def name(self) -> str:
        """Where the value is in the state."""

    @property
    def dtype(self) -> str:
        """The element type."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's extents."""


class BufferSpec(NamedTuple):
    """What the sealed manifest records of a buffer.

    Args:
        name: Where the value is in the state, such as ``model/0.weight``; unique in a snapshot.
        dtype: The element type, such as ``float32`` or ``bfloat16``.
        shape: The array's extents, outermost first; ``()`` for a scalar.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(slots=True, eq=False)
class Buffer:
    """One array of the state.

    Args:
        spec: Its name, element type and shape.
        memory: Its bytes, 1-D and contiguous: the array's own where they are dense, else a private copy.
        identity: What identifies the array; ``None`` for one that is empty, or was made for this capture.

    Attributes:
        handle: What whoever seals it keeps of it, as long as the buffer lives: a later capture has the same buffer
            again if its array is still the same.
    """

    spec: BufferSpec
    memory: Memory
    identity: Hashable = None
    handle: Any = field(default=None, init=False, repr=False)


class Place(NamedTuple):
    """An array that was captured.

    Args:
        number: Its buffer's index.
        buffer: Its buffer.
        layout: The order of its elements in the buffer.
        aliases: Whether the buffer is the array's own memory.
    """

    number: int
    buffer: Buffer
    layout: Layout
    aliases: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole state at one step.

    Args:
        tree: The structure; arrays in it are indexes into ``buffers``.
        buffers: Every array, tied ones once, in the order in which the tree first names them.
        optimizers: The optimizers among the state, each once.
        found: Where the arrays are, for the next capture.
    """

    tree: bytes
    buffers: list[Buffer]
    optimizers: list[Any]
    found: Found = field(repr=False)

    @property
    def places(self) -> dict[Hashable, Place]:
        """Where each array is among the buffers, by what identifies the array."""
        return self.found.places


class View(NamedTuple):
    """An array as bytes.

    Args:
        memory: 1-D, contiguous.
        dtype: The element type's name.
        shape: The array's extents.
        layout: The order of the elements in ``memory``.
        aliases: Whether writing ``memory`` writes the array.
    """

    memory: Memory
    dtype: str
    shape: tuple[int, ...]
    layout: Layout
    aliases: bool
