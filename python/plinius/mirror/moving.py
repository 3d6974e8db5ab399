"""Moving a mirror to another pool, as ciphertext: no key is needed, and nothing is sealed again."""

from __future__ import annotations

from plinius.errors import PoolError
from plinius.mirror.ciphertext import Ciphertext, Filling, all_generations, has_mirror, read_chunks
from plinius.pool import OpenPool


def move_mirror(source: OpenPool, target: OpenPool, name: str, *, overwrite: bool = False) -> Ciphertext:
    """Copies a mirror with every generation that it keeps to another pool; it is durable there when this returns.

    The source keeps its own, so that nothing depends on bytes that nobody has opened yet: remove it when the target
    has been restored from. Whether the bytes are genuine is for that restore to say: it finds every changed one.

    Args:
        source: Nobody may save into the mirror meanwhile.
        target: Where it goes to.
        name: The mirror's name; sealed bytes are bound to it, so it stays.
        overwrite: Give up what the target has of this name.

    Returns:
        What was copied.

    Raises:
        PoolCorrupt: The head of the mirror is damaged.
        PoolError: The source has no such mirror, or it was saved meanwhile; or the target has one already.
        PoolFull: The target has no room; it is as it was.
    """
    found = all_generations(source, name)
    refuse_existing(target, name, overwrite=overwrite)
    with Filling(target, found.lengths) as filling:
        for index, extent in enumerate(found.extents):
            place = 0
            for chunk in read_chunks(source, extent):
                filling.write(index, place, chunk)
                place += len(chunk)
        if all_generations(source, name) != found:
            raise PoolError(f"{source.path}: the mirror {name!r} was saved while it was copied; try again")
        refuse_existing(target, name, overwrite=overwrite)
        filling.commit(name, found.head)
    return found


def refuse_existing(target: OpenPool, name: str, *, overwrite: bool = False) -> None:
    """Protects what a pool has.

    Raises:
        PoolError: It has a mirror of this name already.
    """
    if not overwrite and has_mirror(target, name):
        raise PoolError(
            f"{target.path}: there is a mirror {name!r} already, which is not overwritten; name another pool"
        )
