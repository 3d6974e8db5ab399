"""A later capture of the same state is made with the earlier one's help, and sees every change all the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from plinius.errors import ConfigError
from plinius.state import Snapshot, capture

State = dict[str, Any]


def tensors() -> State:
    """A dict of tensors alone: it is compared as a whole."""
    kept = {name: torch.arange(9.0).reshape(3, 3) for name in "abc"}
    tied = torch.ones(2)
    return {"first": {"x": tied, "again": tied}, "state": kept, "last": [torch.zeros(2)]}


def mixed() -> State:
    """The same beside a plain value: its tensors are compared one by one."""
    return tensors() | {"state": {"plain": 1, **tensors()["state"]}}


def whole(snapshot: Snapshot) -> Any:
    return snapshot.tree, [(buffer.spec, buffer.memory.tobytes()) for buffer in snapshot.buffers]


def assert_seen(state: State, change: Callable[[State], object]) -> None:
    """The change shows, and is what a capture without an earlier one sees; nothing is taken for changed afterwards."""
    first = capture(state)
    earlier = capture(state, first)
    assert whole(earlier) == whole(first)
    change(state)
    again = capture(state, earlier)
    assert whole(again) == whole(capture(state))
    assert whole(again) != whole(earlier)
    assert whole(capture(state, again)) == whole(again)


def test_nothing_is_made_anew_while_nothing_changes() -> None:
    for make in (tensors, mixed):
        state = make()
        one = capture(state)
        other = capture(state, one)
        assert other.buffers is one.buffers
        state["state"]["a"].add_(1)  # its memory is the buffer's
        assert capture(state, other).buffers[1].memory.tobytes() == state["state"]["a"].numpy().tobytes()


def _replaced(state: State, tensor: Any) -> None:
    state["state"]["b"] = tensor


def _reordered(state: State) -> None:
    kept = state["state"]
    kept["b"] = kept.pop("b")


def _swapped(state: State) -> None:
    kept = state["state"]
    kept["a"], kept["b"] = kept["b"].fill_(1), kept["a"]


def _renamed(state: State) -> None:
    state["state"] = {f"{key}." if key == "b" else key: value for key, value in state["state"].items()}


def _data(state: State, new: Callable[[torch.Tensor], torch.Tensor]) -> None:
    tensor = state["state"]["b"]
    tensor.data = new(tensor.data)


CHANGES: dict[str, Callable[[State], object]] = {
    "data at another address": lambda state: _data(state, lambda now: now + 1),
    "another dtype at its address": lambda state: _data(state, lambda now: now.view(torch.int32)),
    "other strides at its address": lambda state: _data(state, torch.t),
    "another shape at its address": lambda state: _data(state, lambda now: now.view(9)),
    "less of its memory": lambda state: state["state"]["b"].resize_(2, 3),
    "another storage": lambda state: state["state"]["b"].set_(torch.full((3, 3), 2.0)),
    "a gradient": lambda state: state["state"]["b"].requires_grad_(),
    "a parameter of its memory": lambda state: _replaced(
        state, torch.nn.Parameter(state["state"]["b"], requires_grad=False)
    ),
    "a NumPy array of its memory": lambda state: _replaced(state, state["state"]["b"].numpy()),
    "another tensor": lambda state: _replaced(state, torch.full((3, 3), 2.0)),
    "a tied one": lambda state: _replaced(state, state["state"]["a"]),
    "a plain value": lambda state: _replaced(state, 2.0),
    "nothing": lambda state: _replaced(state, None),
    "one more": lambda state: state["state"].update(d=torch.ones(1)),
    "one less": lambda state: state["state"].pop("b"),
    "none left": lambda state: state["state"].clear(),
    "another order": _reordered,
    "one in another's place": _swapped,
    "another name": _renamed,
    "another kind of dict": lambda state: state.update(state=OrderedDict(state["state"])),
    "one more before it": lambda state: state["first"].update(y=torch.ones(2)),
    "one less before it": lambda state: state["first"].pop("x"),
    "two less before it": lambda state: state["first"].clear(),
    "one before it is tied to it": lambda state: state["first"].update(x=state["state"]["b"]),
    "its keyword goes": lambda state: state.pop("state"),
    "the last keyword goes": lambda state: state.pop("last"),
    "one more in a list": lambda state: state["last"].append(torch.ones(1)),
    "a tuple in the place of a list": lambda state: state.update(last=tuple(state["last"])),
    "a generator before all": lambda state: state.update(first=[np.random.default_rng(1), state["first"]["x"]]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("make", [tensors, mixed])
def test_a_change_is_seen(make: Callable[[], State], change: Callable[[State], object]) -> None:
    assert_seen(make(), change)


@pytest.mark.parametrize(
    "view", [torch.conj, lambda tensor: tensor.conj().imag, lambda tensor: tensor.imag], ids=["conj", "neg", "imag"]
)
@pytest.mark.parametrize("beside", [{}, {"plain": 1}], ids=["whole", "mixed"])
def test_a_view_that_conjugates_or_negates_is_not_what_it_shows(view: Any, beside: dict[str, int]) -> None:
    numbers = torch.tensor([1 + 2j])  # one: its imaginary part is dense
    shown = numbers.imag if view(numbers).dtype == torch.float32 else numbers
    if view(numbers).is_neg() or view(numbers).is_conj():
        assert_seen({"state": {"a": shown, **beside}}, lambda state: state["state"].update(a=view(numbers)))
    both = capture({"state": {"a": shown, "b": view(numbers), **beside}})
    by_name = {buffer.spec.name: buffer.memory.tobytes() for buffer in both.buffers}
    if view(numbers).is_neg() or view(numbers).is_conj():
        assert by_name["state/b"] == view(numbers).resolve_neg().resolve_conj().numpy().tobytes()
    else:
        assert "state/b" not in by_name  # tied


@pytest.mark.parametrize(
    ("before", "after"),
    [(1, "1"), (0.0, -0.0), (1, 1.0), (1, True), ((1,), (True,)), ("a", np.str_("a"))],
    ids=repr,
)
def test_keys_that_are_equal_or_written_alike_are_told_apart(before: Any, after: Any) -> None:
    tensor = torch.ones(2)
    assert_seen({"state": {before: tensor}}, lambda state: state.update(state={after: tensor}))


@pytest.mark.parametrize(
    "change",
    [
        lambda array: array.view(np.int64),
        lambda array: array.view("m8[s]"),
        lambda array: array.T,
        lambda array: array.reshape(9),
        lambda array: array[:2],
        lambda array: array[:, :2],
        lambda array: array + 1,
        lambda array: array.byteswap().view(">f8"),
        torch.from_numpy,
    ],
)
def test_another_numpy_array_in_its_place_is_seen(change: Callable[[Any], Any]) -> None:
    state = {"state": [np.arange(9.0).reshape(3, 3), np.zeros(2)]}
    assert_seen(state, lambda state: state["state"].__setitem__(0, change(state["state"][0])))
    module = {"state": {"plain": 1, "a": np.arange(9.0).reshape(3, 3)}}
    assert_seen(module, lambda state: state["state"].update(a=change(state["state"]["a"])))


def _model() -> State:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 3))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    return {"model": model, "optimizer": optimizer}


def _tie(state: State) -> None:
    state["model"][2].weight = state["model"][0].weight


@pytest.mark.parametrize(
    "change",
    [
        _tie,
        lambda state: state["model"].register_buffer("more", torch.ones(1)),
        lambda state: state["model"].__delitem__(1),
        lambda state: state["model"].double(),
        lambda state: setattr(state["model"][0].weight, "data", torch.ones(3, 3)),
        lambda state: setattr(state["model"][0].weight, "data", state["model"][0].weight.data.t()),
        lambda state: state["optimizer"].state[state["model"][0].weight].update(exp_avg=torch.ones(3, 3)),
        lambda state: state["optimizer"].state[state["model"][0].weight].update(more=torch.ones(3)),
        lambda state: state["optimizer"].state.pop(state["model"][0].bias),
        lambda state: state["optimizer"].add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]}),
        lambda state: state["optimizer"].param_groups[0].update(lr=torch.tensor(0.5)),
    ],
)
def test_a_change_of_a_model_or_its_optimizer_is_seen(change: Callable[[State], object]) -> None:
    assert_seen(_model(), change)


def test_what_is_refused_at_first_is_refused_later() -> None:
    state = tensors()
    earlier = capture(state)
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    for refused, why in ((nested, "a nested tensor"), (torch.ones(3, 3).to_sparse(), "layout"), (object(), "object")):
        state["state"]["b"] = refused
        with pytest.raises(ConfigError, match=why):
            capture(state, earlier)


def test_a_read_only_array_is_refused_where_it_is_restored_in_place_from_now_on() -> None:
    array = np.ones(2)
    array.flags.writeable = False
    state: State = {"state": torch.optim.SGD([torch.nn.Parameter(torch.ones(1))]), "a": _Holder({"x": array})}
    earlier = capture(state)
    state["a"] = {"x": array}
    with pytest.raises(ConfigError, match="a/x: a read-only array"):
        capture(state, earlier)


class _Holder:
    def __init__(self, state: State) -> None:
        self._state = state

    def state_dict(self) -> State:
        return self._state

    def load_state_dict(self, state: State) -> None:
        self._state = state


def test_names_stay_unique() -> None:
    state: State = {"state": {0: torch.ones(2), "0": torch.ones(2)}}
    assert_seen(state, lambda state: state.update(more=[torch.ones(1)]))
    names = [buffer.spec.name for buffer in capture(state, capture(state)).buffers]
    assert names == ["state/0", "state/0#2", "more/0"]


def test_a_copied_slice_is_copied_each_time() -> None:
    rows = torch.arange(6.0)
    state = {"state": {"a": torch.ones(2), "slice": rows[::2], "c": torch.ones(3)}}
    earlier = capture(state)
    rows.add_(1)
    assert whole(capture(state, earlier)) == whole(capture(state))
