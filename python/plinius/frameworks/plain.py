"""One tree of tensors and plain values in a mirror of its own: a checkpoint that some framework hands over whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plinius.errors import ConfigError
from plinius.mirror import Mirror
from plinius.pool import Pool
from plinius.seal import Key
from plinius.state.generators import global_sources


class Tree:
    """A tree as an object with a state, so that whatever lies in the mirror becomes the tree.

    Args:
        value: What to save; nothing yet, where it is to be read.
    """

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def state_dict(self) -> Any:
        """Returns the tree."""
        return self.value

    def load_state_dict(self, state: Any) -> None:
        """Takes the tree."""
        self.value = state


def write_tree(pool: Pool, key: Key, name: str, tree: Mapping[str, Any], step: int) -> None:
    """Puts a tree in the place of whatever the mirror of this name holds.

    Raises:
        ConfigError: A value in it is neither a tensor nor plain; the message names its path.
    """
    with Mirror(pool, key, name=name, checkpoint=Tree(tree)) as mirror:
        mirror.save(step, overwrite=True)


def read_tree(pool: Pool, key: Key, name: str) -> dict[str, Any]:
    """Returns the tree of a mirror, with tensors that nobody else holds; the random generators stay as they are.

    Raises:
        ConfigError: The pool holds no such mirror.
    """
    tree = Tree()
    generators = [(source, source.get()) for source in global_sources().values()]
    try:
        with Mirror(pool, key, name=name, checkpoint=tree) as mirror:
            found = mirror.restore()
    finally:
        for source, state in generators:
            source.put(state)
    if found is None:
        raise ConfigError(f"{pool.path}: there is no checkpoint {name!r}")
    return dict(tree.value)


def has_tree(pool: Pool, key: Key, name: str) -> bool:
    """Tells whether the pool holds a mirror of this name."""
    with Mirror(pool, key, name=name, checkpoint=Tree()) as mirror:
        return mirror.latest_step() is not None
