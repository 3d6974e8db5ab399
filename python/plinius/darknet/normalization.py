"""Batch normalization with Darknet's arithmetic (Darknet: src/batchnorm_layer.c, src/blas.c).

Darknet's differs from the usual one. The batch variance is the unbiased one; forward divides by
``sqrt(variance) + 1e-6``, but backward by ``sqrt(variance + 1e-5)``, and it takes its means over all values.
All of this is kept, in forward and backward, by giving PyTorch's fused kernels the statistics that make them
compute it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody uses

from plinius.errors import ConfigError

_MOMENTUM = 0.01
_FORWARD_EPSILON = 1e-6
_BACKWARD_EPSILON = 1e-5


def normalize(
    x: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor, scales: torch.Tensor, biases: torch.Tensor
) -> torch.Tensor:
    """Normalizes with given statistics, in one pass of a scale and a shift for each channel.

    Args:
        x: ``[batch, channels, ...]``, float32.
        mean: ``[channels]``.
        variance: ``[channels]``.
        scales: ``[channels]``, applied after the division.
        biases: ``[channels]``, added last.

    Returns:
        ``(x - mean) / (sqrt(variance) + 1e-6) * scales + biases``, the shape of ``x``.
    """
    # The kernel divides by sqrt(variance + eps); (s + e)^2 is s^2 + 2es + e^2.
    wider = variance + 2 * _FORWARD_EPSILON * variance.sqrt()
    return F.batch_norm(x, mean, wider, scales, biases, training=False, eps=_FORWARD_EPSILON**2)


class _BatchNormalization(torch.autograd.Function):
    """Normalizes with the batch's statistics; backward is Darknet's, not forward's exact derivative."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        scales: torch.Tensor,
        biases: torch.Tensor,
        rolling_mean: torch.Tensor,
        rolling_variance: torch.Tensor,
    ) -> torch.Tensor:
        count = x.numel() // x.shape[1]
        # The rolling statistics take the unbiased variance already; what is returned is biased.
        mean, biased = torch.batch_norm_update_stats(x, rolling_mean, rolling_variance, _MOMENTUM)
        variance = biased * (count / (count - 1))
        ctx.save_for_backward(x, scales, mean, variance)
        return normalize(x, mean, variance, scales, biases)

    @staticmethod
    def backward(ctx: Any, delta: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, scales, mean, variance = ctx.saved_tensors
        divisor = (variance + _BACKWARD_EPSILON).sqrt()
        wanted = list(ctx.needs_input_grad[:3])
        x_delta, scales_delta, biases_delta = torch.ops.aten.native_batch_norm_backward(
            delta, x, scales, None, None, mean, divisor.reciprocal(), True, 0.0, wanted
        )
        if scales_delta is not None:
            # Only here does Darknet's backward use what forward divided by.
            scales_delta = scales_delta * (divisor / (variance.sqrt() + _FORWARD_EPSILON))
        return x_delta, scales_delta, biases_delta, None, None


def normalize_batch(
    x: torch.Tensor,
    scales: torch.Tensor,
    biases: torch.Tensor,
    rolling_mean: torch.Tensor,
    rolling_variance: torch.Tensor,
) -> torch.Tensor:
    """Normalizes with the batch's own statistics, and moves the rolling ones by a hundredth towards them.

    Args:
        x: ``[batch, channels, ...]``, float32.
        scales: ``[channels]``.
        biases: ``[channels]``.
        rolling_mean: ``[channels]``, changed.
        rolling_variance: ``[channels]``, changed.

    Returns:
        The shape of ``x``.

    Raises:
        ConfigError: If there is one value for each channel, which has no variance.
    """
    if x.numel() == x.shape[1]:
        raise ConfigError("batch normalization cannot train on one value for each channel: use a larger batch")
    normalized: torch.Tensor = _BatchNormalization.apply(  # type: ignore[no-untyped-call]
        x, scales, biases, rolling_mean, rolling_variance
    )
    return normalized
