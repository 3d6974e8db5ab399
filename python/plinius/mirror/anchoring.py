"""Freshness: an anchor outside the pool knows its newest generation, so that an older pool is not believed.

A generation is committed in the pool first, and the anchor is then moved from its head to it by compare-and-swap. Each
sealed manifest names the head that the anchor had when it was written, so a crash between the two leaves a generation
that names the very head that the anchor still has. ``docs/design.md`` argues each case.
"""

from __future__ import annotations

from typing import Protocol

from plinius.errors import ConfigError, RollbackError
from plinius.mirror.generation import Committed
from plinius.mirror.manifest import AnchoredHead


class Anchor(Protocol):
    """Remembers one head for one job, where whoever owns the pool cannot put it back."""

    @property
    def every(self) -> int:
        """The anchor follows every so many generations: a rollback by fewer is not seen."""

    def head(self) -> AnchoredHead | None:
        """What it remembers; None when it was never advanced."""

    def advance(self, expected: AnchoredHead | None, new: AnchoredHead, *, going_back: bool = False) -> None:
        """Remembers `new` in the place of `expected`; to repeat that succeeds.

        Args:
            expected: What it must remember at this moment.
            new: What it remembers from then on.
            going_back: The owner is asked whether an older state may be gone on from.

        Raises:
            RollbackError: It remembers something else: another copy of the job was here.
            PolicyError: The owner does not let this job go back.
        """


class Freshness:
    """One mirror's view of its anchor.

    Args:
        anchor: None: nobody outside the pool knows how new it is.
    """

    def __init__(self, anchor: Anchor | None) -> None:
        self._anchor = anchor
        self._head: AnchoredHead | None = None
        self._is_unsure = False  # something interrupted the anchor: it may have moved, or not

    def looking(self) -> Freshness:
        """The same anchor, for whoever only looks: what it answers then may be old by now, and is not gone on from."""
        return Freshness(self._anchor)

    @property
    def head(self) -> AnchoredHead | None:
        """What the anchor last confirmed; the next manifest names it."""
        return self._head

    def warning(self) -> str | None:
        """What a user must know of how far a rollback is detected; None: each is."""
        if self._anchor is None:
            return "rollback is not detected: nothing outside the pool knows its newest state (no freshness anchor)"
        if self._anchor.every == 1:
            return None
        return f"a rollback by fewer than {self._anchor.every} generations is not detected (anchor_every)"

    def ask(self) -> AnchoredHead | None:
        """Asks the anchor for its head."""
        if self._anchor is not None:
            self._head = self._anchor.head()
        return self._head

    def judge(self, found: Committed | None) -> bytes | None:
        """Holds the newest generation of a pool against the head.

        Returns:
            The digest of an older one that is to be taken in its place: the job has gone back to that one before. Its
            step, which only the public head tells here, would not do.

        Raises:
            RollbackError: It is older than the head, of another copy of the job, or missing.
        """
        head = self.ask()
        if self._anchor is None:
            return None
        if head is None:
            if found is not None and found.manifest.anchored is not None:
                raise RollbackError("the anchor knows nothing of this job, but the pool was anchored before")
            return None
        if found is None:
            raise RollbackError(
                f"the pool holds nothing of this job, whose anchor is at version {head.version}: give that pool"
            )
        ahead = found.manifest.version - head.version
        if found.digest == head.digest or (found.manifest.anchored == head and 0 < ahead <= self._anchor.every):
            return None
        if any(known == head.digest for _, known in found.older()):
            return head.digest
        raise RollbackError(
            f"version {found.manifest.version} of the pool is not what the anchor knows, version "
            f"{head.version} of epoch {head.epoch}: the pool was put back, or another copy of the job has gone on; "
            "give the newest pool"
        )

    def begin_life(self, found: Committed, epoch: int) -> None:
        """Moves the anchor to a new epoch before training goes on: no other copy can advance it from now on.

        The head's version is that of the newest generation also where an older one is gone on from: versions only grow.

        Raises:
            RollbackError: Another copy of the job has moved it.
            PolicyError: The job is to go back, and its owner does not want that.
        """
        going_back = found.number > 0 and self._head is not None and found.digest != self._head.digest
        self._advance(AnchoredHead(found.newest[0], found.digest, epoch), going_back=going_back)

    def next_epoch(self, found: Committed) -> int:
        """The epoch of a life that begins with this generation: above all that anybody has seen."""
        epoch = found.head.generations[0].epoch  # the newest one's: a life that went back is a new one too
        return max(epoch, self._head.epoch if self._head else 0) + 1

    def check_begun(self, known: Committed | None) -> None:
        """Refuses to write over a job that the anchor knows, where nothing of it was restored or saved here.

        Args:
            known: What was.

        Raises:
            RollbackError: It does know one.
        """
        if known is None and self.ask() is not None:
            raise RollbackError(
                "the anchor knows this job already: call restore() before the first save, or another copy was here"
            )

    def start_anew(self, epoch: int) -> int:
        """Asks the anchor whether what it knows may be given up, before it is: then no other copy goes on with it.

        Args:
            epoch: Of this life.

        Returns:
            The epoch of what is written from now on.

        Raises:
            RollbackError: Another copy of the job has moved it.
            PolicyError: The owner does not want that.
        """
        head = self._head or self.ask()
        if head is None:
            return epoch
        self._advance(AnchoredHead(head.version, head.digest, head.epoch + 1), going_back=True)
        return head.epoch + 1

    def is_late(self, committed: Committed) -> bool:
        """Whether the anchor should have followed to this newest generation, and something may have kept it from that.

        Another generation may not be written before it has: what is further ahead than `every` is not believed.
        """
        if self._anchor is None:
            return False
        return self._is_unsure or self._head is None or committed.newest[0] - self._head.version >= self._anchor.every

    def is_due(self, version: int, *, now: bool) -> bool:
        """Whether the anchor is to follow to a generation of this version.

        Args:
            version: Of a generation that was just committed.
            now: It is, however few there were since the last time: the last step, a clean stop.
        """
        if self._anchor is None:
            return False
        return now or self._head is None or not 0 < version - self._head.version < self._anchor.every

    def follow(self, committed: Committed) -> None:
        """Moves the anchor to a committed generation.

        Raises:
            RollbackError: Another copy of the job has moved it.
        """
        manifest = committed.manifest
        self._advance(AnchoredHead(manifest.version, committed.digest, manifest.epoch), going_back=False)

    def _advance(self, new: AnchoredHead, *, going_back: bool) -> None:
        if self._anchor is not None and (self._is_unsure or new != self._head):
            self._is_unsure = True
            self._anchor.advance(self._head, new, going_back=going_back)
            self._head, self._is_unsure = new, False


def check_anchor(anchor: Anchor | None) -> None:
    """Checks the anchor that a mirror is given.

    Raises:
        ConfigError: It is none, or follows never.
    """
    if anchor is None:
        return
    if not all(hasattr(anchor, name) for name in ("every", "head", "advance")):
        raise ConfigError(f"anchor={anchor!r}: an anchor has every, head() and advance()")
    if anchor.every < 1:
        raise ConfigError(f"an anchor follows every generation (1) or every few (2, 3, ...), not every {anchor.every}")
