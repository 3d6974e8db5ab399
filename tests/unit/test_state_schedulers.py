"""Every scheduler of torch, weight averaging and the gradient scaler: they go on to the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_state_mirroring import mirror_in, mirror_out, refusal
from torch import nn
from torch.optim import lr_scheduler as lr
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn

Optimizer = torch.optim.Optimizer


class Decay:
    """A schedule with state of its own, which torch saves, as it does not a function."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, step: int) -> float:
        self.calls += 1
        return 0.9**self.calls


SCHEDULERS: dict[str, Callable[[Optimizer], Any]] = {
    "LambdaLR": lambda o: lr.LambdaLR(o, lambda step: 0.9**step),
    "LambdaLR of an object": lambda o: lr.LambdaLR(o, Decay()),
    "MultiplicativeLR": lambda o: lr.MultiplicativeLR(o, Decay()),
    "StepLR": lambda o: lr.StepLR(o, 2),
    "MultiStepLR": lambda o: lr.MultiStepLR(o, [2, 4, 4, 6]),
    "ConstantLR": lambda o: lr.ConstantLR(o, total_iters=5),
    "LinearLR": lambda o: lr.LinearLR(o, total_iters=7),
    "ExponentialLR": lambda o: lr.ExponentialLR(o, 0.93),
    "PolynomialLR": lambda o: lr.PolynomialLR(o, 9, 2.0),
    "CosineAnnealingLR": lambda o: lr.CosineAnnealingLR(o, 5),
    "CosineAnnealingWarmRestarts": lambda o: lr.CosineAnnealingWarmRestarts(o, 3, 2),
    "CyclicLR": lambda o: lr.CyclicLR(o, 0.01, 0.1, 3),
    "CyclicLR exp_range": lambda o: lr.CyclicLR(o, 0.01, 0.1, 3, mode="exp_range", gamma=0.9),
    "CyclicLR of an object": lambda o: lr.CyclicLR(o, 0.01, 0.1, 3, scale_fn=Decay()),
    "OneCycleLR": lambda o: lr.OneCycleLR(o, 0.1, total_steps=12),
    "OneCycleLR three_phase": lambda o: lr.OneCycleLR(
        o, 0.1, total_steps=12, three_phase=True, anneal_strategy="linear"
    ),
    "ReduceLROnPlateau": lambda o: lr.ReduceLROnPlateau(o, patience=1, cooldown=1),
    "SequentialLR": lambda o: lr.SequentialLR(o, [lr.ConstantLR(o, 0.1, 2), lr.ExponentialLR(o, 0.9)], [2]),
    "ChainedScheduler": lambda o: lr.ChainedScheduler([lr.ConstantLR(o, 0.1, 2), lr.MultiStepLR(o, [3, 5])]),
    "SWALR": lambda o: SWALR(o, 0.05, 4, "linear"),
}
RATES: dict[str, Callable[[], Any]] = {"float": lambda: 0.1, "tensor": lambda: torch.tensor(0.1)}


def job(scheduler: str, rate: str, seed: int) -> tuple[dict[str, Any], Callable[[int], None]]:
    torch.manual_seed(seed)
    model = nn.Linear(4, 2)
    groups = [{"params": [model.weight]}, {"params": [model.bias], "lr": RATES[rate]()}]
    optimizer = torch.optim.SGD(groups, lr=RATES[rate](), momentum=0.9)
    schedule = SCHEDULERS[scheduler](optimizer)

    def train(step: int) -> None:
        optimizer.zero_grad()
        loss = model(torch.full((2, 4), 1.0 / (step + 1))).square().sum()
        loss.backward()
        optimizer.step()
        schedule.step(*([abs(4 - step)] if isinstance(schedule, lr.ReduceLROnPlateau) else []))

    return {"model": model, "scheduler": schedule, "optimizer": optimizer}, train


def test_every_scheduler_of_torch_is_here() -> None:
    kinds = {
        name
        for name in dir(lr)
        if isinstance(kind := getattr(lr, name), type) and issubclass(kind, lr.LRScheduler) and name[0] != "_"
    }
    assert kinds - {"LRScheduler"} <= {name.split()[0] for name in SCHEDULERS}


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_learning_rate_goes_on(name: str, rate: str) -> None:
    state, train = job(name, rate, seed=1)
    for step in range(4):
        train(step)
    again, train_again = job(name, rate, seed=2)
    mirror_in(again, mirror_out(state))
    for step in range(4, 9):
        assert mirror_out(again) == mirror_out(state)
        train(step)
        train_again(step)
        rates = [[group["lr"] for group in each["optimizer"].param_groups] for each in (state, again)]
        assert rates[0] == rates[1]
    assert torch.equal(state["model"].weight, again["model"].weight)


def test_the_rate_in_the_groups_wins_over_a_scheduler_that_sets_it_as_it_loads() -> None:
    class Eager(lr.StepLR):
        def load_state_dict(self, state: dict[str, Any]) -> None:
            super().load_state_dict(state)
            for group in self.optimizer.param_groups:
                group["lr"] = 123.0

    def eager() -> dict[str, Any]:
        optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.5)
        return {"optimizer": optimizer, "scheduler": Eager(optimizer, 3)}

    saved, now = eager(), eager()
    saved["optimizer"].param_groups[0]["lr"] = 0.125
    mirror_in(now, mirror_out(saved))
    assert now["optimizer"].param_groups[0]["lr"] == 0.125


def test_another_scheduler_is_refused() -> None:
    saved, _ = job("StepLR", "float", 1)
    now, _ = job("ExponentialLR", "float", 1)
    assert "scheduler: a StepLR then, a ExponentialLR now" in refusal(saved, now)


@pytest.mark.parametrize("average", [None, get_ema_multi_avg_fn(0.9)])
def test_averaged_models(average: Any) -> None:
    def averaged(seed: int) -> dict[str, nn.Module]:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
        return {"model": model, "ema": AveragedModel(model, multi_avg_fn=average, use_buffers=True)}

    def advance(state: dict[str, Any], step: int) -> None:
        state["model"](torch.full((4, 3), float(step)) + torch.arange(4.0)[:, None])
        with torch.no_grad():
            state["model"][0].weight.mul_(0.9).add_(step)
        state["ema"].update_parameters(state["model"])

    saved, now = averaged(1), averaged(2)
    for step in range(3):
        advance(saved, step)
    mirror_in(now, mirror_out(saved))
    for step in range(3, 6):
        advance(saved, step)
        advance(now, step)
    assert mirror_out(now) == mirror_out(saved)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_gradient_scaler(enabled: bool) -> None:
    def scaled() -> tuple[dict[str, Any], Callable[[float], None]]:
        model = nn.Linear(2, 1)
        with torch.no_grad():
            model.weight.fill_(0.5)
            model.bias.fill_(0.25)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2, enabled=enabled)

        def train(value: float) -> None:
            optimizer.zero_grad()
            scaler.scale(model(torch.full((1, 2), value)).sum()).backward()
            scaler.step(optimizer)
            scaler.update()

        return {"model": model, "optimizer": optimizer, "scaler": scaler}, train

    saved, train = scaled()
    now, train_again = scaled()
    for value in (1.0, 2.0, float("inf"), 3.0):
        train(value)
    mirror_in(now, mirror_out(saved))
    assert now["scaler"].state_dict() == saved["scaler"].state_dict()
    for value in (4.0, 5.0, float("nan"), 6.0):
        train(value)
        train_again(value)
    assert mirror_out(now) == mirror_out(saved)
