"""Learning rates; ``tests/integration/test_darknet_reference.py`` compares them with Darknet's."""

from __future__ import annotations

import pytest
from plinius.darknet.cfg import parse
from plinius.darknet.schedule import Schedule
from plinius.errors import ConfigError


def schedule(keys: str) -> Schedule:
    net = f"[net]\nheight=1\nwidth=1\nchannels=1\nlearning_rate=.5\n{keys}\n"
    return Schedule(parse(f"{net}[connected]".encode(), "a.cfg").net)


@pytest.mark.parametrize(
    ("keys", "iteration", "rate"),
    [
        ("policy=constant", 77, 0.5),
        ("policy=step\nstep=10\nscale=.1", 9, 0.5),
        ("policy=step\nstep=10\nscale=.1", 10, 0.05),
        ("policy=steps\nsteps=10,20\nscales=.1,.1", 9, 0.5),
        ("policy=steps\nsteps=10,20\nscales=.1,.1", 10, 0.05),
        ("policy=steps\nsteps=10,20\nscales=.1,.1", 20, 0.005),
        ("policy=exp\ngamma=.5", 3, 0.0625),
        ("policy=poly\nmax_batches=100\npower=2", 50, 0.125),
        ("policy=poly\nmax_batches=100", 50, 0.03125),
        ("policy=poly\nmax_batches=100", 100, 0.0),
        ("policy=poly\nmax_batches=100", 150, 0.0),
        ("policy=sigmoid\ngamma=.5\nstep=10", 10, 0.25),
        ("policy=sigmoid\ngamma=100\nstep=1", 1000, 0.0),
        ("policy=constant\nburn_in=10\npower=2", 5, 0.125),
        ("policy=constant\nburn_in=10\npower=2", 10, 0.5),
        ("policy=exp\ngamma=.5\nburn_in=2", 1, 0.03125),
        ("policy=exp\ngamma=.5\nburn_in=2", 2, 0.125),
    ],
)
def test_rate(keys: str, iteration: int, rate: float) -> None:
    assert schedule(keys).rate(iteration) == pytest.approx(rate, abs=1e-12)


def test_sigmoid_before_its_step_is_the_sigmoid_that_was_meant() -> None:
    assert schedule("policy=sigmoid\ngamma=.5\nstep=100").rate(1) == pytest.approx(0.5)


def test_a_rate_beyond_all_numbers_is_refused() -> None:
    with pytest.raises(ConfigError, match="overflows at iteration 5000"):
        schedule("policy=exp\ngamma=2").rate(5000)
