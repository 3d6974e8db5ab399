"""The mirror: the whole training state, sealed into the pool after a step, and put back bit for bit."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Hashable
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from plinius import state
from plinius.errors import ConfigError, PliniusError, PoolError
from plinius.mirror.anchoring import Anchor, Freshness, check_anchor
from plinius.mirror.checking import ExactnessWarning, RollbackWarning, check_options, checked_facts, checked_step
from plinius.mirror.generation import Committed, is_newest, kept, opened, reading
from plinius.mirror.manifest import Facts, Manifest
from plinius.mirror.overlap import Flight, Gate, set_apart
from plinius.mirror.saving import Plan, Saver
from plinius.mirror.tracking import Tracker
from plinius.mirror.turns import Turns, in_turn
from plinius.pool import PoolFile, naming
from plinius.seal import Key
from plinius.state import NoCopies, Snapshot

if TYPE_CHECKING:
    from plinius.mirror.drainer import Drainer


class Mirror:
    """Mirrors the state of one training job into a pool.

    Args:
        pool: Where the mirror lies.
        key: The job's key.
        name: Tells mirrors in one pool apart.
        every: ``save`` writes when the step is a multiple of this.
        keep: How many generations the pool keeps; `restore` can be asked for any of them.
        frozen: A module or an array of the state that does not change, or several: they are sealed once and then only
            looked over, every 64 saves and at `close`. One that has changed all the same is an error there.
        drain_to: A folder, or a URL that fsspec knows, to which the newest generation is copied in the background as it
            is, for machines whose pool dies with them. `plinius.mirror.fetch` fills an empty pool from there.
        drain_every: It is offered for that when the step is a multiple of this.
        anchor: What knows outside the pool how new its newest generation is: an older pool is then refused. With
            `drain_to`, a generation is drained before the anchor follows to it.
        facts: What the job was started with: plain values, sealed with each generation, for `read_facts` to give back
            to whoever starts the job again.
        **state: Everything that training continues from, each part under its own name: objects with ``state_dict`` and
            ``load_state_dict`` (models, optimizers, schedulers, scalers, loaders), lists and dicts of them, trees of
            arrays, and generator objects. The global generators of Python, NumPy and torch need not be named.

    Raises:
        ConfigError: An option or the name is out of range.
    """

    def __init__(
        self,
        pool: PoolFile,
        key: Key,
        *,
        name: str,
        every: int = 1,
        keep: int = 1,
        frozen: object = (),
        drain_to: str | os.PathLike[str] | None = None,
        drain_every: int = 1,
        anchor: Anchor | None = None,
        facts: Facts | None = None,
        **state: object,
    ) -> None:
        check_options(pool, key, name, {"every": every, "keep": keep, "drain_every": drain_every}, state)
        check_anchor(anchor)
        self.name = name
        self.every = every
        self._pool, self._key, self._turns = pool, key, Turns()
        self._state = state
        self._threads = len(os.sched_getaffinity(0))
        self._saver = Saver(pool, key, name, keep, checked_facts(facts), self._threads)
        self._drain_every = drain_every
        self._drainer = drainer = None if drain_to is None else _drainer(pool, name, drain_to)
        if drainer is not None:
            self._saver.still, self._saver.pinned = drainer.still, lambda: drainer.pinned
        self._tracker = Tracker(frozen, self._threads)
        self._freshness = Freshness(anchor)
        self._committed: Committed | None = None
        self._latest: int | None = None
        self._flight: Flight | None = None
        self._gate: Gate | None = None
        self._restored_facts: Facts | None = None
        self._copies: Any = NoCopies()
        self._snapshot: Snapshot | None = None  # of the last save: it makes the next one faster
        self._epoch = 1
        self._torn = False

    @in_turn
    def restore(self, step: int | None = None) -> int | None:
        """Puts the newest generation into the state (mirror in).

        Every name, dtype and shape is checked before anything is changed. What an optimizer's parameters had of
        `requires_grad` is put back too, with a warning where the program has set it otherwise. Every chunk is verified
        as it is opened into its tensor, which nobody may use meanwhile. When one fails, all arrays of the state are
        zeroed and `save` is refused.

        Args:
            step: Go back to the kept generation of this step. The next save gives the later ones up.

        Returns:
            The step after which the state was saved, or None when the pool holds no mirror of this name.

        Raises:
            IntegrityError: Bytes were changed, or this is not their key.
            RollbackError: The pool is older than its anchor knows, or another copy of the job has gone on.
            ConfigError: The state has other names, dtypes or shapes; or no generation of that step is kept.
            PoolError: The pool cannot be read.
        """
        self._check_open()
        self._land()
        self._saver.attempted = None
        found = self._fresh(step, self._freshness)
        if found is None:
            return None
        self._warn(found.manifest)
        self._epoch = self._freshness.next_epoch(found)
        # Before anything is changed: from here on no other copy of the job is believed.
        self._freshness.begin_life(found, self._epoch)
        self._open(found)
        self._committed, self._latest, self._torn = found, found.manifest.step, False
        self._restored_facts = found.manifest.facts
        return found.manifest.step

    def _fresh(self, step: int | None, freshness: Freshness) -> Committed | None:
        """The generation to restore, of a pool that the anchor does not know to be older than it was."""
        with naming(self._pool.path):
            found = opened(self._pool, self._key, self.name)
            gone_back_to = freshness.judge(found)
            wanted = gone_back_to if step is None else step
            if wanted is None or found is None:
                return found
            return kept(self._pool, self._key, self.name, found, wanted)

    @property
    def restored_facts(self) -> Facts | None:
        """The facts of the very generation that `restore` put back; None when it put back nothing.

        `read_facts` reads the pool at another moment, and between the two an attacker may change it: whoever decided
        something by those facts holds them against these.
        """
        return self._restored_facts

    @in_turn
    def save(self, step: int, *, force: bool = False, overwrite: bool = False, wait: bool = True) -> bool:
        """Seals the state into the pool (mirror out); it is durable when this returns.

        Call it after ``optimizer.step()``: gradients are not state.

        Args:
            step: How many optimizer steps the state has behind it; above that of the last save.
            force: Save even if the step is no multiple of `every`: for the last step and a clean stop.
            overwrite: Start anew: what the pool holds of this name is given up.
            wait: False: return at once, and go on in the background. What the optimizers of the state own is sealed in
                its place while the next forward and backward pass run, and their next step waits for that; all else is
                copied first. One such save is in flight at a time. If it fails, or somebody writes what it seals,
                the next call of this mirror raises that; `latest_step` names what is durable.

        Returns:
            Whether anything is written.

        Raises:
            PoolError: The pool holds a mirror that was not restored here, or is in use, or failed; or a restore failed
                midway and left no state to save.
            PoolFull: There is no room for one more generation; the last one is untouched.
            ConfigError: The step is not above the latest, or a part of the state cannot be mirrored, or was written
                while it was being saved.
        """
        step = checked_step(step)
        self._land()
        if (interrupted := self._interrupted_at(step)) is not None and not overwrite:
            self._anchor(interrupted, now=force)
            return True
        self._refuse_lost_work(step, overwrite)
        if step % self.every and not force and not overwrite:
            return False
        if overwrite:
            self._epoch = self._freshness.start_anew(self._epoch)
        elif self._committed is not None and self._freshness.is_late(self._committed):
            self._anchor(self._committed, now=True)
        before = None if overwrite else self._committed
        self._check_free()  # a forked child, above all: it may have inherited locks that nobody gives back
        snapshot, owned = self._capture(wait)
        items = self._tracker.plan(snapshot, before, owned)
        head, last = self._freshness.head, force or overwrite
        plan = Plan(step, self._epoch, snapshot.tree, items, before, head, last)
        if wait:
            self._copies.wait()
            self._write(plan)
        else:
            self._take_off(plan, snapshot)
        return True

    def wait(self) -> None:
        """Waits until the save in flight, if there is one, is durable, and what was offered is drained.

        A signal handler may call it at any time. One that comes into the midst of a save of its own thread does not
        wait for that one, which it holds up itself, nor for drains, which may wait for it: the interpreter's end does.

        Raises:
            PliniusError: It failed, and nothing of it is in the pool; or a drain failed.
        """
        self._land()
        if self._drainer is not None and not self._turns.is_in_midst():
            self._drainer.wait()

    def _land(self) -> None:
        flight = self._flight  # a signal handler may wait too, and be done with it first
        if flight is None:
            return
        if flight.is_ours:
            self._check_free()
        try:
            flight.land()
        finally:
            if flight.has_ended and self._flight is flight:  # else something interrupted the waiting
                self._flight = None

    def _check_free(self) -> None:
        with naming(self._pool.path):
            self._pool.check_free()

    def latest_step(self) -> int | None:
        """The step of the newest durable generation, verified; None when there is none."""
        if self._committed is None:
            try:
                found = self._fresh(None, self._freshness.looking())
            except PliniusError:
                if self._committed is None:
                    raise
                # A save came while this looked, and what it saw of the pool is older than what the anchor knows.
            else:
                return found.manifest.step if found else None
        return self._latest

    @in_turn
    def close(self) -> None:
        """Waits as `wait` does, looks frozen arrays over, and lets go of the state; the pool stays open.

        Raises:
            PliniusError: The save in flight or a drain failed.
            ConfigError: A frozen array has changed.
        """
        try:
            self._land()
            if self._state and self._committed is not None and not self._torn:
                self._tracker.check_frozen(self._state)
        finally:
            if self._gate is not None:
                self._gate.close()
            self._state, self._snapshot, self._gate = {}, None, None
            self._tracker.forget()
            # When something interrupted the waiting, the save goes on, and the next call waits for it still.
            if self._drainer is not None and self._flight is None:
                self._drainer.close()

    def __enter__(self) -> Mirror:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if not self._state:
            raise PliniusError(f"the mirror {self.name!r} is closed")

    def _refuse_lost_work(self, step: int, overwrite: bool) -> None:
        self._check_open()
        if self._torn:
            raise PoolError(
                "the last restore failed midway and the state was zeroed; restore successfully first, or make a new "
                "Mirror of fresh state"
            )
        if overwrite:
            return
        self._freshness.check_begun(self._committed)
        if not is_newest(self._pool, self.name, self._committed):
            raise PoolError(
                f"{self._pool.path}: the pool holds a mirror {self.name!r} that was not restored here; call restore() "
                "first, or save(step, overwrite=True) to give it up"
            )
        latest = self._committed.manifest.step if self._committed else -1
        if step <= latest:
            raise ConfigError(f"step {step} is not above the latest saved step {latest}; steps only go forward")

    def _interrupted_at(self, step: int) -> Committed | None:
        """What the save of this very step committed, if it was interrupted then (Ctrl-C), before it was known here."""
        attempted, self._saver.attempted = self._saver.attempted, None
        if attempted is None or not is_newest(self._pool, self.name, attempted):
            return None
        self._committed = attempted
        self._tracker.forget()  # it has not learned what that one holds
        return attempted if attempted.manifest.step == step else None

    def _capture(self, wait: bool) -> tuple[Snapshot, set[Hashable]]:
        """The state as it is now, and what optimizers own of it, which may be on its way from a GPU still."""
        if isinstance(self._copies, NoCopies):
            self._copies = state.device_copies()
        with self._copies.collecting():
            self._snapshot = snapshot = state.capture(self._state, self._snapshot)
        owned = state.owned(snapshot.optimizers, snapshot)
        if self._gate is not None and not self._gate.is_of(snapshot.optimizers):
            self._gate.close()
            self._gate = None
        if not wait and self._gate is None:
            self._gate = Gate(snapshot.optimizers)
        # What no held step guards is copied before anything else happens on the GPU.
        self._copies.start(owned if wait or self._gate is None else self._gate.guarded(snapshot))
        self._copies.wait_for_others()
        return snapshot, owned

    def _write(self, plan: Plan, sealed: Callable[[], None] = lambda: None) -> None:
        self._committed = self._saver.write(plan, self._tracker, sealed)
        self._anchor(self._committed, now=plan.last)

    def _anchor(self, committed: Committed, *, now: bool) -> None:
        """Drains and anchors what was committed, as far as that is due; then it counts as saved."""
        step, version = committed.manifest.step, committed.manifest.version
        due = self._freshness.is_due(version, now=now)
        if self._drainer is not None and (due or step % self._drain_every == 0):
            self._drainer.offer()
            if due:
                self._drainer.wait()  # so that what the anchor knows outlives this machine
        if due:
            self._freshness.follow(committed)
        self._latest = step

    def _take_off(self, plan: Plan, snapshot: Snapshot) -> None:
        """Goes on in the background, with arrays that nobody writes before they are sealed."""
        assert self._gate is not None  # noqa: S101 (the capture has made it)
        guarded = self._gate.guarded(snapshot)
        places = snapshot.places.items()
        in_place = {id(place.buffer) for identity, place in places if identity in guarded and place.aliases}
        private = {id(place.buffer) for _, place in places if not place.aliases}
        items = set_apart(plan.items, in_place, private, self._tracker.prints, self._threads)
        plan = replace(plan, items=items)
        copies = self._copies

        def work(sealed: Callable[[], None]) -> None:
            if not in_place:
                sealed()
            copies.wait()
            self._write(plan, sealed)

        flight = Flight(work)
        try:
            self._flight = flight  # known before it starts: whatever interrupts this, the next call waits for it
            self._gate.hold_for(flight, copies)
            flight.start()
        except BaseException:
            flight.give_up()
            raise

    def _open(self, found: Committed) -> None:
        restoration = state.plan_restore(self._state, found.manifest.tree, found.manifest.buffers)
        self._tracker.forget()
        self._torn = True  # until all of it is in
        try:
            for index, write in enumerate(found.manifest.writes):
                targets = [
                    (b.name, b.dtype, b.shape, found.sealed(b.sealed), target)
                    for b, target in zip(found.manifest.buffers, restoration.targets, strict=True)
                    if b.write == index
                ]
                with naming(self._pool.path):
                    reading(self._pool, self._key, found.head, self.name, write).open(targets, self._threads)
            restoration.apply()
            for note in restoration.notes:
                warnings.warn(note, stacklevel=4)
        except BaseException:
            restoration.wipe()
            raise

    def _warn(self, manifest: Manifest) -> None:
        for difference in state.differences(manifest.environment, state.environment()):
            warnings.warn(f"not exact: {difference}", ExactnessWarning, stacklevel=4)
        if (message := self._freshness.warning()) is not None:
            warnings.warn(message, RollbackWarning, stacklevel=4)


def _drainer(pool: PoolFile, name: str, url: str | os.PathLike[str]) -> Drainer:
    # The trusted process, which drains nothing, loads none of it.
    from plinius.mirror.drainer import Drainer  # noqa: PLC0415
    from plinius.pool import OpenPool  # noqa: PLC0415

    if not isinstance(pool, OpenPool):
        raise TypeError("only a pool that this process has open is drained")
    return Drainer(pool, name, url)
