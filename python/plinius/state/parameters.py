"""The parameters of an optimizer: which arrays of the state they are, and whether they are trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from plinius.frameworks import import_torch
from plinius.state.plan import Phase, Plan
from plinius.state.references import malformed
from plinius.state.tree import Node


class Parameter(NamedTuple):
    """A parameter, as it was saved or as it is now.

    Args:
        shape: Its shape.
        is_trained: Whether it gets a gradient.
        buffer: Which buffer of the state it is; ``None`` where it is in no other part of it, or that is not known.
    """

    shape: list[Node]
    is_trained: bool
    buffer: int | None


def bind_parameters(plan: Plan, nodes: Node, optimizer: Any, path: str) -> Callable[[], None]:
    """Lays the saved parameters of an optimizer over the live ones.

    An optimizer keeps its state by the places of its parameters: at each place there must be the parameter that was
    there, so that none gets the moments of another.

    Args:
        plan: Takes the differences, and the gradient flags that are put back.
        nodes: What `plinius.frameworks.torch.parameters` returned at the save.
        optimizer: The live one.
        path: Where it is.

    Returns:
        What holds the parameters against the other parts of the state, once all of these are bound.
    """
    saved = _by_place(nodes, len(plan.arrays.specs))
    torch = import_torch()
    live = _by_place(torch.parameters(optimizer, lambda _: None), 0)
    both = [place for place in saved if place in live]
    for place in {**saved, **live}:
        if place not in both:
            plan.differ(f"{path}/param_groups/{place}", "missing now" if place in saved else "unexpected now")
    for place in both:
        then, now = saved[place], live[place]
        if then is None or now is None:
            continue
        if then.shape != now.shape:
            plan.differ(f"{path}/param_groups/{place}", f"shape {then.shape!r} then, {now.shape!r} now")
        if then.is_trained != now.is_trained:
            plan.notes.append(f"{path}/param_groups/{place}: requires_grad={then.is_trained} again, as it was saved")
    flags = [parameter.is_trained for parameter in saved.values() if parameter is not None]
    plan.later(Phase.OPTIMIZERS, lambda: torch.train_parameters(optimizer, flags))

    def check() -> None:
        owner, identity = plan.arrays.owner, torch.TENSORS.identity
        nodes = torch.parameters(optimizer, lambda tensor: owner(identity(tensor, path)))
        now = _by_place(nodes, len(plan.arrays.specs))
        for place in both:
            then, here = saved[place], now[place]
            if then is None or here is None or None in (then.buffer, here.buffer) or then.buffer == here.buffer:
                continue
            names = [plan.arrays.specs[it.buffer].name for it in (then, here) if it.buffer is not None]
            plan.differ(f"{path}/param_groups/{place}", "{} then, {} now".format(*names))

    return check


def _by_place(nodes: Node, count: int) -> dict[str, Parameter | None]:
    """Returns the parameters by group and position, of a state of so many buffers; the groups are ``None``."""
    if not isinstance(nodes, list):
        raise malformed("the parameters of an optimizer were expected")
    places: dict[str, Parameter | None] = {}
    for i, group in enumerate(nodes):
        places[str(i)] = None
        parameters = group if isinstance(group, list) else []
        places.update((f"{i}/params/{k}", _parsed(node, count)) for k, node in enumerate(parameters))
    return places


def _parsed(node: Node, count: int) -> Parameter:
    match node:
        case [list() as shape, bool() as is_trained, None]:
            return Parameter(shape, is_trained, None)
        case [list() as shape, bool() as is_trained, int() as buffer] if type(buffer) is int and 0 <= buffer < count:
            return Parameter(shape, is_trained, buffer)
    raise malformed("a parameter of an optimizer was expected")
