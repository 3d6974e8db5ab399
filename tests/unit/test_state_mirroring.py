"""Capture and restore as the mirror calls them; the other tests of the state use `mirror_out` and `mirror_in`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from plinius.errors import ConfigError, IntegrityError
from plinius.state import BufferSpec, capture, plan_restore


@dataclass(frozen=True)
class Mirrored:
    """What is left of a state when its process has gone: bytes and specs."""

    tree: bytes
    specs: list[BufferSpec]
    contents: list[bytes]


def mirror_out(state: Mapping[str, object]) -> Mirrored:
    snapshot = capture(state)
    assert len({buffer.spec.name for buffer in snapshot.buffers}) == len(snapshot.buffers)
    assert all(buffer.memory.ndim == 1 and buffer.memory.dtype == np.uint8 for buffer in snapshot.buffers)
    contents = [buffer.memory.tobytes() for buffer in snapshot.buffers]
    return Mirrored(snapshot.tree, [buffer.spec for buffer in snapshot.buffers], contents)


def mirror_in(state: Mapping[str, object], mirrored: Mirrored) -> None:
    restoration = plan_restore(state, mirrored.tree, mirrored.specs)
    for target, content in zip(restoration.targets, mirrored.contents, strict=True):
        target[:] = np.frombuffer(content, np.uint8)
    restoration.apply()


def refusal(saved: Mapping[str, object], now: Mapping[str, object]) -> str:
    """Returns why a state does not fit, having checked that nothing was changed."""
    mirrored, before = mirror_out(saved), mirror_out(now)
    with pytest.raises(ConfigError) as caught:
        plan_restore(now, mirrored.tree, mirrored.specs)
    assert mirror_out(now) == before
    return str(caught.value)


def test_dense_arrays_are_not_copied() -> None:
    model, array = torch.nn.Linear(3, 2), np.zeros(4)
    buffers = {b.spec.name: b.memory for b in capture({"model": model, "arrays": [array]}).buffers}
    with torch.no_grad():
        model.weight.fill_(3.0)
    array[:] = 5.0
    assert buffers["model/weight"].tobytes() == np.full(6, 3.0, np.float32).tobytes()
    assert buffers["arrays/0"].tobytes() == array.tobytes()


def test_a_model_is_restored_into_its_own_memory() -> None:
    saved, model = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    address, mirrored = model.weight.data_ptr(), mirror_out({"model": saved})
    restoration = plan_restore({"model": model}, mirrored.tree, mirrored.specs)
    for target, content in zip(restoration.targets, mirrored.contents, strict=True):
        target[:] = np.frombuffer(content, np.uint8)
    assert torch.equal(model.weight, saved.weight)  # before apply()
    restoration.apply()
    assert model.weight.data_ptr() == address
    assert model.weight.requires_grad


def test_wipe_leaves_nothing_of_the_saved_state() -> None:
    model = torch.nn.Linear(3, 2)
    mirrored = mirror_out({"model": model})
    restoration = plan_restore({"model": model}, mirrored.tree, mirrored.specs)
    for target in restoration.targets:
        target[:] = 0xA5
    restoration.wipe()
    assert not any(target.any() for target in restoration.targets)
    assert not model.weight.any()


def test_an_earlier_snapshot_changes_nothing_but_the_speed() -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    state = {"model": model, "optimizer": optimizer, "arrays": [np.zeros((2, 3)), torch.zeros(6)[::2]]}
    earlier = capture(state)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    model.weight.data = torch.full((2, 3), 7.0)  # at another address
    state["arrays"][1].fill_(4.0)  # type: ignore[index]
    again, anew = capture(state, earlier), capture(state)
    assert again.tree == anew.tree
    assert [b.spec for b in again.buffers] == [b.spec for b in anew.buffers]
    assert [b.memory.tobytes() for b in again.buffers] == [b.memory.tobytes() for b in anew.buffers]
    reused = {b.spec.name for b in again.buffers for old in earlier.buffers if b is old}
    assert {"model/bias", "arrays/0"} <= reused
    assert not {"model/weight", "arrays/1"} & reused
    renamed = capture({"other": state["arrays"]}, earlier)
    assert [b.spec.name for b in renamed.buffers[:2]] == ["other/0", "other/1"]


def test_tied_arrays_are_stored_once_and_stay_tied() -> None:
    def tied() -> torch.nn.Module:
        model = torch.nn.ModuleDict({"in": torch.nn.Linear(3, 3), "out": torch.nn.Linear(3, 3)})
        model["out"].weight = model["in"].weight
        return model

    saved, model = tied(), tied()
    mirrored = mirror_out({"model": saved})
    assert [spec.name for spec in mirrored.specs if "weight" in spec.name] == ["model/in.weight"]
    mirror_in({"model": model}, mirrored)
    assert torch.equal(model["out"].weight, saved["in"].weight)
    assert model["out"].weight is model["in"].weight


def test_arrays_tied_on_one_side_only_are_refused() -> None:
    one, two = torch.zeros(3), torch.zeros(3)
    assert "arrays/1: tied to arrays/0 then, separate now" in refusal({"arrays": [one, one]}, {"arrays": [one, two]})
    assert "arrays/1: separate then, tied to arrays/0 now" in refusal({"arrays": [one, two]}, {"arrays": [one, one]})


def test_an_object_that_holds_a_tensor_of_the_model_still_holds_it() -> None:
    class Teacher:
        def __init__(self, of: torch.Tensor) -> None:
            self.of = of

        def state_dict(self) -> dict[str, object]:
            return {"of": self.of}

        def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
            self.of = state["of"]

    saved, model = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    teacher = Teacher(torch.zeros(2))
    mirrored = mirror_out({"teacher": Teacher(saved.bias.detach()), "model": saved})
    mirror_in({"teacher": teacher, "model": model}, mirrored)
    assert torch.equal(model.bias, saved.bias)
    assert teacher.of.data_ptr() == model.bias.data_ptr()


def test_names_stay_unique() -> None:
    arrays = {0: np.zeros(1), "0": np.ones(1), "a/b": np.zeros(2), "a": {"b": np.ones(2)}}
    now = {0: np.full(1, 9.0), "0": np.full(1, 9.0), "a/b": np.full(2, 9.0), "a": {"b": np.full(2, 9.0)}}
    mirror_in({"x": now}, mirror_out({"x": arrays}))
    assert now[0] == 0
    assert now["0"] == 1
    assert list(now["a"]["b"]) == [1, 1]  # type: ignore[call-overload, index]


def test_every_difference_is_counted_and_the_first_are_named() -> None:
    saved = {"model": torch.nn.Linear(3, 2), "gone": {}, "arrays": [np.zeros(2), np.zeros(3)]}
    now = {
        "model": torch.nn.Linear(4, 2, bias=False, dtype=torch.float64),
        "arrays": [np.zeros(2, np.float32), torch.zeros(3)],
        "new": {},
    }
    message = refusal(saved, now)
    assert "nothing was changed (6 differences)" in message
    for part in (
        "model/weight: shape [2, 3] then, [2, 4] now",
        "model/bias: missing now",
        "gone: missing now",
        "arrays/0: dtype float64 then, float32 now",
        "arrays/1: a ndarray then, a Tensor now",
        "and 1 more",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("saved", "now", "message"),
    [
        ({"x": torch.nn.Linear(1, 1)}, {"x": {}}, "x: a module then, a dict now"),
        ({"x": {"epoch": 1}}, {"x": []}, "x: a dict then, a list now"),
        ({"x": None}, {"x": {}}, "x: a NoneType then, a dict now"),
        ({"x": {}}, {"x": {"a": np.zeros(1)}}, "x: plain values then, arrays or objects among them now"),
        ({"x": {"a": np.zeros(1)}}, {"x": {}}, "x/a: missing now"),
        ({"x": {"a": np.zeros(1)}}, {"x": {"a": np.zeros(1), "b": np.zeros(1)}}, "x/b: unexpected now"),
        ({"x": {"a": np.zeros(1)}}, {"x": OrderedDict(a=np.zeros(1))}, "x: a dict then, a OrderedDict now"),
        (
            {"x": {"a": np.zeros(1), "b": 1}},
            {"x": {"a": np.zeros(1), "b": np.zeros(1)}},
            "x/b: a plain value",
        ),
        ({"x": [np.zeros(1)]}, {"x": [np.zeros(1), 1]}, "x: 1 entries then, 2 now"),
        ({"x": [np.zeros((2, 2))]}, {"x": [np.zeros((2, 2), order="F")]}, "x/0: memory row-major then"),
    ],
)
def test_a_state_of_another_form_is_refused(saved: dict, now: dict, message: str) -> None:
    assert message in refusal(saved, now)


def test_plain_containers_are_replaced_in_place() -> None:
    saved = {
        "progress": {"epoch": 3, "losses": [0.5, 0.25], "best": None, "late": {"a": (1, 2)}},
        "none": None,
    }
    losses: list[float] = []
    progress = {"epoch": 0, "losses": losses, "best": 1.5, "early": True}
    mirror_in({"progress": progress, "none": None}, mirror_out(saved))
    assert progress == saved["progress"]
    assert list(progress) == ["epoch", "losses", "best", "late"]
    assert progress["losses"] is losses
    shrinks = [1, [2], 3]
    mirror_in({"progress": shrinks}, mirror_out({"progress": [1]}))
    assert shrinks == [1]


def test_a_plain_value_that_was_not_saved_goes_from_beside_what_was() -> None:
    now = {"array": np.zeros(1), "late": 1}
    mirror_in({"x": now}, mirror_out({"x": {"array": np.ones(1)}}))
    assert now == {"array": 1.0}


def test_containers_mix_arrays_objects_and_values() -> None:
    def state(fill: float, epoch: int) -> dict[str, object]:
        inner = [torch.full((2,), fill), epoch, {"deep": epoch}]
        return {
            "mixed": {"epoch": epoch, "array": np.full(2, fill), "list": inner},
            "pair": (np.full(1, fill), None),
        }

    saved, now = state(2.0, 7), state(0.0, 0)
    mixed = now["mixed"]
    array, inner = mixed["array"], mixed["list"]  # type: ignore[index]
    mirror_in(now, mirror_out(saved))
    assert mixed["epoch"] == 7  # type: ignore[index]
    assert mixed["array"] is array  # type: ignore[index]
    assert list(array) == [2.0, 2.0]
    assert mixed["list"] is inner  # type: ignore[index]
    assert inner[0].tolist() == [2.0, 2.0]
    assert inner[1:] == [7, {"deep": 7}]
    assert now["pair"][0] == 2.0  # type: ignore[index]


class Foo:
    pass


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"model": {"a": [Foo()]}}, r"model/a/0: a Foo cannot be mirrored exactly; give it state_dict\(\)"),
        ({"x": 3}, "x: a int cannot be restored in place; put it in a dict"),
        ({"x": (1, 2)}, "x: a tuple cannot be restored in place"),
        ({"x": {"y": (np.zeros(1), 2.5)}}, "x/y/1: a float in a tuple cannot be restored in place"),
        ({"x": torch.nn.Linear}, "x: a type cannot be mirrored"),
        ({"x": torch.utils.data.DataLoader([1])}, "x: a DataLoader forgets its position; use torchdata's"),  # type: ignore[list-item]
        ({"x": [{torch.zeros(1)}]}, "x/0/0: a Tensor cannot be mirrored"),
    ],
)
def test_what_cannot_come_back_exactly_is_refused_with_its_path(state: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        capture(state)


def test_read_only_arrays_are_refused() -> None:
    array = np.zeros(3)
    array.flags.writeable = False
    with pytest.raises(ConfigError, match="x/0: a read-only array"):
        capture({"x": [array]})
    mirrored = mirror_out({"x": [np.zeros(3)]})
    with pytest.raises(ConfigError, match="x/0: a read-only array"):
        plan_restore({"x": [array]}, mirrored.tree, mirrored.specs)


def test_read_only_slices_are_refused_as_well() -> None:
    every_second = np.zeros(6)[::2]
    mirrored = mirror_out({"x": [every_second]})
    every_second.flags.writeable = False
    for array in (every_second, np.broadcast_to(np.zeros(1), 3)):
        with pytest.raises(ConfigError, match="x/0: a read-only array"):
            capture({"x": [array]})
        with pytest.raises(ConfigError, match="x/0: a read-only array"):
            plan_restore({"x": [array]}, mirrored.tree, mirrored.specs)


def test_a_key_that_is_no_valid_text_is_mirrored_under_a_name_that_is() -> None:
    state = {"x": {"\udc80": np.arange(3.0), "é": np.arange(2.0)}}
    mirrored = mirror_out(state)
    assert [spec.name for spec in mirrored.specs] == ["x/'\\udc80'", "x/é"]
    again = {"x": {"\udc80": np.zeros(3), "é": np.zeros(2)}}
    mirror_in(again, mirrored)
    assert mirror_out(again) == mirrored


def test_a_key_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="x: a dict with the key nan cannot be mirrored"):
        capture({"x": {float("nan"): np.zeros(3)}})


def test_a_container_that_contains_itself_is_refused() -> None:
    cycle: list[object] = [np.zeros(1)]
    cycle.append(cycle)
    with pytest.raises(ConfigError, match="x/1: it contains itself"):
        capture({"x": cycle})


def test_a_tree_of_other_buffers_is_malformed() -> None:
    mirrored = mirror_out({"x": [np.zeros(1), np.zeros(2)]})
    for specs in (mirrored.specs[:-1], [*mirrored.specs, BufferSpec("y", "float32", (1,))]):
        with pytest.raises(IntegrityError):
            plan_restore({"x": [np.zeros(1), np.zeros(2)]}, mirrored.tree, specs)


def test_what_is_writable_by_a_view_alone_and_keys_that_cannot_be_compared() -> None:
    base = np.zeros(3)
    view = base[:]
    base.flags.writeable = False
    mirrored = mirror_out({"x": [view]})
    mirror_in({"x": [view]}, mirrored)
    with pytest.raises(ConfigError, match="cannot be mirrored"):
        capture({"x": {torch.zeros(2): np.zeros(1)}})
