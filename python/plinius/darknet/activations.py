"""The activation functions on tensors (Darknet: src/activations.h).

Each is written so that automatic differentiation gives Darknet's gradient, at the kinks too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody uses

from plinius.darknet.sections import Activation

_SELU_SCALE = 1.0507
_SELU_ALPHA = 1.6732
_OUTER_SLOPE = 0.001
_PLSE_KNEE = 4.0


def _selu(x: torch.Tensor) -> torch.Tensor:
    # The clamp keeps the unused branch finite: an infinity there would make the other gradient NaN.
    negative = _SELU_SCALE * _SELU_ALPHA * torch.expm1(x.clamp(max=0.0))
    return torch.where(x >= 0, _SELU_SCALE * x, negative)


def _plse(x: torch.Tensor) -> torch.Tensor:
    outer = torch.where(x > 0, 0.01 * (x - _PLSE_KNEE) + 1, 0.01 * (x + _PLSE_KNEE))
    return torch.where(x.abs() > _PLSE_KNEE, outer, 0.125 * x + 0.5)


def _stair(x: torch.Tensor) -> torch.Tensor:
    floor = x.floor()
    flat = (torch.remainder(floor, 2) == 0) | (x == floor)
    return torch.where(flat, 0.0, x - floor) + (x / 2).floor()


def _lhtan(x: torch.Tensor) -> torch.Tensor:
    outer = torch.where(x <= 0, _OUTER_SLOPE * x, _OUTER_SLOPE * (x - 1) + 1)
    return torch.where((x > 0) & (x < 1), x, outer)


_FUNCTIONS: Mapping[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    Activation.LINEAR: lambda x: x,
    Activation.LOGISTIC: torch.sigmoid,
    Activation.LOGGY: lambda x: 2 * torch.sigmoid(x) - 1,
    Activation.RELU: F.relu,
    Activation.ELU: F.elu,
    Activation.SELU: _selu,
    Activation.RELIE: lambda x: F.leaky_relu(x, 0.01),
    Activation.RAMP: lambda x: F.relu(x) + 0.1 * x,
    Activation.LEAKY: lambda x: F.leaky_relu(x, 0.1),
    Activation.TANH: torch.tanh,
    Activation.PLSE: _plse,
    Activation.STAIR: _stair,
    Activation.HARDTAN: F.hardtanh,
    Activation.LHTAN: _lhtan,
}

_IN_PLACE: Mapping[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    Activation.RELU: F.relu_,
    Activation.LEAKY: lambda x: F.leaky_relu_(x, 0.1),
}


def activate(x: torch.Tensor, activation: Activation) -> torch.Tensor:
    """Applies an activation function, leaving ``x`` as it is.

    Args:
        x: Any shape, float32.
        activation: Which function.

    Returns:
        The same shape.
    """
    return _FUNCTIONS[activation](x)


def activate_fresh(x: torch.Tensor, activation: Activation) -> torch.Tensor:
    """As ``activate``, but may overwrite ``x``, which nobody else may hold: it saves a pass over memory."""
    return _IN_PLACE.get(activation, _FUNCTIONS[activation])(x)
