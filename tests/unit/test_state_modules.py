"""Modules: names, extra state, hooks that hand out copies, wrappers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from plinius.errors import ConfigError
from plinius.state import capture
from plinius.state.names import canonical
from test_state_mirroring import mirror_in, mirror_out, refusal
from torch import nn
from torch.optim.swa_utils import AveragedModel


class Wrapper(nn.Module):
    """What DDP does to names."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def equal(one: nn.Module, two: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.equal(a, b) and a.stride() == b.stride() for a, b in pairs)


WRAPPERS = {
    "plain": lambda model: model,
    "compiled": torch.compile,
    "ddp": Wrapper,
    "compiled ddp": lambda model: torch.compile(Wrapper(model)),
    "ddp of compiled": lambda model: Wrapper(torch.compile(model)),
    "data parallel": nn.DataParallel,
}


@pytest.mark.parametrize("now", WRAPPERS)
@pytest.mark.parametrize("then", WRAPPERS)
def test_wrappers_do_not_matter(then: str, now: str) -> None:
    saved, model = network(), network()
    mirrored = mirror_out({"model": WRAPPERS[then](saved)})
    assert [spec.name for spec in mirrored.specs[:2]] == ["model/0.weight", "model/0.bias"]
    mirror_in({"model": WRAPPERS[now](model)}, mirrored)
    assert equal(saved, model)


@pytest.mark.parametrize("now", WRAPPERS)
@pytest.mark.parametrize("then", WRAPPERS)
def test_wrappers_inside_an_averaged_model_do_not_matter(then: str, now: str) -> None:
    saved, model = AveragedModel(WRAPPERS[then](network())), AveragedModel(WRAPPERS[now](network()))
    saved.n_averaged += 3
    mirror_in({"ema": model}, mirror_out({"ema": saved}))
    assert model.n_averaged == 3
    assert equal(saved, model)


def test_an_averaged_model_is_no_plain_one() -> None:
    assert "ema/n_averaged: missing now" in refusal({"ema": AveragedModel(network())}, {"ema": network()})


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        (["module.w", "head.w"], ["module.w", "head.w"]),
        (["module.module.w", "module.head.w"], ["module.w", "head.w"]),
        (["a._orig_mod.w", "b.w"], ["a.w", "b.w"]),
        (["a._orig_mod.w", "a.w"], ["a._orig_mod.w", "a.w"]),
        (["n_averaged", "module.w"], ["n_averaged", "w"]),
        (
            ["n_averaged", "module.n_averaged", "module.module.w"],
            ["n_averaged", "module.n_averaged", "module.module.w"],
        ),
        (["n_averaged"], ["n_averaged"]),
        (["module", "module.w"], ["module", "module.w"]),
        (["modules.w"], ["modules.w"]),
        (["module._orig_module.w"], ["_orig_module.w"]),
        ([], []),
    ],
)
def test_canonical_names(keys: list[str], names: list[str]) -> None:
    assert canonical(keys) == dict(zip(names, keys, strict=True))


def test_a_submodule_that_is_called_module_keeps_its_tensors() -> None:
    def own() -> nn.Module:
        return nn.ModuleDict({"module": nn.Linear(2, 2), "head": nn.Linear(2, 2)})

    saved, model = own(), own()
    mirror_in({"model": Wrapper(model)}, mirror_out({"model": saved}))
    assert equal(saved, model)


class Counted(nn.Module):
    """A module with extra state: a tree with an array that grows."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.seen: dict[str, Any] = {"count": 0, "history": torch.zeros(0), 7: (1.5, None)}

    def get_extra_state(self) -> Any:
        return self.seen

    def set_extra_state(self, state: Any) -> None:
        self.seen = state


class Tensorial(Counted):
    def get_extra_state(self) -> Any:
        return self.seen["history"]

    def set_extra_state(self, state: Any) -> None:
        self.seen["history"] = state


def test_extra_state() -> None:
    saved = nn.Sequential(Counted(), nn.Sequential(Counted()), Tensorial())
    model = nn.Sequential(Counted(), nn.Sequential(Counted()), Tensorial())
    saved[1][0].seen = {"count": 5, "history": torch.arange(3.0), 7: (2.5, "x")}
    saved[2].seen["history"] = torch.ones(4)
    saved[1][0].weight.data.fill_(3.0)
    address = model[1][0].weight.data_ptr()
    mirror_in({"model": torch.compile(model)}, mirror_out({"model": saved}))
    assert model[0].seen["count"] == 0
    assert model[1][0].seen["count"] == 5
    assert model[1][0].seen["history"].tolist() == [0, 1, 2]
    assert model[1][0].seen[7] == (2.5, "x")
    assert model[2].seen["history"].tolist() == [1, 1, 1, 1]
    assert model[1][0].weight.tolist() == [3, 3]
    assert model[1][0].weight.data_ptr() == address


def test_extra_state_that_cannot_be_mirrored_is_refused_with_its_path() -> None:
    model = nn.Sequential(Counted())
    model[0].seen["foo"] = object()
    with pytest.raises(ConfigError, match=r"^model/0\._extra_state/foo: a object cannot be mirrored exactly"):
        capture({"model": model})


def test_entries_that_a_hook_copied_are_loaded() -> None:
    def halved(module: nn.Module, entries: dict, prefix: str, _: dict) -> None:
        entries[f"{prefix}weight"] = entries[f"{prefix}weight"] / 2

    def doubled(module: nn.Module, entries: dict, prefix: str, *_: Any) -> None:
        entries[f"{prefix}weight"] = entries[f"{prefix}weight"] * 2

    def hooked() -> nn.Module:
        model = nn.Linear(3, 2)
        model.register_state_dict_post_hook(halved)
        model.register_load_state_dict_pre_hook(doubled)
        return model

    saved, model = hooked(), hooked()
    mirror_in({"model": model}, mirror_out({"model": saved}))
    assert torch.equal(saved.weight, model.weight)
    assert torch.equal(saved.bias, model.bias)
    message = refusal({"model": saved}, {"model": nn.Linear(5, 2)})
    assert "model/weight: shape [2, 3] then, [2, 5] now" in message


def test_channels_last_and_mixed_dtypes() -> None:
    def model() -> nn.Module:
        layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)).to(memory_format=torch.channels_last)
        layers[1].to(torch.bfloat16)
        return layers

    saved, now = model(), model()
    mirror_in({"model": now}, mirror_out({"model": saved}))
    assert equal(saved, now)


def test_a_lazy_module_is_refused() -> None:
    with pytest.raises(ConfigError, match="model/weight: a lazy tensor without a shape"):
        capture({"model": nn.LazyLinear(2)})


def test_buffers_that_are_not_persistent_are_no_state() -> None:
    model = nn.Linear(1, 1)
    model.register_buffer("scratch", torch.ones(1), persistent=False)
    assert [buffer.spec.name for buffer in capture({"model": model}).buffers[:3]][2:] != ["model/scratch"]


def test_a_copy_on_the_side_goes_through_its_own_load() -> None:
    class Average:
        def __init__(self, model: nn.Module) -> None:
            self.shadow = {name: p.detach().clone() for name, p in model.named_parameters()}

        def state_dict(self) -> dict[str, Any]:
            return {"shadow": {name: p.clone() for name, p in self.shadow.items()}, "decay": 0.9}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            for name, tensor in state["shadow"].items():
                self.shadow[name].copy_(tensor)

    saved = Average(network())
    now = copy.deepcopy(saved)
    for tensor in now.shadow.values():
        tensor.zero_()
    mirror_in({"ema": now}, mirror_out({"ema": saved}))
    assert all(torch.equal(now.shadow[name], tensor) for name, tensor in saved.shadow.items())
