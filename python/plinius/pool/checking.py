"""Whether what the catalog says of the users' values is true, and every block of the heap is somebody's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from plinius import _pm
from plinius.errors import PoolError
from plinius.pool.reading import StoredArray, count_of, find, item, read_slots
from plinius.pool.values import is_value


def problems(source: _pm.Transaction, blocks_in_use: int) -> list[str]:
    """What is wrong with the values, in words.

    Args:
        source: The state to look at.
        blocks_in_use: How many data blocks its heap has.
    """
    found: list[str] = []
    owners: Counter[int] = Counter()
    for entry in sorted(source.names()):
        try:
            owners.update(_blocks_of(source, entry))
        except PoolError as error:
            found.append(f"{entry}: {error}")
    shared = [block for block, times in owners.items() if times > 1]
    found += [f"the block at {block} of the heap belongs to {owners[block]} values" for block in shared]
    # What a damaged entry owns is not known, so nothing can be said of the rest.
    if not found and len(owners) < blocks_in_use:
        found.append(f"{blocks_in_use - len(owners)} blocks of the heap are in use and belong to nothing")
    return found


def _blocks_of(source: _pm.Transaction, entry: str) -> Iterator[int]:
    """The blocks of an entry, each of which was looked at."""
    if not is_value(entry):
        _, block = source.entry(entry) or (b"", 0)
        if block != 0:
            yield block
        return
    stored = find(source, entry)
    if stored is None:
        return
    yield stored.block
    if isinstance(stored, StoredArray):
        return
    for slot in read_slots(source, stored, 0, count_of(source, stored)):
        yield item(source, int(slot)).block
