"""The layers that keep weights, and those that move or pool values (Darknet: src/*_layer.c).

Every layer takes one tensor, ``[batch, channels, height, width]`` or ``[batch, values]``, and the shapes
have been checked when the ``.cfg`` was parsed. Parameters and buffers have Darknet's names.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody uses
from torch import nn

from plinius.darknet.activations import activate, activate_fresh
from plinius.darknet.normalization import normalize, normalize_batch
from plinius.darknet.sections import Active, Connected, Convolutional, Crop, Dropout, Maxpool, Upsample
from plinius.darknet.shapes import Shape, pool_borders


def _random(shape: tuple[int, ...], scale: float, generator: torch.Generator | None, *, normal: bool) -> nn.Parameter:
    """Draws weights; from a given generator they are the same whatever device the network is built on."""
    weights = torch.empty(shape)
    if weights.is_meta:
        return nn.Parameter(weights)
    drawn = torch.empty(shape, device=generator.device if generator else None)
    if normal:
        drawn.normal_(0.0, scale, generator=generator)
    else:
        drawn.uniform_(-scale, scale, generator=generator)
    return nn.Parameter(drawn.to(weights.device))


class Weighted(nn.Module):
    """What convolutional and connected layers share: biases, or batch normalization, and the activation."""

    weights: nn.Parameter
    scales: torch.Tensor
    rolling_mean: torch.Tensor
    rolling_variance: torch.Tensor

    def __init__(self, section: Convolutional | Connected, outputs: int) -> None:
        super().__init__()
        self.section = section
        self.biases = nn.Parameter(torch.zeros(outputs))
        if section.batch_normalize:
            self.scales = nn.Parameter(torch.ones(outputs))
            self.register_buffer("rolling_mean", torch.zeros(outputs))
            # Zero, as Darknet has it: what an untrained network predicts means nothing.
            self.register_buffer("rolling_variance", torch.zeros(outputs))

    def statistics(self) -> list[torch.Tensor]:
        """What batch normalization keeps, in the order of a ``.weights`` file."""
        return [self.scales, self.rolling_mean, self.rolling_variance] if self.section.batch_normalize else []

    def finish(self, x: torch.Tensor) -> torch.Tensor:
        """Normalizes, where the section asks for it, and activates; ``x`` may be overwritten."""
        if self.section.batch_normalize:
            rolling = self.rolling_mean, self.rolling_variance
            if self.training:
                x = normalize_batch(x, self.scales, self.biases, *rolling)
            else:
                x = normalize(x, *rolling, self.scales, self.biases)
        return activate_fresh(x, self.section.activation)


class ConvolutionalLayer(Weighted):
    """``[convolutional]`` (Darknet: src/convolutional_layer.c).

    Its weights are ``[filters, channels / groups, size, size]``.
    """

    section: Convolutional

    def __init__(self, section: Convolutional, inputs: Shape, generator: torch.Generator | None) -> None:
        super().__init__(section, section.filters)
        shape = (section.filters, inputs.channels // section.groups, section.size, section.size)
        fan_in = math.prod(shape[1:])
        self.weights = _random(shape, math.sqrt(2.0 / fan_in), generator, normal=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps ``[batch, channels, height, width]`` to the section's output shape."""
        section = self.section
        # Channels last makes a training step about a fifth faster on a CPU. The weights are small: they are
        # rearranged on each call, and keep Darknet's own order at rest.
        weights = self.weights.contiguous(memory_format=torch.channels_last)
        biases = None if section.batch_normalize else self.biases
        x = F.conv2d(x, weights, biases, section.stride, section.padding, groups=section.groups)
        return self.finish(x)

    def saved(self) -> list[torch.Tensor]:
        """What a ``.weights`` file holds, in order."""
        return [self.biases, *self.statistics(), self.weights]


class ConnectedLayer(Weighted):
    """``[connected]`` (Darknet: src/connected_layer.c); weights ``[output, inputs]``."""

    section: Connected

    def __init__(self, section: Connected, inputs: Shape, generator: torch.Generator | None) -> None:
        super().__init__(section, section.output)
        scale = math.sqrt(2.0 / inputs.size)
        self.weights = _random((section.output, inputs.size), scale, generator, normal=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps ``[batch, ...]`` to ``[batch, output, 1, 1]``."""
        biases = None if self.section.batch_normalize else self.biases
        return self.finish(F.linear(x.flatten(1), self.weights, biases))[:, :, None, None]

    def saved(self) -> list[torch.Tensor]:
        """What a ``.weights`` file holds, in order."""
        return [self.biases, self.weights, *self.statistics()]


class BatchnormLayer(nn.Module):
    """``[batchnorm]`` (Darknet: src/batchnorm_layer.c).

    Darknet neither updates its scales and biases nor saves its biases, so that here they are no parameters.
    Its CPU version crashes on this layer; this is what its GPU version computes.
    """

    scales: torch.Tensor
    biases: torch.Tensor
    rolling_mean: torch.Tensor
    rolling_variance: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("scales", torch.ones(channels))
        self.register_buffer("biases", torch.zeros(channels), persistent=False)
        self.register_buffer("rolling_mean", torch.zeros(channels))
        self.register_buffer("rolling_variance", torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalizes ``[batch, channels, height, width]``."""
        if self.training:
            return normalize_batch(x, self.scales, self.biases, self.rolling_mean, self.rolling_variance)
        return normalize(x, self.rolling_mean, self.rolling_variance, self.scales, self.biases)

    def saved(self) -> list[torch.Tensor]:
        """What a ``.weights`` file holds, in order."""
        return [self.scales, self.rolling_mean, self.rolling_variance]


class MaxpoolLayer(nn.Module):
    """``[maxpool]`` (Darknet: src/maxpool_layer.c): cells outside the input never win."""

    def __init__(self, section: Maxpool, inputs: Shape, output: Shape) -> None:
        super().__init__()
        self.size, self.stride = section.size, section.stride
        before, (below, right) = pool_borders(section, inputs, output)
        self.borders = (before, right, before, below)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps ``[batch, channels, height, width]`` to the windows' largest values."""
        if any(self.borders):
            x = F.pad(x, self.borders, value=-math.inf)
        return F.max_pool2d(x, self.size, self.stride)


class AvgpoolLayer(nn.Module):
    """``[avgpool]`` (Darknet: src/avgpool_layer.c)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps ``[batch, channels, height, width]`` to ``[batch, channels, 1, 1]``."""
        return x.mean((2, 3), keepdim=True)


class DropoutLayer(nn.Module):
    """``[dropout]`` (Darknet: src/dropout_layer.c), drawing from PyTorch's own generator."""

    def __init__(self, section: Dropout) -> None:
        super().__init__()
        self.probability = section.probability

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drops values of any shape, in training only."""
        return F.dropout(x, self.probability, self.training)


class UpsampleLayer(nn.Module):
    """``[upsample]`` (Darknet: src/upsample_layer.c, src/blas.c)."""

    def __init__(self, section: Upsample) -> None:
        super().__init__()
        self.stride, self.scale = section.stride, section.scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps ``[batch, channels, height, width]`` to the section's output shape."""
        if self.stride < 0:
            summed = F.avg_pool2d(x, -self.stride, divisor_override=1)
            return self.scale * summed
        return self.scale * x.repeat_interleave(self.stride, 2).repeat_interleave(self.stride, 3)


class CropLayer(nn.Module):
    """``[crop]`` (Darknet: src/crop_layer.c): one place, and one toss for the flip, for a whole batch.

    As in Darknet's CPU version, angle, saturation, exposure and shift change nothing.
    """

    def __init__(self, section: Crop) -> None:
        super().__init__()
        self.section = section

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps ``[batch, channels, height, width]`` to ``[batch, channels, crop_height, crop_width]``."""
        section = self.section
        spare = x.shape[2] - section.crop_height, x.shape[3] - section.crop_width
        if self.training:
            top, left = (int(torch.randint(cells + 1, ())) for cells in spare)
            x = x.flip(3) if section.flip and torch.randint(2, ()) else x
        else:
            top, left = (cells // 2 for cells in spare)
        x = x[:, :, top : top + section.crop_height, left : left + section.crop_width]
        return x if section.noadjust else 2 * x - 1


class ActivationLayer(nn.Module):
    """``[activation]`` (Darknet: src/activation_layer.c)."""

    def __init__(self, section: Active) -> None:
        super().__init__()
        self.activation = section.activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the function to each value of any shape."""
        return activate(x, self.activation)
