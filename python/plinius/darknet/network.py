"""A Darknet network as a PyTorch module (Darknet: src/network.c)."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import nn

from plinius.darknet import layers, sections
from plinius.darknet.cfg import Config
from plinius.darknet.junctions import RouteLayer, ShortcutLayer
from plinius.darknet.loss import CostLayer, SoftmaxLayer
from plinius.darknet.shapes import Shape
from plinius.errors import ConfigError

_FLOAT_BYTES = 4


class Network(nn.Module):
    """The layers of a ``.cfg`` file with Darknet's initial weights.

    In training mode a dropped output is dropped for ``[route]`` and ``[shortcut]`` too, because Darknet's
    ``[dropout]`` works in place.

    Args:
        config: What ``parse`` returned.
        generator: Where the initial weights come from; PyTorch's own generator when None.

    Raises:
        ConfigError: If the weights alone are larger than the machine's memory.
    """

    def __init__(self, config: Config, generator: torch.Generator | None = None) -> None:
        super().__init__()
        _check_memory(config)
        self.config = config
        inputs = (config.input_shape, *config.shapes)
        self.layers = nn.ModuleList(
            _make_layer(section, inputs[index], config.shapes, index, generator)
            for index, section in enumerate(config.sections)
        )
        self._buffers_of = _shared_buffers(config.sections)
        self._kept = {
            self._buffers_of[source]
            for layer in self.layers
            if isinstance(layer, RouteLayer | ShortcutLayer)
            for source in layer.sources
        }

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Predicts (Darknet: network_predict).

        Args:
            images: ``[batch, channels, height, width]``, float32, as ``[net]`` says.

        Returns:
            ``[batch, outputs]``, the last layer's output: probabilities after a ``[softmax]``.

        Raises:
            ConfigError: If the images have another shape.
        """
        return self._run(images, [], for_loss=False)

    def loss(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Compares predictions with the truth, for training.

        Args:
            images: ``[batch, channels, height, width]``, float32, as ``[net]`` says.
            labels: ``[batch]`` class indices, int64, or ``[batch, outputs]`` truth vectors, float32.

        Returns:
            A scalar, the mean over the batch: the cross-entropy where the network ends with a ``[softmax]``.
            Its gradient is what Darknet's update divides by the batch, with several costs the sum of theirs.

        Raises:
            ConfigError: If the images or labels have another shape, or the network has no ``[softmax]`` or
                ``[cost]``.
        """
        outputs = self.config.outputs
        if labels.shape not in ((len(images),), (len(images), outputs)):
            wanted = f"[{len(images)}] or [{len(images)}, {outputs}]"
            raise ConfigError(f"the labels have the shape {list(labels.shape)}, not {wanted}", path=self.config.path)
        compared: list[tuple[SoftmaxLayer | CostLayer, torch.Tensor]] = []
        self._run(images, compared, for_loss=True)
        if not compared:
            message = "there is no [softmax] and no [cost] to train with: add one at the end"
            raise ConfigError(message, path=self.config.path)
        total = torch.stack([layer.loss(x, labels) for layer, x in compared]).sum()
        return total / len(images)

    def _run(
        self,
        images: torch.Tensor,
        compared: list[tuple[SoftmaxLayer | CostLayer, torch.Tensor]],
        *,
        for_loss: bool,
    ) -> torch.Tensor:
        """Runs all layers; ``compared`` receives each layer that has a loss, with its input."""
        self._check_images(images)
        x = images
        kept: dict[int, torch.Tensor] = {}
        for layer, place in zip(self.layers, self._buffers_of, strict=True):
            if isinstance(layer, SoftmaxLayer | CostLayer) and layer.has_loss:
                compared.append((layer, x))
            if isinstance(layer, RouteLayer | ShortcutLayer):
                x = layer(x, [kept[self._buffers_of[source]] for source in layer.sources])
            elif for_loss and isinstance(layer, SoftmaxLayer):
                x = layer.forward_for_loss(x)
            else:
                x = layer(x)
            if place in self._kept:
                kept[place] = x
        return x.flatten(1)

    def _check_images(self, images: torch.Tensor) -> None:
        shape = self.config.input_shape
        if images.shape[1:] != (shape.channels, shape.height, shape.width):
            message = f"the images have the shape {list(images.shape)}, but [net] says [batch, {shape}]"
            raise ConfigError(message, path=self.config.path)


def _shared_buffers(all_sections: Sequence[sections.Section]) -> list[int]:
    """Gives, for each layer, whose output buffer it writes: its own, or for ``[dropout]`` the one before."""
    buffers: list[int] = []
    for index, section in enumerate(all_sections):
        buffers.append(buffers[-1] if isinstance(section, sections.Dropout) else index)
    return buffers


def _check_memory(config: Config) -> None:
    if torch.get_default_device().type == "meta":
        return
    needed_bytes = config.parameters * _FLOAT_BYTES
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed_bytes > memory_bytes:
        message = f"the weights take {needed_bytes} bytes, but this machine has {memory_bytes}: use fewer filters"
        raise ConfigError(message, path=config.path)


def _make_layer(  # noqa: PLR0911, PLR0912 - one case for each section
    section: sections.Section,
    inputs: Shape,
    shapes: Sequence[Shape],
    index: int,
    generator: torch.Generator | None,
) -> nn.Module:
    match section:
        case sections.Convolutional():
            return layers.ConvolutionalLayer(section, inputs, generator)
        case sections.Connected():
            return layers.ConnectedLayer(section, inputs, generator)
        case sections.Batchnorm():
            return layers.BatchnormLayer(inputs.channels)
        case sections.Maxpool():
            return layers.MaxpoolLayer(section, inputs, shapes[index])
        case sections.Avgpool():
            return layers.AvgpoolLayer()
        case sections.Dropout():
            return layers.DropoutLayer(section)
        case sections.Upsample():
            return layers.UpsampleLayer(section)
        case sections.Crop():
            return layers.CropLayer(section)
        case sections.Active():
            return layers.ActivationLayer(section)
        case sections.Route():
            return RouteLayer(section, shapes[index])
        case sections.Shortcut():
            return ShortcutLayer(section, inputs, shapes[section.source])
        case sections.Softmax():
            return SoftmaxLayer(section)
        case sections.Cost():
            return CostLayer(section)
        case _:
            raise AssertionError(f"no layer for {section}")
