"""What a restore will do: the differences that forbid it, the memory that it fills, the loads that follow."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any

from plinius.errors import ConfigError
from plinius.state.arrays import library_of
from plinius.state.generators import Source
from plinius.state.references import SavedArrays, malformed
from plinius.state.snapshot import Layout
from plinius.state.tree import Node, named


class Phase(IntEnum):
    """What is loaded after what."""

    ARRAYS = 0
    MODULES = 1
    OBJECTS = 2
    OPTIMIZERS = 3  # their groups hold the learning rates, which a scheduler may touch as it loads
    CONTAINERS = 4
    GENERATORS = 5
    LOADERS = 6


class Plan:
    """A saved state laid over live objects, none of which is changed before `load`.

    Args:
        arrays: The saved buffers.

    Attributes:
        differences: What does not agree, by path.
        generators: The generator objects of the state.
        checks: What is compared when all is laid over.
        notes: What is put back that the program has set otherwise.
    """

    def __init__(self, arrays: SavedArrays) -> None:
        self.arrays = arrays
        self.differences: list[str] = []
        self.generators: list[Source] = []
        self.checks: list[Callable[[], None]] = []
        self.notes: list[str] = []
        self._loads: list[tuple[Phase, Callable[[], object]]] = []
        self._values: list[Node] = []

    def differ(self, path: str, what: str) -> None:
        """Notes a difference."""
        self.differences.append(f"{path}: {what}")

    def later(self, phase: Phase, load: Callable[[], object], *values: Node) -> None:
        """Notes a load.

        Args:
            phase: When.
            load: What.
            values: The saved values that it will read, so that they are checked before anything is changed.
        """
        self._values.extend(values)
        self._loads.append((phase, load))

    def check_values(self) -> None:
        """Reads every saved value that will be loaded, without its arrays.

        Raises:
            IntegrityError: One is malformed.
        """
        for node in self._values:
            self.arrays.check(node)

    def load(self) -> None:
        """Loads everything that is not memory, in the order of the phases."""
        for _, load in sorted(self._loads, key=lambda entry: entry[0]):
            load()

    def array(self, node: Node, live: Any, path: str, *, in_place: bool = True) -> None:
        """Lays a saved array over a live one.

        Args:
            node: The saved array.
            live: What is at the same path now.
            path: Where they are.
            in_place: Whether the live array takes the bytes; else it only shows what they must be like.

        Raises:
            ConfigError: The live array cannot be mirrored at all.
        """
        saved = self.arrays.read(node)
        spec, library = self.arrays.specs[saved.buffer], library_of(live)
        if library is None or library.tag != saved.library.tag:
            self.differ(path, f"a {saved.library.tag} then, {named(live)} now")
            return
        identity, view = library.identity(live, path), library.view(live)
        if view.shape != spec.shape:
            self.differ(path, f"shape {list(spec.shape)} then, {list(view.shape)} now")
        elif view.dtype != spec.dtype:
            self.differ(path, f"dtype {spec.dtype} then, {view.dtype} now")
        elif not in_place:
            return
        elif not view.memory.flags.writeable:
            raise ConfigError(f"{path}: a read-only array cannot be restored in place; give a writable one")
        elif (tied := self.arrays.tie(saved.buffer, identity, path)) is not None:
            self.differ(path, tied)
        elif "copied" not in (view.layout, saved.layout) and view.layout != saved.layout:
            self.differ(path, f"memory {_order(saved.layout)} then, {_order(view.layout)} now")
        elif view.aliases and view.layout == (None if saved.layout == "copied" else saved.layout):
            self.arrays.bind(saved.buffer, live, view.memory)
        else:
            self.later(Phase.ARRAYS, lambda: library.assign(live, self.arrays.new(saved.buffer)))

    def generator(self, node: Node, source: Source | None, path: str) -> None:
        """Lays a saved generator over a live one; ``None`` is none."""
        if node is None and source is None:
            return
        kind, state = fields(node, "generator", 2) if node is not None else (None, None)
        if source is None or source.kind != kind:
            now = source.kind if source else "no generator"
            self.differ(path, f"{'no generator' if node is None else kind!r} then, {now!r} now")
        else:
            put = source.put
            self.later(Phase.GENERATORS, lambda: put(self.arrays.value(state)), state)


def fields(node: Node, tag: str, count: int) -> list[Node]:
    """Returns what follows the tag of a node.

    Raises:
        IntegrityError: The node has another tag or another number of fields.
    """
    if not isinstance(node, list) or len(node) != count + 1 or node[0] != tag:
        raise malformed(f"a {tag} was expected")
    return node[1:]


def _order(layout: Layout) -> str:
    return "row-major" if layout is None else f"with strides {list(layout)}"
