"""The mirror: the whole training state, sealed into the pool after a step, and put back bit for bit."""

from __future__ import annotations

import operator
import os
import secrets
import time
import warnings
from collections.abc import Mapping
from types import TracebackType
from typing import Final, TypeAlias

from plinius import _core, state
from plinius.errors import ConfigError, PliniusError, PoolError
from plinius.mirror.generation import JOB_ID_BYTES, Committed, Extents, entry_name, newest, public_head, reading
from plinius.mirror.manifest import (
    FORMAT_VERSION,
    BufferRecord,
    Head,
    Manifest,
    PublicGeneration,
    WriteRecord,
    digest,
    encode,
)
from plinius.pool import Pool, naming
from plinius.seal import Key
from plinius.state import Snapshot

Facts: TypeAlias = Mapping[str, str | int | float | None]

_MAX_NAME_BYTES: Final = 200
_MAX_STEP: Final = 1 << 63


class ExactnessWarning(UserWarning):
    """Training goes on, but not to the very same bits: something differs from the run that saved the state."""


class RollbackWarning(UserWarning):
    """Nothing outside the pool knows how new its newest state is, so an older pool would be accepted."""


class Mirror:
    """Mirrors the state of one training job into a pool.

    Args:
        pool: Where the mirror lies.
        key: The job's key.
        name: Tells mirrors in one pool apart.
        every: ``save`` writes when the step is a multiple of this.
        keep: How many generations the pool keeps; this release keeps one.
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
        pool: Pool,
        key: Key,
        *,
        name: str,
        every: int = 1,
        keep: int = 1,
        facts: Facts | None = None,
        **state: object,
    ) -> None:
        if not isinstance(pool, Pool) or not isinstance(key, Key):
            raise TypeError("a mirror needs an open pool and a key: Mirror(Pool(path), Key.load(path), ...)")
        if every < 1:
            raise ConfigError(f"every={every}: mirror every step (1) or every few steps (2, 3, ...)")
        if keep != 1:
            raise ConfigError(f"keep={keep}: this release keeps one generation")
        if not name.isprintable() or not 0 < len(name.encode()) <= _MAX_NAME_BYTES:
            raise ConfigError(f"a mirror's name is printable text of 1 to {_MAX_NAME_BYTES} bytes, not {name!r}")
        if not state:
            raise ConfigError("a mirror needs state: give it model=, optimizer=, ...")
        self.name = name
        self.every = every
        self._pool, self._key = pool, key
        self._facts = dict(facts or {})
        self._state = state
        self._committed: Committed | None = None
        self._attempted: Committed | None = None  # was being committed when something interrupted the save
        self._restored_facts: Facts | None = None
        self._snapshot: Snapshot | None = None  # of the last save: it makes the next one faster
        self._epoch = 1
        self._torn = False
        self._threads = len(os.sched_getaffinity(0))

    def restore(self) -> int | None:
        """Puts the newest generation into the state (mirror in).

        Every name, dtype and shape is checked before anything is changed, and every chunk is verified before it
        reaches a tensor. When it fails midway, the arrays of the state are zeroed and `save` is refused.

        Returns:
            The step after which the state was saved, or None when the pool holds no mirror of this name.

        Raises:
            IntegrityError: Bytes were changed, or this is not their key.
            ConfigError: The state has other names, dtypes or shapes.
            PoolError: The pool cannot be read.
        """
        with naming(self._pool.path):
            found = newest(self._pool, self._key, self.name)
        if found is None:
            return None
        self._warn(found.manifest)
        self._open(found)
        self._committed, self._torn = found, False
        self._restored_facts = found.manifest.facts
        self._epoch = found.manifest.epoch + 1
        return found.manifest.step

    @property
    def restored_facts(self) -> Facts | None:
        """The facts of the very generation that `restore` put back; None when it put back nothing.

        `read_facts` reads the pool at another moment, and between the two an attacker may change it: whoever decided
        something by those facts holds them against these.
        """
        return self._restored_facts

    def save(self, step: int, *, force: bool = False, overwrite: bool = False) -> bool:
        """Seals the state into the pool (mirror out); it is durable when this returns.

        Call it after ``optimizer.step()``: gradients are not state.

        Args:
            step: How many optimizer steps the state has behind it; above that of the last save.
            force: Save even if the step is no multiple of `every`: for the last step and a clean stop.
            overwrite: Start anew: what the pool holds of this name is given up.

        Returns:
            Whether anything was written.

        Raises:
            PoolError: The pool holds a mirror that was not restored here, or is in use, or failed; or a restore failed
                midway and left no state to save.
            PoolFull: There is no room for one more generation; the last one is untouched.
            ConfigError: The step is not above the latest, or a part of the state cannot be mirrored.
        """
        step = self._checked(step)
        if self._was_interrupted_at(step):
            return True
        self._refuse_lost_work(step, overwrite)
        if step % self.every and not force and not overwrite:
            return False
        before = None if overwrite else self._committed
        with naming(self._pool.path):
            self._committed = self._write(step, before)
        self._attempted = None
        return True

    def latest_step(self) -> int | None:
        """The step of the newest durable generation, verified; None when there is none."""
        if self._committed is None:
            with naming(self._pool.path):
                found = newest(self._pool, self._key, self.name)
            return found.manifest.step if found else None
        return self._committed.manifest.step

    def close(self) -> None:
        """Lets go of the state. What was saved is durable already; the pool stays open."""
        self._state, self._snapshot = {}, None

    def __enter__(self) -> Mirror:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _checked(self, step: int) -> int:
        try:
            number = operator.index(step)
        except TypeError:
            raise ConfigError(f"a step is a whole number, not {step!r}") from None
        if not 0 <= number < _MAX_STEP:
            raise ConfigError(f"step {number} is not between 0 and 2^63")
        return number

    def _refuse_lost_work(self, step: int, overwrite: bool) -> None:
        if not self._state:
            raise PliniusError(f"the mirror {self.name!r} is closed")
        if self._torn:
            raise PoolError(
                "the last restore failed midway and the state was zeroed; restore successfully first, or make a new "
                "Mirror of fresh state"
            )
        if overwrite:
            return
        if public_head(self._pool, self.name) != (self._committed.head if self._committed else None):
            raise PoolError(
                f"{self._pool.path}: the pool holds a mirror {self.name!r} that was not restored here; call restore() "
                "first, or save(step, overwrite=True) to give it up"
            )
        latest = self._committed.manifest.step if self._committed else -1
        if step <= latest:
            raise ConfigError(f"step {step} is not above the latest saved step {latest}; steps only go forward")

    def _was_interrupted_at(self, step: int) -> bool:
        """Whether the save of this very step was committed and then interrupted (Ctrl-C) before it was known here."""
        attempted, self._attempted = self._attempted, None
        if attempted is None or public_head(self._pool, self.name) != attempted.head:
            return False
        self._committed = attempted
        return attempted.manifest.step == step

    def _write(self, step: int, before: Committed | None) -> Committed:
        self._snapshot = snapshot = state.capture(self._state, self._snapshot)
        job_id = before.head.job_id if before else secrets.token_bytes(JOB_ID_BYTES)
        version = before.manifest.version + 1 if before else 1
        writing = _core.Writing(self._pool.core, self._key.core, job_id, self.name, (version, step))
        try:
            return self._seal(writing, snapshot, job_id, version, step, before.digest if before else b"")
        except BaseException:
            writing.abandon()
            raise

    def _seal(
        self,
        writing: _core.Writing,
        snapshot: Snapshot,
        job_id: bytes,
        version: int,
        step: int,
        predecessor: bytes,
    ) -> Committed:
        sealed = writing.seal(
            [(b.spec.name, b.spec.dtype, b.spec.shape, b.memory) for b in snapshot.buffers], self._threads
        )
        written = WriteRecord(version, step, writing.salt, writing.commitment)
        extents = Extents()
        records = [
            BufferRecord(b.spec.name, b.spec.dtype, b.spec.shape, 0, extents.add(one))
            for b, one in zip(snapshot.buffers, sealed, strict=True)
        ]
        manifest = Manifest(
            format=FORMAT_VERSION,
            version=version,
            epoch=self._epoch,
            step=step,
            predecessor=predecessor,
            anchored=None,
            kept=[],
            facts=self._facts,
            environment=state.environment(),
            writes=[written],
            tree=snapshot.tree,
            buffers=records,
        )
        plaintext = encode(manifest)
        place = extents.add(writing.seal_manifest(plaintext))
        generation = PublicGeneration(written, self._epoch, time.time_ns(), place, list(range(len(extents.items))))
        head = Head(FORMAT_VERSION, job_id, bytes(self._key.core.id), self._key.cipher, [generation])
        self._attempted = committed = Committed(head, manifest, digest(plaintext), extents.items)
        writing.commit(entry_name(self.name), encode(head), extents.items)
        return committed

    def _open(self, found: Committed) -> None:
        specs = [state.BufferSpec(b.name, b.dtype, b.shape) for b in found.manifest.buffers]
        restoration = state.plan_restore(self._state, found.manifest.tree, specs)
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
        except BaseException:
            restoration.wipe()
            self._torn = True
            raise

    def _warn(self, manifest: Manifest) -> None:
        for difference in state.differences(manifest.environment, state.environment()):
            warnings.warn(f"not exact: {difference}", ExactnessWarning, stacklevel=3)
        message = "rollback is not detected: nothing outside the pool knows its newest state (no freshness anchor)"
        warnings.warn(message, RollbackWarning, stacklevel=3)
