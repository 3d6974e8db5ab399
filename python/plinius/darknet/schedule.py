"""The learning rate of each iteration (Darknet: src/network.c, get_current_rate)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from plinius.darknet.net import Net, Policy
from plinius.errors import ConfigError

_EXP_MAX = 700.0
"""Above this, ``math.exp`` overflows; the rate is zero long before."""


@dataclass(frozen=True)
class Schedule:
    """The learning rate as a function of the iteration alone, so that it needs no state to resume.

    Iterations count from 1: Darknet counts a batch as seen before it updates with it, so the first update
    has the rate of iteration 1. ``random`` is no policy here, because a resumed run could not repeat it.
    Darknet's ``sigmoid`` subtracts unsigned numbers and gives 0 before ``step``; here it is the sigmoid that
    was meant.
    """

    net: Net

    def rate(self, iteration: int) -> float:
        """Gives the learning rate.

        Args:
            iteration: The update's number, from 1.

        Returns:
            The rate; 0 beyond ``max_batches`` under ``poly``, where Darknet's would rise again.

        Raises:
            ConfigError: If the rate has grown beyond all numbers.
        """
        net = self.net
        try:
            if iteration < net.burn_in:
                return float(net.learning_rate * (iteration / net.burn_in) ** net.power)
            return net.learning_rate * self._factor(iteration)
        except OverflowError:
            message = f"the learning rate overflows at iteration {iteration}: lower scale, scales or gamma"
            raise ConfigError(message, section="net") from None

    def _factor(self, iteration: int) -> float:
        net = self.net
        match net.policy:
            case Policy.STEP:
                return float(net.scale ** (iteration // net.step))
            case Policy.STEPS:
                return self._steps_factor(iteration)
            case Policy.EXP:
                return float(net.gamma**iteration)
            case Policy.POLY:
                return float(max(0.0, 1.0 - iteration / net.max_batches) ** net.power)
            case Policy.SIGMOID:
                return 1.0 / (1.0 + math.exp(min(net.gamma * (iteration - net.step), _EXP_MAX)))
            case Policy.CONSTANT:
                return 1.0

    def _steps_factor(self, iteration: int) -> float:
        factor = 1.0
        for step, scale in zip(self.net.steps, self.net.scales, strict=True):
            if step > iteration:
                break
            factor *= scale
        return factor
