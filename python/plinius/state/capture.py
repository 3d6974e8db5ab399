"""Live state to a structure and the memory that hangs in it, without copying what is dense."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from plinius.errors import ConfigError
from plinius.frameworks import import_torch, torch_if_loaded
from plinius.state.arrays import ArrayLibrary, library_of
from plinius.state.containers import DICTS, is_module, is_optimizer, is_stateful
from plinius.state.found import Found, Stretch, Visit, spans_of
from plinius.state.generators import Source, global_sources, own_source, source_of
from plinius.state.names import canonical
from plinius.state.snapshot import Buffer, BufferSpec, Place, Snapshot
from plinius.state.tree import MAX_DEPTH, Node, dumps, encode, inline_array, join, named, refuse

FORMAT_NAME = "state "
FORMAT = f"{FORMAT_NAME}3"
"""The tag of the whole tree, with the version of its structure."""


def capture(state: Mapping[str, object], previous: Snapshot | None = None) -> Snapshot:
    """Captures the state as it is now.

    The buffers of dense arrays in host memory are those arrays' own memory: they show later writes.

    Args:
        state: Named values: objects with ``state_dict()`` and ``load_state_dict()``; dicts, lists and tuples
            of such objects, arrays and plain values; random generators. ``None`` stands for nothing.
        previous: An earlier snapshot of the same state, which makes this one faster: as long as this capture comes
            by the same arrays in the same order, it need not work out again what becomes of them. It keeps
            that snapshot's arrays alive, so that none of their addresses can by now be another array's.

    Raises:
        ConfigError: A value would not come back exactly; the message names its path.
    """
    return _Capture(previous).snapshot(state)


def plain(value: object, _: str = "") -> list[Node] | None:
    """Returns the node of a plain value of torch, such as a dtype; ``None`` for anything else."""
    torch = torch_if_loaded()
    return torch.encode_value(value) if torch is not None else None


class _Capture:
    def __init__(self, previous: Snapshot | None) -> None:
        self.previous = previous.found if previous else Found([], {}, {}, set(), [], {})
        self.follows = previous is not None  # all visits so far are those of the previous capture
        self.visits: list[Visit] = []
        self.stretches: dict[str, Stretch] = {}
        self.places: dict[Hashable, Place] = {}
        self.buffers: list[Buffer] = []
        self.held: list[object] = []  # so that no array of this capture takes the address of a copied one
        self.names: set[str] = set()
        self.libraries: dict[type, ArrayLibrary | None] = {}
        self.generators: list[tuple[list[Node], Source, str]] = []
        self.optimizers: dict[int, Any] = {}
        self.parameters: list[tuple[list[Node], Any]] = []
        self.open: set[int] = set()

    def snapshot(self, state: Mapping[str, object]) -> Snapshot:
        values: Node = {key: self._top(value, key) for key, value in state.items()}
        found = self._found()
        for node, optimizer in self.parameters:
            node.append(import_torch().parameters(optimizer, found.number_of))
        process = {name: self._generator(it, f"generators/{name}") for name, it in global_sources().items()}
        # Last, for state_dict() of a loader that was never iterated makes its iterator, which draws.
        for node, source, path in self.generators:
            node.append(encode(source.get(), path, _inline))
        tree = dumps([FORMAT, values, {**process}])
        return Snapshot(tree, found.buffers, list(self.optimizers.values()), found)

    def _found(self) -> Found:
        if self.follows and len(self.visits) < len(self.previous.visits):
            self._part()
        if self.follows:
            return self.previous
        return Found(self.visits, self.stretches, self.places, self.names, self.buffers, spans_of(self.places))

    def _top(self, value: object, path: str) -> Node:
        node = self._live(value, path)
        if node is not None:
            return node
        node = ["value", encode(value, path, plain)]
        if value is not None and type(value) not in (*DICTS, list):
            advice = f'put it in a dict, such as {path}={{"value": ...}}'
            raise ConfigError(f"{path}: {named(value)} cannot be restored in place; {advice}")
        return node

    def _live(self, value: object, path: str) -> list[Node] | None:
        """Returns the node of what is restored through the object itself; ``None`` for a plain value."""
        if (library := self._library(value)) is not None:
            return self._array(library, value, path, live=True)
        if (source := source_of(value)) is not None:
            return self._generator(source, path)
        if is_module(value):
            return self._module(value, path)
        if is_stateful(value):
            return self._object(value, path)
        if type(value) in DICTS or isinstance(value, (list, tuple)):
            return self._container(value, path)
        torch = torch_if_loaded()
        if torch is not None and (advice := torch.refusal(value)) is not None:
            raise ConfigError(f"{path}: {advice}")
        return None

    def _library(self, value: object) -> ArrayLibrary | None:
        kind = type(value)
        if kind not in self.libraries:
            self.libraries[kind] = library_of(value)
        return self.libraries[kind]

    def _array(self, library: ArrayLibrary, array: Any, path: str, *, live: bool = False) -> list[Node]:
        identity, traits = library.identity(array, path), library.traits(array)
        seen = (path, identity, traits, live)
        if self.follows:
            at = len(self.visits)
            if at < len(self.previous.visits):
                visit = self.previous.visits[at]
                if visit.seen == seen and visit.place.aliases:
                    self.visits.append(visit)
                    return visit.node
            self._part()
        place = self.places.get(identity)
        if place is None or identity is None:
            place = self._placed(library, array, identity, path)
            if live and not place.buffer.memory.flags.writeable:
                raise ConfigError(f"{path}: a read-only array cannot be restored in place; give a writable one")
            self.places[identity] = place
        visit = Visit(seen, _node(library, place, traits), place)
        self.visits.append(visit)
        return visit.node

    def _part(self) -> None:
        """Parts from the previous capture, with all that came of the visits until here."""
        self.follows = False
        for visit in self.visits:
            place = visit.place
            if place.number == len(self.buffers):  # else it is tied to one before
                self.buffers.append(place.buffer)
                self.names.add(place.buffer.spec.name)
                self.places[place.buffer.identity] = place

    def _placed(self, library: ArrayLibrary, array: Any, identity: Hashable, path: str) -> Place:
        name, number = self._unique(path), len(self.buffers)
        place = self.previous.places.get(identity)
        if place is not None and place.aliases and place.buffer.spec.name == name:
            place = place if place.number == number else place._replace(number=number)
        else:
            view = library.view(array)
            if not view.aliases:
                self.held.append(array)
            buffer = Buffer(BufferSpec(name, view.dtype, tuple(view.shape)), view.memory, identity)
            place = Place(number, buffer, view.layout, view.aliases and view.memory.size > 0)
        self.buffers.append(place.buffer)
        return place

    def _unique(self, path: str) -> str:
        name, copy = path, 1
        while name in self.names:  # the keys 0 and "0", or a key with a slash
            copy += 1
            name = f"{path}#{copy}"
        self.names.add(name)
        return name

    def _generator(self, source: Source, path: str) -> list[Node]:
        node: list[Node] = ["generator", source.kind]
        self.generators.append((node, source, path))
        return node

    def _module(self, module: Any, path: str) -> list[Node]:
        entries = module.state_dict()
        keys, values, at = list(entries), list(entries.values()), len(self.visits)
        if (node := self._again(type(module), keys, values, path)) is not None:
            return node
        names = canonical(entries)
        node = ["module", {name: self._entry(entries[key], f"{path}/{name}") for name, key in names.items()}]
        self._remember(at, type(module), keys, values, node, path)
        return node

    def _entry(self, value: object, path: str) -> Node:
        library = self._library(value)
        return self._array(library, value, path) if library else encode(value, path, self._foreign)

    def _object(self, value: Any, path: str) -> list[Node]:
        kind = type(value).__qualname__
        node = encode(value.state_dict(), path, self._foreign)
        if is_optimizer(value):
            self.optimizers[id(value)] = value
            found: list[Node] = ["optimizer", kind, node]
            self.parameters.append((found, value))
            return found
        own = own_source(value)
        return ["object", kind, node, self._generator(own, f"{path}/generator") if own else None]

    def _container(self, container: Any, path: str) -> list[Node] | None:
        values, at = list(container.values() if isinstance(container, dict) else container), len(self.visits)
        keys = list(container) if isinstance(container, dict) else []
        if (again := self._again(type(container), keys, values, path)) is not None:
            return again
        if id(container) in self.open or len(self.open) >= MAX_DEPTH:
            raise ConfigError(f"{path}: it contains itself, or is nested deeper than {MAX_DEPTH} levels")
        self.open.add(id(container))
        items = list(container.items() if isinstance(container, dict) else enumerate(container))
        children = [self._live(item, join(path, key)) for key, item in items]
        self.open.discard(id(container))
        if all(child is None for child in children):
            return None
        node: list[Node] = ["branch", type(container).__qualname__]
        for (key, item), child in zip(items, children, strict=True):
            if isinstance(container, dict):
                if isinstance(key, float) and math.isnan(key):  # nobody would find the entry again
                    refuse(path, f"a dict with the key {key!r}")
                is_plain = type(key) is str and key.isascii()  # most keys: they are themselves
                node.append(key if is_plain else encode(key, f"{path} (a key)", plain))
            node.append(child or self._beside(container, item, join(path, key)))
        self._remember(at, type(container), keys, values, node, path)
        return node

    def _again(self, kind: type, keys: list[object], values: list[Any], path: str) -> list[Node] | None:
        """Returns the node of a container that is as the previous capture came by it, with nothing between."""
        stretch = self.previous.stretches.get(path) if self.follows else None
        if stretch is None or stretch.at != len(self.visits) or not stretch.is_again(kind, keys, values):
            return None
        self.visits += self.previous.visits[stretch.at : stretch.at + len(values)]
        self.stretches[path] = stretch
        return stretch.node

    def _remember(
        self, at: int, kind: type, keys: list[object], values: list[Any], node: list[Node], path: str
    ) -> None:
        """Notes a container for the next capture, if it has nothing but arrays of one library."""
        libraries = {self._library(value) for value in values}
        library = libraries.pop() if len(libraries) == 1 else None
        if library is not None and all(visit.place.aliases for visit in self.visits[at:]):
            stretch = Stretch.of(at, kind, keys, values, library, node)
            if stretch is not None:
                self.stretches[path] = stretch

    def _beside(self, container: object, item: object, path: str) -> list[Node]:
        """Returns the node of a plain value in a container that also holds something live."""
        if isinstance(container, tuple) and item is not None:
            raise ConfigError(f"{path}: {named(item)} in a tuple cannot be restored in place; use a list or a dict")
        return ["value", encode(item, path, plain)]

    def _foreign(self, value: object, path: str) -> list[Node] | None:
        library = self._library(value)
        return self._array(library, value, path) if library else plain(value)


def _inline(value: object, path: str) -> list[Node] | None:
    """Returns the node of an array of a generator's state, bytes and all: it is small, and tied to nothing."""
    return inline_array(value, path) if isinstance(value, np.ndarray) else plain(value)


def _node(library: ArrayLibrary, place: Place, traits: list[Node]) -> list[Node]:
    if place.layout is None and not traits:
        return [library.tag, place.number]
    layout: Node = list(place.layout) if isinstance(place.layout, tuple) else place.layout
    return [library.tag, place.number, layout, *traits]
