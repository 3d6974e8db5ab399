"""Writing a generation: what it takes over from the last one, what it seals, and which older ones stay."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plinius import _core, state
from plinius.mirror.generation import Committed, Extents
from plinius.mirror.manifest import (
    FORMAT_VERSION,
    JOB_ID_BYTES,
    AnchoredHead,
    BufferRecord,
    Facts,
    Head,
    Manifest,
    PublicGeneration,
    WriteRecord,
    at,
    digest,
    encode,
    entry_name,
)
from plinius.mirror.tracking import NOTE, Item, Tracker, source_of
from plinius.pool import PoolFile, Reservation, naming
from plinius.seal import Key

if TYPE_CHECKING:
    from plinius.mirror.ciphertext import Ciphertext  # of whoever drains: the trusted process loads none of it


@dataclass(frozen=True)
class Plan:
    """All that a save writes, as it was when `save` was called.

    Attributes:
        step: The step.
        epoch: Which life of the job it is, from 1: each restore begins one.
        tree: The structure of the state.
        items: Its buffers.
        before: The generation that it follows; None when there is none, or it is given up.
        anchored: What the freshness anchor knows by now.
        last: The anchor is to follow at once.
    """

    step: int
    epoch: int
    tree: bytes
    items: list[Item]
    before: Committed | None
    anchored: AnchoredHead | None = None
    last: bool = False


class Saver:
    """Writes generations of one mirror.

    Args:
        pool: Where.
        key: The job's key.
        name: The mirror's name.
        keep: How many generations stay.
        facts: Sealed with each.
        threads: For sealing.
    """

    def __init__(self, pool: PoolFile, key: Key, name: str, keep: int, facts: Facts, threads: int) -> None:
        self._pool, self._key, self._name = pool, key, name
        self._keep, self._facts, self._threads = keep, facts, threads
        self.attempted: Committed | None = None
        """What was being committed when something interrupted the save."""
        self.still: AbstractContextManager[object] = nullcontext()
        """Begins no drain meanwhile."""
        self.pinned: Callable[[], Ciphertext | None] = lambda: None
        """What one is reading: its extents stay, whatever else is given up."""

    def write(self, plan: Plan, tracker: Tracker, sealed: Callable[[], None] = lambda: None) -> Committed:
        """Seals and commits a generation.

        Args:
            plan: What it holds.
            tracker: Learns what was seen.
            sealed: Called when nothing more is read of the state's memory.
        """
        before = plan.before
        job_id = before.head.job_id if before else secrets.token_bytes(JOB_ID_BYTES)
        known = before.newest[0] if before else plan.anchored.version if plan.anchored else 0
        version = known + 1  # also where the job starts anew: its anchor's versions only grow
        with naming(self._pool.path):
            writing = _core.Writing(self._pool.mapping, self._key.core, job_id, self._name, (version, plan.step))
            reserved = self._pool.reserve()
            try:
                committed, noted = self._commit(writing, reserved, plan, job_id, version, tracker.prints, sealed)
            except BaseException:
                reserved.abandon()
                raise
            finally:
                writing.abandon()
        tracker.learn(plan.items, noted)
        self.attempted = None
        return committed

    def _commit(
        self,
        writing: _core.Writing,
        reserved: Reservation,
        plan: Plan,
        job_id: bytes,
        version: int,
        prints: _core.Fingerprints,
        sealed: Callable[[], None],
    ) -> tuple[Committed, dict[str, bytes]]:
        before = plan.before
        written = WriteRecord(version, plan.step, writing.salt, writing.commitment)
        generation = _Generation(written, before)
        noted = generation.seal(writing, reserved, plan.items, prints, self._threads)
        sealed()
        older = self._kept(before)
        manifest = Manifest(
            format=FORMAT_VERSION,
            version=version,
            epoch=plan.epoch,
            step=plan.step,
            predecessor=before.newest[1] if before else b"",
            anchored=plan.anchored,
            kept=[known for _, known in older],
            facts=dict(self._facts),
            environment=state.environment(),
            writes=generation.writes,
            tree=plan.tree,
            buffers=generation.records,
        )
        plaintext = encode(manifest)
        (extent,) = reserved.more([len(plaintext)])
        place = generation.extents.add(writing.seal_manifest(plaintext, extent))
        entry = generation.extents  # those of older generations follow
        numbers = list(range(len(entry.items)))
        newest = PublicGeneration(written, plan.epoch, time.time_ns(), place, numbers)
        kept = [_renumbered(public, before, entry) for public, _ in older] if before else []
        head = Head(FORMAT_VERSION, job_id, bytes(self._key.core.id), self._key.cipher, [newest, *kept])
        meta, found = encode(head), digest(plaintext)
        self.attempted = committed = Committed(head, meta, manifest, found, entry.items, 0, (version, found))
        with self.still:
            drained = self.pinned()
            beside = set(drained.extents).difference(entry.items) if drained else ()
            reserved.commit(entry_name(self._name), meta, [*entry.items, *beside])
        return committed, noted

    def _kept(self, before: Committed | None) -> list[tuple[PublicGeneration, bytes]]:
        """The generations that stay beside the new one, newest first: the one that it follows, and older ones."""
        if before is None:
            return []
        known = [(before.head.generations[before.number], before.digest), *before.older()]
        return known[: self._keep - 1]


class _Generation:
    """A generation as it comes into being: records of buffers, and the write attempts and extents that they name."""

    def __init__(self, written: WriteRecord, before: Committed | None) -> None:
        self._writes = {written: 0}
        self.extents = Extents()
        self.records: list[BufferRecord] = []
        self._before = before

    @property
    def writes(self) -> list[WriteRecord]:
        """The write attempts that buffers come from, by their numbers."""
        return list(self._writes)

    def seal(
        self,
        writing: _core.Writing,
        reserved: Reservation,
        items: list[Item],
        prints: _core.Fingerprints,
        threads: int,
    ) -> dict[str, bytes]:
        """Seals what is new, takes over what is not, and returns the fingerprints that were noted, by name."""
        fresh = [(source_of(buffer), watch) for buffer, record, watch in items if record is None]
        lengths = [buffer.memory.nbytes for buffer, record, _ in items if record is None]
        into = reserved.more([length for length in lengths if length])
        done = iter(writing.seal(fresh, into, prints, threads))
        noted: dict[str, bytes] = {}
        for buffer, record, watch in items:
            if record is not None:
                self.records.append(self._taken_over(record))
                continue
            spec, (sealed, found) = buffer.spec, next(done)
            self.records.append(BufferRecord(spec.name, spec.dtype, spec.shape, 0, self.extents.add(sealed)))
            if watch == NOTE:
                noted[spec.name] = found
        return noted

    def _taken_over(self, record: BufferRecord) -> BufferRecord:
        before = self._before
        assert before is not None  # noqa: S101 (a record that is taken over is that one's)
        number = self._writes.setdefault(before.manifest.writes[record.write], len(self._writes))
        sealed = self.extents.add(before.sealed(record.sealed))
        return BufferRecord(record.name, record.dtype, record.shape, number, sealed)


def _renumbered(public: PublicGeneration, before: Committed, entry: Extents) -> PublicGeneration:
    """A generation whose extents are numbered anew, in the order of the new entry."""
    numbers = [entry.number(at(before.extents, number, "extent")) for number in public.extents]
    return PublicGeneration(public.written, public.epoch, public.saved_at_ns, public.manifest, numbers)
