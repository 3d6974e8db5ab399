"""Saves in the background: sealed while the next forward and backward pass run, which only read what is sealed."""

from __future__ import annotations

import operator
import os
import threading
from collections.abc import Callable, Collection, Hashable, Iterable
from typing import Any

from plinius import _core
from plinius.errors import PliniusError
from plinius.frameworks import torch_if_loaded
from plinius.mirror.moment import Moment
from plinius.mirror.tracking import Item, source_of
from plinius.state import Buffer, Snapshot, owned


class Flight:
    """One save in a thread of its own.

    Args:
        work: Does all of it, and calls what it is given as soon as nothing more is read of the state's memory.
    """

    def __init__(self, work: Callable[[Callable[[], None]], None]) -> None:
        self._sealed, self._ended = Moment(), Moment()
        self._error: BaseException | None = None
        self._work = work
        self._process = os.getpid()
        # "it": True says the thread that does it, False whoever gives it up; the first one decides, in a single call.
        self._begun: dict[str, bool] = {}
        self._is_off = False
        # A daemon: an interpreter that ends without close() does not wait for a save that nobody asked to wait for.
        self._thread = threading.Thread(target=self._run, name="plinius-save", daemon=True)

    def start(self) -> None:
        """Takes off. When something interrupts it, nobody knows whether there is a thread: then `give_up`."""
        self._thread.start()
        self._is_off = True

    def give_up(self) -> None:
        """Ends it where its thread has not begun: that one then does nothing, if it comes at all."""
        if not self._begun.setdefault("it", False):
            self._sealed.come()
            self._ended.come()

    def _run(self) -> None:
        if not self._begun.setdefault("it", True):
            return
        try:
            self._work(self._sealed.come)
        except BaseException as error:
            self._error = error
        finally:
            self._sealed.come()
            self._ended.come()

    @property
    def is_ours(self) -> bool:
        """Whether this process has it: a forked child has a copy of all memory, and not the thread."""
        return self._process == os.getpid()

    @property
    def has_ended(self) -> bool:
        """Whether it is over, well or not."""
        return self._ended.has_come

    def wait_until_sealed(self) -> None:
        """Waits until the state's memory may be written again."""
        if self._is_under_way():
            self._sealed.wait()

    def land(self) -> None:
        """Waits for its end; for nothing before it has taken off, as whoever starts it may be what this interrupts.

        Raises:
            PliniusError: What it failed of.
        """
        if not self._is_under_way():
            return
        self._ended.wait()
        error, self._error = self._error, None
        if isinstance(error, PliniusError):
            raise error
        if error is not None:
            raise PliniusError(f"a save in the background failed: {error!r}") from error

    def _is_under_way(self) -> bool:
        return self.is_ours and self._begun.get("it", self._is_off)


class Gate:
    """Holds each optimizer's next step up until its arrays are sealed.

    Args:
        optimizers: Those whose steps write the state.
    """

    def __init__(self, optimizers: Iterable[Any]) -> None:
        self._all = list(optimizers)
        self._flight: Flight | None = None
        self._copies: Any = None
        torch = torch_if_loaded()
        hooked = [(it, torch.before_step(it, self.wait)) for it in self._all] if torch else []
        # An optimizer that runs no hooks could write at any moment: its arrays are copied like all others.
        self._optimizers = [optimizer for optimizer, undo in hooked if undo is not None]
        self._undo = [undo for _, undo in hooked if undo is not None]

    def is_of(self, optimizers: Collection[Any]) -> bool:
        """Whether it holds up just these: the state may have others by now."""
        return len(self._all) == len(optimizers) and all(map(operator.is_, self._all, optimizers))

    def close(self) -> None:
        """Takes the hooks away."""
        for undo in self._undo:
            undo()
        self._undo = []

    def wait(self) -> None:
        """Waits for the save in flight, if there is one, to have sealed everything."""
        if self._flight is not None and self._flight.is_ours:
            self._flight.wait_until_sealed()
            self._copies.hold_step()

    def hold_for(self, flight: Flight, copies: Any) -> None:
        """Holds steps up for this save from now on, and for these copies of a GPU's tensors."""
        self._copies, self._flight = copies, flight

    def guarded(self, snapshot: Snapshot) -> set[Hashable]:
        """What identifies the arrays that nobody but a held step writes."""
        return owned(self._optimizers, snapshot)


def set_apart(
    items: list[Item], in_place: Collection[int], private: Collection[int], prints: _core.Fingerprints, threads: int
) -> list[Item]:
    """Makes a plan safe from what runs during the save: arrays are watched in their place, or copied.

    Args:
        items: The plan.
        in_place: Buffers (by ``id``) that nobody is to write before they are sealed. They get their fingerprints now,
            and the core compares them with what it seals: who writes all the same is found out.
        private: Buffers that are copies already.
        prints: Makes fingerprints.
        threads: For that.
    """
    sealed = [number for number, item in enumerate(items) if item.record is None]
    staying = [number for number in sealed if id(items[number].buffer) in in_place]
    found = prints.of([source_of(items[number].buffer) for number in staying], threads)
    apart = list(items)
    for number, now in zip(staying, found, strict=True):
        # No bytes have no fingerprints, and nothing to watch.
        apart[number] = Item(items[number].buffer, watch=now or None)
    for number in set(sealed).difference(staying):
        if id(items[number].buffer) not in private:
            apart[number] = _copied(items[number])
    return apart


def _copied(item: Item) -> Item:
    return Item(Buffer(item.buffer.spec, item.buffer.memory.copy()), watch=item.watch)
