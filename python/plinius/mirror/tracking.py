"""Which buffers need not be written again: those whose bytes are known to be what the last generation holds.

torch's version counters are no evidence: fused optimizers, ``.data`` and NumPy writes leave them alone. What counts is
a fingerprint under a key in private memory (`_core.Fingerprints`), or that the user has declared an array frozen,
which is looked over now and then.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from plinius import _core
from plinius.errors import ConfigError
from plinius.mirror.generation import Committed
from plinius.mirror.manifest import BufferRecord
from plinius.state import Buffer, Snapshot, capture, identities
from plinius.state.arrays import library_of
from plinius.state.containers import is_module
from plinius.state.tree import named

FROZEN_CHECK_SAVES: Final = 64
"""Frozen arrays are looked over each time that so many saves have relied on them."""
NOTE: Final = b""


MOST_SAVES_UNSEEN: Final = 64
"""A buffer that was changed each time is looked at the less often, but once in so many saves."""


@dataclass
class _Known:
    """What is known of a buffer.

    Attributes:
        prints: Its fingerprints when they were last taken.
        steady: They are those of the last generation, and the buffer is expected to be like that still.
        changes: How often in a row it was found changed, as far as that counts.
        due: At this save, counted by the tracker, it is looked at again.
        stale: It was sealed since the fingerprints were taken: the next ones say nothing of a change in a row.
    """

    prints: bytes
    steady: bool = True
    changes: int = 0
    due: int = 0
    stale: bool = False

    def seen(self, prints: bytes, saves: int) -> _Known:
        """What is known when these are the fingerprints of what was just sealed, by so many saves until now."""
        if prints == self.prints:
            return _Known(prints)
        if self.stale:
            return _Known(prints, steady=False, changes=self.changes)
        changes = min(self.changes + 1, MOST_SAVES_UNSEEN.bit_length() - 1)
        return _Known(prints, steady=False, changes=changes, due=saves + (1 << changes) - 1)

    def passed_over(self) -> _Known:
        """What is known when it was sealed and nobody looked."""
        if self.stale and not self.steady:
            return self
        return _Known(self.prints, steady=False, changes=self.changes, due=self.due, stale=True)


class Item(NamedTuple):
    """What a save does with a buffer.

    Attributes:
        buffer: The buffer.
        record: The record of the last generation, which holds the same bytes; None: it is sealed.
        watch: What the core does about its fingerprints as it is sealed: None is nothing, `NOTE` to note them, and else
            they must be these.
    """

    buffer: Buffer
    record: BufferRecord | None = None
    watch: bytes | None = None


@dataclass
class _Quiet:
    """A plan in which everything is sealed and nothing is looked at, and what makes it the same again.

    Attributes:
        buffers: Of the snapshot; a later capture that finds the same arrays has the very same list.
        owned: What the optimizers owned.
        until: The first save, counted by the tracker, at which something is looked at again.
        items: The plan.
        learned: A save of it was committed: to learn it once more would change nothing.
    """

    buffers: list[Buffer]
    owned: set[Hashable]
    until: int
    items: list[Item]
    learned: bool = False

    def holds(self, snapshot: Snapshot, owned: set[Hashable], saves: int) -> bool:
        """Whether a save would decide the same; this costs less than to decide."""
        return self.buffers is snapshot.buffers and saves < self.until and self.owned == owned


class Tracker:
    """Remembers the fingerprints of what was saved.

    Args:
        frozen: An array or a module that is declared not to change, or several of them.
        threads: For looking.

    Raises:
        ConfigError: It is neither.
    """

    def __init__(self, frozen: object, threads: int) -> None:
        self.prints = _core.Fingerprints()
        several = isinstance(frozen, Iterable) and library_of(frozen) is None and not is_module(frozen)
        self._declared: list[object] = list(frozen) if several else [frozen]  # type: ignore[call-overload]
        identities(self._declared)  # what cannot be frozen is refused at once
        self._frozen_before: set[Hashable] = set()
        self._threads = threads
        self._known: dict[str, _Known] = {}
        self._quiet: _Quiet | None = None
        self._relied = 0
        self._saves = 0

    def plan(self, snapshot: Snapshot, base: Committed | None, owned: set[Hashable]) -> list[Item]:
        """Decides for each buffer whether it is sealed anew.

        Raises:
            ConfigError: A frozen array has changed.
        """
        if self._quiet is not None and base is not None and self._quiet.holds(snapshot, owned, self._saves):
            return self._quiet.items
        items = self._decided(snapshot, base, owned)
        self._quiet = self._quiet_from(snapshot, owned, items)
        return items

    def _decided(self, snapshot: Snapshot, base: Committed | None, owned: set[Hashable]) -> list[Item]:
        frozen = self._frozen()
        if not self._saves:
            self._check_declared(snapshot)
        due = self._relied >= FROZEN_CHECK_SAVES
        items: list[Item] = []
        doubtful: list[int] = []
        for number, buffer in enumerate(snapshot.buffers):
            identity, name = buffer.identity, buffer.spec.name
            known, record = self._known.get(name), None
            is_frozen = bool(frozen) and identity in frozen
            if owned and identity in owned:  # the question alone costs time: it hashes all of an identity
                watch = None
            elif base is None or known is None:
                watch = NOTE
            elif not (known.steady or is_frozen):
                watch = None if self._saves < known.due else NOTE
            else:
                record = _of(buffer, base.records.get(name))
                watch = None if record else NOTE
                # A module may have got other arrays: those are looked at before they are relied on.
                if record and (due or not is_frozen or identity not in self._frozen_before):
                    doubtful.append(number)
            items.append(Item(buffer, record, watch))
        changed = self._changed([items[number] for number in doubtful])
        for number, has_changed in zip(doubtful, changed, strict=True):
            if has_changed:
                if items[number].buffer.identity in frozen:
                    raise _thawed(items[number])
                items[number] = Item(items[number].buffer, watch=NOTE)
        self._relied = 0 if due else self._relied + bool(frozen)
        self._frozen_before = frozen
        return items

    def _check_declared(self, snapshot: Snapshot) -> None:
        for declared in self._declared:
            # A module may have nothing that is saved.
            if library_of(declared) is not None and (identities(declared) - {None}).difference(snapshot.places):
                raise ConfigError(f"frozen: {named(declared)} is no part of the state; name what the mirror saves")

    def _quiet_from(self, snapshot: Snapshot, owned: set[Hashable], items: list[Item]) -> _Quiet | None:
        if any(item.record or item.watch is not None for item in items):
            return None
        dues = (self._known[item.buffer.spec.name].due for item in items if item.buffer.identity not in owned)
        return _Quiet(snapshot.buffers, owned, min(dues, default=sys.maxsize), items)

    def learn(self, items: list[Item], noted: dict[str, bytes]) -> None:
        """Takes over what a committed save has seen."""
        self._saves += 1
        if self._quiet is not None and items is self._quiet.items:
            if self._quiet.learned:
                return
            self._quiet.learned = True
        known = {}
        for buffer, record, _ in items:
            name = buffer.spec.name
            before = self._known.get(name)
            if name in noted:
                known[name] = before.seen(noted[name], self._saves) if before else _Known(noted[name])
            elif before is not None:
                known[name] = before if record else before.passed_over()
        self._known = known

    def forget(self) -> None:
        """Forgets everything, and lets go of the arrays."""
        self._known, self._quiet = {}, None

    def check_frozen(self, live: Mapping[str, object]) -> None:
        """Looks all frozen arrays of a state over.

        Raises:
            ConfigError: One has changed.
        """
        frozen = self._frozen()
        if not frozen:
            return
        buffers = [place.buffer for identity, place in capture(live).places.items() if identity in frozen]
        items = [Item(buffer) for buffer in buffers if buffer.spec.name in self._known]
        for item, has_changed in zip(items, self._changed(items), strict=True):
            if has_changed:
                raise _thawed(item)

    def _frozen(self) -> set[Hashable]:
        """Where the frozen arrays lie now: a module may have got others, and their places may be somebody else's."""
        return identities(self._declared) - {None}

    def _changed(self, items: list[Item]) -> list[bool]:
        if not items:
            return []
        found = self.prints.of([source_of(item.buffer) for item in items], self._threads)
        return [self._known[it.buffer.spec.name].prints != now for it, now in zip(items, found, strict=True)]


def _thawed(item: Item) -> ConfigError:
    return ConfigError(
        f"{item.buffer.spec.name}: it was declared frozen and has changed since; generations saved after that "
        "hold its old value: make a new Mirror without it in frozen=, restore() and train on from there"
    )


def _of(buffer: Buffer, record: BufferRecord | None) -> BufferRecord | None:
    """The record, if it is of such a buffer and of one with bytes."""
    spec = buffer.spec
    if record is None or (record.dtype, record.shape) != (spec.dtype, spec.shape) or record.sealed.extent is None:
        return None
    return record


def source_of(buffer: Buffer) -> _core.Source:
    """A buffer as the core knows it, made once for as long as the buffer is the same."""
    if buffer.handle is None:
        spec = buffer.spec
        buffer.handle = _core.Source(spec.name, spec.dtype, spec.shape, buffer.memory)
    return buffer.handle  # type: ignore[no-any-return]
