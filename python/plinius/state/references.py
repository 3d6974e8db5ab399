"""The arrays of a saved tree: which there are, where their bytes go, and the values that hold them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

from plinius.errors import IntegrityError
from plinius.frameworks import import_torch
from plinius.state.arrays import ArrayLibrary, is_dense, library_named
from plinius.state.snapshot import Layout, Memory, Spec
from plinius.state.tree import Node, decode

_TAGS = ("tensor", "ndarray")


class Reference(NamedTuple):
    """A saved array, as one place in the tree names it.

    Args:
        buffer: Which buffer holds its bytes.
        library: Whose array it is.
        layout: The order of its elements in the buffer.
        traits: What the library adds, such as the device.
    """

    buffer: int
    library: ArrayLibrary
    layout: Layout
    traits: list[Node]


def malformed(what: str) -> IntegrityError:
    """Returns the error for a tree that is not as a capture writes it."""
    return IntegrityError(f"the mirrored structure is malformed: {what}")


def is_reference(node: Node) -> bool:
    """Tells whether a node stands for an array."""
    return isinstance(node, list) and bool(node) and node[0] in _TAGS


class SavedArrays:
    """Every buffer of a saved state, bound to live memory or to a new array.

    Args:
        tree: The structure that refers to them.
        specs: The buffers.

    Raises:
        IntegrityError: The structure and the buffers do not belong together.
    """

    def __init__(self, tree: Node, specs: Sequence[Spec]) -> None:
        self.specs = specs
        self._tree = tree
        self._read: dict[int, Reference] = {}  # by the identity of nodes, which the tree keeps alive
        self._references: dict[int, Reference] = {}
        self._memory: dict[int, Memory] = {}
        self._live: dict[int, Any] = {}
        self._new: dict[int, Any] = {}
        self._values: dict[tuple[int, str], Any] = {}
        self._places: dict[int, tuple[Hashable, str]] = {}
        self._owners: dict[Hashable, int] = {}
        for node in _arrays_in(tree):
            reference = self._read[id(node)] = self._parse(node)
            self._references.setdefault(reference.buffer, reference)
        if len(self._references) != len(specs):
            raise malformed(f"it names {len(self._references)} buffers of {len(specs)}")

    def read(self, node: Node) -> Reference:
        """Reads an array's node.

        Raises:
            IntegrityError: It is malformed.
        """
        found = self._read.get(id(node))
        if found is None:
            if not isinstance(node, list) or not is_reference(node):
                raise malformed("an array was expected")
            found = self._parse(node)
        return found

    def _parse(self, node: list[Node]) -> Reference:
        index = node[1] if len(node) > 1 else None
        if type(index) is not int or not 0 <= index < len(self.specs):
            raise malformed(f"there is no buffer {index!r}")
        layout = _layout(node[2], self.specs[index].shape) if len(node) > 2 else None  # noqa: PLR2004 (most have none)
        return Reference(index, library_named(str(node[0])), layout, node[3:])

    def tie(self, index: int, identity: Hashable, path: str) -> str | None:
        """Notes which live array a buffer goes to.

        Returns:
            What is wrong, if arrays were tied at the save that are not tied now, or the other way round.
        """
        if identity is None:
            return None
        known, first = self._places.setdefault(index, (identity, path))
        if known != identity:
            return f"tied to {first} then, separate now"
        owner = self._owners.setdefault(identity, index)
        if owner != index:
            return f"separate then, tied to {self._places[owner][1]} now"
        return None

    def owner(self, identity: Hashable) -> int | None:
        """Returns which buffer goes to a live array, if one does."""
        return self._owners.get(identity)

    def bind(self, index: int, live: object, memory: Memory) -> None:
        """Lets a buffer's bytes go straight to the memory of a live array."""
        self._live[index], self._memory[index] = live, memory

    def allocate(self) -> None:
        """Makes a new array for every buffer that is not bound.

        Raises:
            IntegrityError: A buffer's dtype is none that a capture writes.
        """
        for index, spec in enumerate(self.specs):
            if index not in self._memory:
                reference = self._references[index]
                self._new[index] = reference.library.empty(spec.dtype, spec.shape, reference.layout)
                self._memory[index] = reference.library.view(self._new[index]).memory

    def memory(self, index: int) -> Memory:
        """Returns where the bytes of a buffer go, 1-D and writable."""
        return self._memory[index]

    def new(self, index: int) -> Any:
        """Returns the array that was made for a buffer, in host memory."""
        return self._new[index]

    def check(self, node: Node) -> None:
        """Reads a value without its arrays, which have no bytes yet.

        Raises:
            IntegrityError: It is malformed.
        """
        decode(node, self._placeholder)

    def value(self, node: Node) -> Any:
        """Returns a value with its arrays, which must be filled; tied ones are one array again."""
        return decode(node, self._foreign)

    def _placeholder(self, node: list[Node]) -> object:
        return self.read(node) and object() if is_reference(node) else _of_torch(node)

    def _foreign(self, node: list[Node]) -> object:
        if not is_reference(node):
            return _of_torch(node)
        index, library, _, traits = self.read(node)
        if index in self._live:  # an object that held the model's own tensor
            return self._live[index]
        key = (index, repr(traits))
        if key not in self._values:
            self._values[key] = library.with_traits(self._new[index], traits)
        return self._values[key]


def _of_torch(node: list[Node]) -> object:
    tag, *rest = node
    if tag != "torch" or not rest:
        raise malformed(f"an unknown value {tag!r}")
    return import_torch().decode_value(*rest)


def _layout(node: Node, shape: tuple[int, ...]) -> Layout:
    if node is None:
        return None
    if node == "copied":
        return "copied"
    strides = tuple(stride for stride in node if type(stride) is int) if isinstance(node, list) else ()
    if len(strides) != len(shape) or not is_dense(shape, strides):
        raise malformed(f"strides {node!r} for shape {list(shape)}")
    return strides


def _arrays_in(tree: Node) -> Iterator[list[Node]]:
    """Walks a tree: its lists begin with a tag, so that no string in it can be taken for an array."""
    rest = [tree]
    while rest:
        node = rest.pop()
        if isinstance(node, dict):
            rest.extend(node.values())
        elif isinstance(node, list):
            if is_reference(node):
                yield node
            else:
                rest.extend(node)
