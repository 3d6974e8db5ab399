"""Every optimizer of torch: run, mirror, restore into fresh objects, go on, and compare the bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from plinius.errors import IntegrityError
from plinius.state import plan_restore
from plinius.state.tree import dumps, loads
from test_state_mirroring import Mirrored, mirror_in, mirror_out, refusal
from torch import nn

OPTIMIZERS = sorted(
    name
    for name in dir(torch.optim)
    if isinstance(kind := getattr(torch.optim, name), type) and kind is not torch.optim.Optimizer
)
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "Adam": [{"amsgrad": True}, {"fused": True}, {"foreach": True, "maximize": True}, {"lr": torch.tensor(0.01)}],
    "AdamW": [{"amsgrad": True}, {"fused": True}, {"betas": (0.5, 0.75)}],
    "SGD": [{"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "fused": True}, {"lr": torch.tensor(0.1)}],
    "RMSprop": [{"centered": True, "momentum": 0.5}],
    "NAdam": [{"decoupled_weight_decay": True, "weight_decay": 0.1}],
    "RAdam": [{"weight_decay": 0.1}],
    "Adagrad": [{"lr_decay": 0.1}],
    "LBFGS": [{"line_search_fn": "strong_wolfe"}, {"max_iter": 1, "history_size": 2}],
    "ASGD": [{"t0": 1.0}],
}
CASES = [(name, options) for name in OPTIMIZERS for options in [{}, *OPTIONS.get(name, [])]]

Train = Callable[[int], None]


def job(name: str, options: dict[str, Any], seed: int) -> tuple[nn.Module, torch.optim.Optimizer, Train]:
    """Returns a model, its optimizer and a training loop whose batches depend on the step alone."""
    torch.manual_seed(seed)
    if name == "SparseAdam":
        model: nn.Module = nn.Embedding(7, 3, sparse=True)
    elif name == "Muon":
        model = nn.Sequential(nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Linear(5, 3, bias=False))
    else:
        layers = (nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 2), nn.Flatten(), nn.Linear(8, 3))
        format_ = torch.contiguous_format if name == "LBFGS" else torch.channels_last  # it views gradients flat
        model = nn.Sequential(*layers).to(memory_format=format_)
    options = {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in options.items()}
    optimizer = getattr(torch.optim, name)(model.parameters(), **options)

    def loss_of(step: int) -> torch.Tensor:
        noise = torch.Generator().manual_seed(step)
        if name == "SparseAdam":
            return model(torch.randint(0, 7, (4,), generator=noise)).square().sum()
        shape = (6, 4) if name == "Muon" else (6, 1, 5, 5)
        return model(torch.randn(shape, generator=noise)).square().sum()

    def train(step: int) -> None:
        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = loss_of(step)
            loss.backward()
            return loss

        optimizer.step(closure)

    return model, optimizer, train


def contents(model: nn.Module, optimizer: torch.optim.Optimizer) -> Mirrored:
    return mirror_out({"model": model, "optimizer": optimizer})


@pytest.mark.parametrize(("name", "options"), CASES)
def test_training_goes_on_to_the_same_bits(name: str, options: dict[str, Any]) -> None:
    model, optimizer, train = job(name, options, seed=1)
    for step in range(3):
        train(step)
    mirrored = mirror_out({"model": model, "optimizer": optimizer})
    again, optimizer_again, train_again = job(name, options, seed=2)
    mirror_in({"model": again, "optimizer": optimizer_again}, mirrored)
    assert contents(again, optimizer_again) == contents(model, optimizer)
    for step in range(3, 6):
        train(step)
        train_again(step)
    assert contents(again, optimizer_again) == contents(model, optimizer)


@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_a_used_optimizer_forgets_what_it_had(name: str) -> None:
    model, optimizer, _ = job(name, {}, seed=1)
    again, optimizer_again, train_again = job(name, {}, seed=2)
    train_again(0)
    mirror_in({"model": again, "optimizer": optimizer_again}, mirror_out({"model": model, "optimizer": optimizer}))
    assert not optimizer_again.state


def low_precision(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = nn.Linear(4, 3, dtype=torch.bfloat16)
    return model, torch.optim.AdamW(model.parameters())


def test_another_default_device_changes_nothing() -> None:
    model, optimizer, train = job("Adam", {}, 1)
    train(1)
    mirrored = mirror_out({"model": model, "optimizer": optimizer})
    other, its_optimizer, train_other = job("Adam", {}, 2)
    with torch.device("meta"):
        mirror_in({"model": other, "optimizer": its_optimizer}, mirrored)
    train(2)
    train_other(2)
    assert mirror_out({"model": other, "optimizer": its_optimizer}) == mirror_out(
        {"model": model, "optimizer": optimizer}
    )


def test_float32_state_of_bfloat16_parameters_stays_float32() -> None:
    model, optimizer = low_precision(1)
    for parameter in model.parameters():
        optimizer.state[parameter] = {
            "step": torch.tensor(3.0),
            "exp_avg": torch.randn(parameter.shape),
            "exp_avg_sq": torch.rand(parameter.shape),
            "master": {"copy": [torch.randn(parameter.shape), "name"]},
        }
    again, optimizer_again = low_precision(2)
    seen: list[torch.dtype] = []
    optimizer_again.register_load_state_dict_post_hook(
        lambda it: seen.extend(state["exp_avg"].dtype for state in it.state.values())
    )
    mirror_in({"model": again, "optimizer": optimizer_again}, mirror_out({"model": model, "optimizer": optimizer}))
    for parameter, parameter_again in zip(model.parameters(), again.parameters(), strict=True):
        saved, restored = optimizer.state[parameter], optimizer_again.state[parameter_again]
        assert restored["exp_avg"].dtype is torch.float32
        assert torch.equal(restored["exp_avg"], saved["exp_avg"])
        assert restored["step"].dtype is torch.float32
        assert torch.equal(restored["master"]["copy"][0], saved["master"]["copy"][0])
        assert restored["master"]["copy"][1] == "name"
    assert seen == [torch.float32, torch.float32]


def test_groups_are_exact() -> None:
    def groups() -> torch.optim.Optimizer:
        first, second = nn.Linear(2, 2), nn.Linear(2, 2)
        return torch.optim.AdamW(
            [
                {"params": list(first.named_parameters()), "tag": "first"},
                {"params": list(second.named_parameters()), "betas": (0.5, 0.75)},
            ]
        )

    saved, now = groups(), groups()
    saved.param_groups[0] |= {"lr": 1e-3, "betas": (0.1, 0.2), "note": None, "initial_lr": 0.1}
    saved.param_groups[1]["lr"] = torch.tensor(0.25, dtype=torch.float64)
    mirror_in({"optimizer": now}, mirror_out({"optimizer": saved}))
    for group, group_now in zip(saved.param_groups, now.param_groups, strict=True):
        assert {k: v for k, v in group.items() if k != "params"} == {
            k: v for k, v in group_now.items() if k != "params"
        }
    assert now.param_groups[1]["lr"].dtype is torch.float64


def test_hooks_on_loading_still_see_the_state() -> None:
    model, optimizer, train = job("Adam", {}, seed=1)
    train(0)
    optimizer.register_state_dict_post_hook(lambda _, state: {"wrapped": state})
    again, optimizer_again, _ = job("Adam", {}, seed=2)
    seen: list[float] = []
    optimizer_again.register_load_state_dict_pre_hook(lambda _, state: state["wrapped"])
    optimizer_again.register_load_state_dict_post_hook(
        lambda it: seen.append(it.state[it.param_groups[0]["params"][0]]["step"].item())
    )
    mirror_in({"model": again, "optimizer": optimizer_again}, mirror_out({"model": model, "optimizer": optimizer}))
    assert seen == [1.0]
    assert len(optimizer_again._optimizer_load_state_dict_pre_hooks) == 1
    assert len(optimizer_again._optimizer_load_state_dict_post_hooks) == 1


def test_optimizers_that_differ_are_refused() -> None:
    _, optimizer, _ = job("Adam", {}, seed=1)
    _, other, _ = job("AdamW", {}, seed=1)
    assert "optimizer: a Adam then, a AdamW now" in refusal({"optimizer": optimizer}, {"optimizer": other})
    wider = torch.optim.Adam(nn.Linear(8, 4).parameters())
    narrower = torch.optim.Adam(nn.Linear(8, 3, bias=False).parameters())
    message = refusal({"optimizer": wider}, {"optimizer": narrower})
    assert "optimizer/param_groups/0/params/0: shape [4, 8] then, [3, 8] now" in message
    assert "optimizer/param_groups/0/params/1: missing now" in message
    grouped = torch.optim.Adam([{"params": [p]} for p in nn.Linear(8, 4).parameters()])
    assert "optimizer/param_groups/1: unexpected now" in refusal({"optimizer": wider}, {"optimizer": grouped})


@pytest.mark.parametrize("optimizer_first", [False, True])
def test_parameters_in_another_order_are_refused_also_where_their_shapes_agree(optimizer_first: bool) -> None:
    def state(order: Callable[[Any], Any]) -> dict[str, object]:
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        optimizer = torch.optim.Adam(order(list(model.parameters())))
        both = {"model": model, "optimizer": optimizer}
        return dict(reversed(both.items())) if optimizer_first else both

    message = refusal(state(list), state(lambda parameters: parameters[2:] + parameters[:2]))
    assert "optimizer/param_groups/0/params/0: model/0.weight then, model/1.weight now" in message
    assert "4 differences" in message
    mirror_in(state(list), mirror_out(state(list)))


def test_an_optimizer_of_a_model_that_is_not_mirrored_is_mirrored_alone() -> None:
    adam, again = (torch.optim.Adam(nn.Linear(3, 3).parameters()) for _ in range(2))
    mirror_in({"optimizer": again}, mirror_out({"optimizer": adam}))
    assert mirror_out({"optimizer": again}) == mirror_out({"optimizer": adam})


def test_a_layer_that_was_trained_later_is_trained_after_a_restore() -> None:
    """Gradual unfreezing: the program that resumes freezes the layer at its start, as it did the first time."""

    def frozen(seed: int) -> tuple[nn.Module, torch.optim.Optimizer, Train]:
        model, optimizer, train = job("Adam", {}, seed)
        model[0].requires_grad_(False)  # type: ignore[index]
        return model, optimizer, train

    model, optimizer, train = frozen(1)
    train(0)
    still, its_optimizer, _ = frozen(2)
    mirror_in({"model": still, "optimizer": its_optimizer}, mirror_out({"model": model, "optimizer": optimizer}))
    assert [p.requires_grad for p in still.parameters()] == [p.requires_grad for p in model.parameters()]
    model[0].requires_grad_(True)  # type: ignore[index]
    train(1)
    again, optimizer_again, train_again = frozen(3)
    mirror_in({"model": again, "optimizer": optimizer_again}, mirror_out({"model": model, "optimizer": optimizer}))
    for step in range(2, 4):
        train(step)
        train_again(step)
    assert contents(again, optimizer_again) == contents(model, optimizer)


def test_lists_of_optimizers() -> None:
    jobs, again = [job(name, {}, 1) for name in ("Adam", "SGD")], [job(name, {}, 2) for name in ("Adam", "SGD")]
    for _, _, train in jobs:
        train(0)
    states = [
        {"models": [j[0] for j in each], "optimizers": {str(i): j[1] for i, j in enumerate(each)}}
        for each in (jobs, again)
    ]
    mirror_in(states[1], mirror_out(states[0]))
    for (model, optimizer, train), (model_again, optimizer_again, train_again) in zip(jobs, again, strict=True):
        train(1)
        train_again(1)
        assert contents(model, optimizer) == contents(model_again, optimizer_again)


def test_parameters_that_share_memory_with_another_part_of_the_state_are_not_mistaken_for_it() -> None:
    def state(seed: int) -> dict[str, object]:
        torch.manual_seed(seed)
        model = nn.ModuleDict({"conv": nn.Conv2d(3, 5, 1, bias=False), "lin": nn.Linear(3, 5, bias=False)})
        model["conv"].weight = nn.Parameter(model["lin"].weight.data.view(5, 3, 1, 1))
        flat = [model["lin"].weight.detach().numpy()]
        return {"flat": flat, "model": model, "optimizer": torch.optim.Adam(model.parameters())}

    saved, again = state(1), state(2)
    mirror_in(again, mirror_out(saved))
    assert mirror_out(again) == mirror_out(saved)


@pytest.mark.parametrize("wrong", [99, -1, True, "0"])
def test_a_parameter_of_no_buffer_is_malformed(wrong: object) -> None:
    model, optimizer, _ = job("SGD", {}, 1)
    mirrored = mirror_out({"model": model, "optimizer": optimizer})
    tree: Any = loads(mirrored.tree)
    tree[1]["optimizer"][3][0][0][2] = wrong
    with pytest.raises(IntegrityError, match="malformed"):
        plan_restore({"model": model, "optimizer": optimizer}, dumps(tree), mirrored.specs)
