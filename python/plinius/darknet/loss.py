"""The layers that compare with the truth (Darknet: src/softmax_layer.c, src/cost_layer.c, src/blas.c).

Darknet does not differentiate a loss: it sends fixed differences down the network. The losses here are the
functions whose gradients those differences are, summed over the batch; the network divides by the batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody uses
from torch import nn

from plinius.darknet.sections import Cost, CostType, Softmax


class _PassedThrough(torch.autograd.Function):
    """Takes the value of one tensor and gives its gradient to another."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        del ctx, x
        return value.clone()

    @staticmethod
    def backward(ctx: Any, delta: torch.Tensor) -> tuple[torch.Tensor, None]:
        del ctx
        return delta, None


class SoftmaxLayer(nn.Module):
    """``[softmax]``: probabilities, ``[batch, values]``, and the cross-entropy with the truth."""

    def __init__(self, section: Softmax) -> None:
        super().__init__()
        self.groups, self.temperature = section.groups, section.temperature
        self.has_loss = not section.noloss

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps ``[batch, ...]`` to probabilities, ``[batch, values]``."""
        return torch.softmax(self._grouped(x), dim=2).flatten(1)

    def forward_for_loss(self, x: torch.Tensor) -> torch.Tensor:
        """The same values; but what later layers send back reaches ``x`` unchanged, as in Darknet."""
        with torch.no_grad():
            value = self(x)
        passed: torch.Tensor = _PassedThrough.apply(x.flatten(1), value)  # type: ignore[no-untyped-call]
        return passed

    def loss(self, x: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Gives the cross-entropy, times the temperature, summed over the batch.

        Darknet's difference is truth - prediction whatever the temperature, and whatever a group's truth
        adds up to.

        Args:
            x: What goes into the layer, ``[batch, ...]``.
            truth: ``[batch]`` class indices, or ``[batch, values]`` float32.

        Returns:
            A scalar, its gradient being prediction - truth.
        """
        grouped = self._grouped(x)
        if truth.dim() == 1 and self.groups == 1:
            return self.temperature * F.cross_entropy(grouped.squeeze(1), truth, reduction="sum")
        target = as_vectors(truth, grouped.shape[1] * grouped.shape[2]).reshape(grouped.shape)
        entropy = -(target * torch.log_softmax(grouped, dim=2)).sum()
        missing = 1 - target.sum(dim=2)
        return self.temperature * (entropy + (missing * torch.logsumexp(grouped, dim=2)).sum())

    def _grouped(self, x: torch.Tensor) -> torch.Tensor:
        scaled = x if self.temperature == 1.0 else x / self.temperature
        return scaled.reshape(x.shape[0], self.groups, -1)


class CostLayer(nn.Module):
    """``[cost]``: passes its input on, and compares it with the truth.

    ``smooth`` is as on Darknet's GPU: on its CPU, the differences above 1 have the wrong sign.
    """

    has_loss = True

    def __init__(self, section: Cost) -> None:
        super().__init__()
        self.section = section

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps ``[batch, ...]`` to ``[batch, values]``, unchanged."""
        return x.flatten(1)

    def loss(self, x: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Gives the cost, summed over the batch.

        Args:
            x: What goes into the layer, ``[batch, ...]``.
            truth: ``[batch]`` class indices, or ``[batch, values]`` float32.

        Returns:
            A scalar: half the squared error, the absolute error, or the Huber loss, times the section's
            scale.
        """
        prediction = x.flatten(1)
        target = as_vectors(truth, prediction.shape[1])
        match self.section.type:
            case CostType.SSE:
                total = 0.5 * (target - prediction).square().sum()
            case CostType.L1:
                # Not abs(): where both are equal, Darknet's difference is -1, not 0.
                difference = target - prediction
                total = torch.where(difference > 0, difference, -difference).sum()
            case CostType.SMOOTH:
                total = F.huber_loss(prediction, target, reduction="sum")
        return self.section.scale * total


def as_vectors(truth: torch.Tensor, size: int) -> torch.Tensor:
    """Turns class indices, ``[batch]``, into vectors, ``[batch, size]`` float32; vectors stay as they are."""
    return F.one_hot(truth, size).float() if truth.dim() == 1 else truth
