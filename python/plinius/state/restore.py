"""Saved state back into live objects: first every check, then the verified bytes, then the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from plinius.errors import ConfigError, PoolVersion
from plinius.frameworks import import_torch
from plinius.state.binding import bind_state
from plinius.state.capture import FORMAT, FORMAT_NAME
from plinius.state.generators import global_sources
from plinius.state.plan import Plan, fields
from plinius.state.references import SavedArrays, malformed
from plinius.state.snapshot import Memory, Spec
from plinius.state.tree import Node, loads

_SHOWN = 5


class Restoration:
    """A restore that was checked and waits for its bytes.

    Args:
        plan: What to do.

    Attributes:
        targets: 1-D writable memory for every saved buffer, in the saved order; a model in host memory takes
            the bytes in its own. Fill every one with verified bytes, then call `apply`; if that cannot be
            done, call `wipe`.
        notes: What is put back that the program has set otherwise, in a line each.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.notes = plan.notes
        self.targets: list[Memory] = [plan.arrays.memory(index) for index in range(len(plan.arrays.specs))]

    def apply(self) -> None:
        """Loads what is not memory.

        First arrays that could not be filled in place, then modules, other objects, optimizers, containers,
        and last the generators. A restored loader makes its next iterator without moving them.
        """
        self._plan.load()

    def wipe(self) -> None:
        """Zeroes every target, after a failure midway."""
        for memory in self.targets:
            memory[:] = 0


def plan_restore(state: Mapping[str, object], tree: bytes, specs: Sequence[Spec]) -> Restoration:
    """Checks a saved state against live objects; nothing is changed.

    What must agree: the names, the kinds of objects, containers and generators; of every array that lives in
    a module or a tree, dtype, shape, memory layout and ties; of an optimizer, its groups, the shapes of their
    parameters, and which arrays of the state these are. Plain values may differ in type and number: the saved
    ones replace them, in place where they are dicts and lists.

    Args:
        state: The same keywords as at the save.
        tree: The saved `Snapshot`'s tree.
        specs: The specs of its buffers, in their order.

    Raises:
        ConfigError: They do not agree; the message counts the differences and names the first few.
        IntegrityError: The tree is malformed, or is not of these buffers.
        PoolVersion: It has a format that this release does not read.
    """
    saved, process = _parts(loads(tree))
    plan = Plan(SavedArrays([saved, process], specs))
    bind_state(plan, saved, state)
    if "torch" in process:
        import_torch()
    here = global_sources(idle_devices=True)
    for name, node in process.items():
        if name in here:  # a device that is not here is a difference of the environment
            plan.generator(node, here[name], f"generators/{name}")
    if plan.differences:
        raise ConfigError(_summary(plan.differences))
    plan.arrays.allocate()
    plan.check_values()
    return Restoration(plan)


def _parts(node: Node) -> tuple[dict[str, Node], dict[str, Node]]:
    tag = node[0] if isinstance(node, list) and node else None
    if isinstance(tag, str) and tag.startswith(FORMAT_NAME) and tag != FORMAT:
        raise PoolVersion(f"the mirrored structure is {tag!r}, this release reads {FORMAT!r}; use a matching release")
    saved, process = fields(node, FORMAT, 2)
    if isinstance(saved, dict) and isinstance(process, dict):
        return saved, process
    raise malformed("its parts are not named")


def _summary(differences: list[str]) -> str:
    count = "1 difference" if len(differences) == 1 else f"{len(differences)} differences"
    more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
    shown = "; ".join(differences[:_SHOWN])
    return f"the state is not the one that was mirrored, nothing was changed ({count}): {shown}{more}"
