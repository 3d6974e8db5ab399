"""Darknet's stochastic gradient descent (Darknet: src/convolutional_layer.c, update_convolutional_layer).

Darknet keeps ``updates``, the negative gradient summed over the batch plus what momentum left. An update
adds ``-decay * batch * weights`` to those of weights, but not of biases and scales; adds ``rate / batch *
updates`` to the values; and multiplies ``updates`` by the momentum. Divided by ``-batch``, this is
``torch.optim.SGD`` on the mean gradient without dampening, to the letter.
"""

from __future__ import annotations

import torch

from plinius.darknet.cfg import Config
from plinius.darknet.layers import Weighted
from plinius.darknet.network import Network
from plinius.errors import ConfigError


def make_optimizer(network: Network, config: Config) -> torch.optim.SGD:
    """Makes the optimizer; its rate is 0 until ``set_rate``.

    Args:
        network: The network.
        config: Where momentum, decay and the sections' own learning rates come from.

    Returns:
        SGD with two groups for each distinct learning rate among the sections: weights, which decay, and
        biases and scales, which do not.
    """
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for layer in network.layers:
        if not isinstance(layer, Weighted):
            continue
        rate_scale = layer.section.learning_rate_scale
        for name, parameter in layer.named_parameters():
            decay = config.net.decay if name == "weights" else 0.0
            groups.setdefault((rate_scale, decay), []).append(parameter)
    return torch.optim.SGD(
        [
            {"params": parameters, "weight_decay": decay, "rate_scale": rate_scale}
            for (rate_scale, decay), parameters in groups.items()
        ],
        lr=0.0,
        momentum=config.net.momentum,
    )


def set_rate(optimizer: torch.optim.SGD, rate: float) -> None:
    """Sets the learning rate of the next update, multiplied by each section's own.

    Args:
        optimizer: What ``make_optimizer`` returned.
        rate: What ``Schedule.rate`` gives for this iteration.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_scale"]


def accumulate_gradients(network: Network, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Adds the mean gradient of one whole batch, taken in as many parts as the ``.cfg`` has subdivisions.

    Batch normalization sees each part for itself, as in Darknet.

    Args:
        network: The network, in training mode.
        images: ``[batch, channels, height, width]``, float32.
        labels: ``[batch]`` class indices, or ``[batch, outputs]`` truth vectors.

    Returns:
        The mean loss, a scalar without gradient.

    Raises:
        ConfigError: If the batch cannot be divided into equal parts.
    """
    parts = network.config.net.subdivisions
    if len(images) % parts:
        message = f"subdivisions = {parts} does not divide a batch of {len(images)}"
        raise ConfigError(message, path=network.config.path, section="net")
    total = torch.zeros((), device=images.device)
    for images_part, labels_part in zip(images.chunk(parts), labels.chunk(parts), strict=True):
        loss = network.loss(images_part, labels_part) / parts
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total
