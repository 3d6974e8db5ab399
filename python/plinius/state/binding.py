"""A saved tree laid over live objects, kind by kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from plinius.frameworks import import_torch
from plinius.state.arrays import library_of
from plinius.state.containers import DICTS, holds_live, is_module, is_optimizer, is_stateful, merged
from plinius.state.generators import keep_while_iterating_anew, makes_iterators, own_source, source_of
from plinius.state.names import canonical
from plinius.state.parameters import bind_parameters
from plinius.state.plan import Phase, Plan, fields
from plinius.state.references import is_reference, malformed
from plinius.state.tree import Node, join, named

_EXTRA_STATE = ("/_extra_state", "._extra_state")
"""How the path of what ``get_extra_state()`` returned ends."""


def bind_state(plan: Plan, saved: Mapping[str, Node], state: Mapping[str, object]) -> None:
    """Lays the saved keywords over the live ones.

    Args:
        plan: Takes the differences and the loads.
        saved: The saved nodes by keyword.
        state: The live values by keyword.
    """
    for key in {**saved, **state}:
        if key not in saved or key not in state:
            plan.differ(key, _one_sided(key in saved))
        elif _tag(saved[key]) == "value":
            _bind_plain(plan, saved[key], state[key], key)
        else:
            _bind(plan, saved[key], state[key], key)
    for check in plan.checks:
        check()


def _bind(plan: Plan, node: Node, live: Any, path: str) -> None:
    if is_reference(node):
        plan.array(node, live, path)
        return
    if (tag := _tag(node)) not in _BINDERS:
        raise malformed(f"{path}: an unknown kind {tag!r}")
    fits, bind = _BINDERS[tag]
    if fits(live):
        bind(plan, node, live, path)
    else:
        plan.differ(path, f"{_described(node)} then, {named(live)} now")


def _bind_plain(plan: Plan, node: Node, live: Any, path: str) -> None:
    """A keyword that holds plain values alone: a dict or a list, or ``None``."""
    (value,) = fields(node, "value", 1)
    plan.arrays.check(value)
    saved = plan.arrays.value(value)
    if type(saved) is not type(live):
        plan.differ(path, f"{named(saved)} then, {named(live)} now")
    elif holds_live(live):
        plan.differ(path, "plain values then, arrays or objects among them now")
    elif saved is not None:
        plan.later(Phase.CONTAINERS, lambda: merged(saved, live))


def _bind_generator(plan: Plan, node: Node, live: Any, path: str) -> None:
    source = source_of(live)
    if source is not None:
        plan.generators.append(source)
    plan.generator(node, source, path)


def _bind_module(plan: Plan, node: Node, module: Any, path: str) -> None:
    (saved,) = fields(node, "module", 1)
    if not isinstance(saved, dict):
        raise malformed(f"{path}: a module's entries were expected")
    entries: dict[str, Any] = module.state_dict()
    names, storages = canonical(entries), import_torch().live_storages(module)
    through: dict[str, Node] = {}
    for name in {**saved, **names}:
        if name not in saved or name not in names:
            plan.differ(f"{path}/{name}", _one_sided(name in saved))
        elif not _bind_entry(plan, saved[name], entries[names[name]], f"{path}/{name}", storages):
            through[names[name]] = saved[name]

    def load() -> None:
        entries.update((key, plan.arrays.value(child)) for key, child in through.items())
        module.load_state_dict(entries)  # the other entries are the module's own memory, filled by now

    if through:
        plan.later(Phase.MODULES, load, *through.values())


def _bind_entry(plan: Plan, node: Node, live: Any, path: str, storages: set[int]) -> bool:
    """Returns whether the entry is the module's own memory, so that filling it restores it."""
    is_array = library_of(live) is not None
    if path.endswith(_EXTRA_STATE) or (not is_array and not is_reference(node)):
        return False
    if is_array != is_reference(node):
        plan.differ(path, f"{_described(node)} then, {named(live)} now")
        return False
    in_place = bool(import_torch().is_tensor(live) and import_torch().lies_in(live, storages))
    plan.array(node, live, path, in_place=in_place)
    return in_place


def _bind_optimizer(plan: Plan, node: Node, optimizer: Any, path: str) -> None:
    kind, state, parameters = fields(node, "optimizer", 3)
    if kind != type(optimizer).__qualname__:
        plan.differ(path, f"{_described(node)} then, {named(optimizer)} now")
    plan.checks.append(bind_parameters(plan, parameters, optimizer, path))
    plan.later(Phase.OPTIMIZERS, lambda: import_torch().load_optimizer(optimizer, plan.arrays.value(state)), state)


def _bind_object(plan: Plan, node: Node, live: Any, path: str) -> None:
    kind, state, generator = fields(node, "object", 3)
    if kind != type(live).__qualname__:
        plan.differ(path, f"{_described(node)} then, {named(live)} now")
        return
    plan.later(Phase.OBJECTS, lambda: live.load_state_dict(plan.arrays.value(state)), state)
    plan.generator(generator, own_source(live), f"{path}/generator")
    if makes_iterators(live):
        plan.later(Phase.LOADERS, lambda: keep_while_iterating_anew(live, plan.generators))


def _bind_branch(plan: Plan, node: Node, live: Any, path: str) -> None:
    """A container with something live in it: the live ones must be there again, plain values are replaced."""
    kind, *rest = _parts(node)
    if kind != type(live).__qualname__:
        plan.differ(path, f"{_described(node)} then, {named(live)} now")
        return
    children = _children(plan, rest, live)
    if not isinstance(live, dict) and len(children) != len(live):
        plan.differ(path, f"{len(children)} entries then, {len(live)} now")
        return
    now = dict(live.items() if isinstance(live, dict) else enumerate(live))
    plain = []
    for key in {**children, **now}:
        place, child = join(path, key), children.get(key)
        if child is None:
            if holds_live(now[key]):
                plan.differ(place, _one_sided(False))
        elif _tag(child) == "value":
            plain += fields(child, "value", 1)
            if holds_live(now.get(key)):
                plan.differ(place, f"a plain value then, {named(now[key])} now")
        elif key in now:
            _bind(plan, child, now[key], place)
        else:
            plan.differ(place, _one_sided(True))
    if not isinstance(live, tuple):
        plan.later(Phase.CONTAINERS, lambda: _replace(plan, children, live), *plain)


def _children(plan: Plan, rest: list[Node], live: Any) -> dict[Any, Node]:
    if not isinstance(live, dict):
        return dict(enumerate(rest))
    for key in rest[::2]:
        if type(key) is not str:  # most keys: they are themselves
            plan.arrays.check(key)
    keys = (key if type(key) is str else plan.arrays.value(key) for key in rest[::2])
    try:
        return dict(zip(keys, rest[1::2], strict=True))
    except (TypeError, ValueError) as error:
        raise malformed(f"the keys of a dict: {error}") from None


def _replace(plan: Plan, children: Mapping[Any, Node], live: Any) -> None:
    old = dict(live) if isinstance(live, dict) else dict(enumerate(live))
    new = {
        key: merged(plan.arrays.value(fields(child, "value", 1)[0]), old.get(key))
        if _tag(child) == "value"
        else old[key]
        for key, child in children.items()
    }
    if isinstance(live, dict):
        live.clear()
        live.update(new)
    else:
        live[:] = new.values()


def _parts(node: Node) -> list[Node]:
    if not isinstance(node, list) or not node[1:]:
        raise malformed("a container was expected")
    return node[1:]


def _tag(node: Node) -> str | None:
    return node[0] if isinstance(node, list) and node and isinstance(node[0], str) else None


def _one_sided(saved: bool) -> str:
    return "missing now" if saved else "unexpected now"


def _described(node: Node) -> str:
    """Names what was saved, as `named` does for what is there now."""
    words = [word for word in node[:2] if isinstance(word, str)] if isinstance(node, list) else []
    if words and words[0] in ("optimizer", "object", "branch", "generator"):
        return f"a {words[-1]}"
    return f"a {words[0]}" if words and words[0] in ("module", "tensor", "ndarray") else "a plain value"


_BINDERS: dict[Any, tuple[Callable[[object], bool], Callable[[Plan, Node, Any, str], None]]] = {
    "module": (is_module, _bind_module),
    "optimizer": (is_optimizer, _bind_optimizer),
    "object": (
        lambda live: is_stateful(live) and not is_module(live) and not is_optimizer(live),
        _bind_object,
    ),
    "branch": (lambda live: type(live) in DICTS or isinstance(live, (list, tuple)), _bind_branch),
    "generator": (lambda live: source_of(live) is not None, _bind_generator),
}
