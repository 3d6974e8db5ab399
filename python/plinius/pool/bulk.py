"""What mirrors and data sets need of a pool, whichever process has it open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from plinius._core import Mapping

Extent: TypeAlias = tuple[int, int]
"""Where bulk bytes lie in the pool's file: offset and length."""


class Reservation(Protocol):
    """Free extents that were taken, to be written and then named by an entry, or given back."""

    def more(self, lengths: Sequence[int], /) -> list[Extent]:
        """Takes further ones, one for each length."""

    def commit(self, name: str, meta: bytes, extents: Sequence[Extent], /) -> None:
        """Puts the entry of a name into the catalog, durable when this returns.

        Args:
            name: The entry; what it owned and owns no more is free then.
            meta: Its public bytes.
            extents: All that were taken, and what the entry owned before if it is to stay.
        """

    def abandon(self) -> None:
        """Gives back what was not committed."""


class PoolFile(ABC):
    """A pool: its file, mapped here, and the catalog that says where things lie in it.

    Attributes:
        path: What messages call it.
    """

    path: str

    @property
    @abstractmethod
    def mapping(self) -> Mapping:
        """The file: bulk bytes are stored and read through this."""

    @abstractmethod
    def find(self, name: str) -> tuple[bytes, list[Extent]] | None:
        """An entry of the catalog: its public bytes and its extents."""

    @abstractmethod
    def reserve(self) -> Reservation:
        """Begins to take free extents."""

    def meta(self, name: str) -> bytes | None:
        """The public bytes of an entry alone."""
        found = self.find(name)
        return found[0] if found else None

    def check_free(self) -> None:  # noqa: B027 (where no transaction can run, there is nothing to refuse)
        """Refuses a thread that runs a transaction, before it waits for another thread that needs one."""
