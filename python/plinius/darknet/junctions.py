"""The layers that take the output of layers further up (Darknet: src/route_layer.c, src/shortcut_layer.c)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from plinius.darknet.activations import activate, activate_fresh
from plinius.darknet.sections import Route, Shortcut
from plinius.darknet.shapes import Shape


class RouteLayer(nn.Module):
    """``[route]``: layers joined channel after channel, or value after value where sizes differ."""

    def __init__(self, section: Route, output: Shape) -> None:
        super().__init__()
        self.sources = section.layers
        self.is_image = output.is_image

    def forward(self, x: torch.Tensor, sources: Sequence[torch.Tensor]) -> torch.Tensor:
        """Joins ``sources``, each ``[batch, ...]``; what came just before, ``x``, does not matter."""
        del x
        return torch.cat(list(sources) if self.is_image else [source.flatten(1) for source in sources], dim=1)


class ShortcutLayer(nn.Module):
    """``[shortcut]``: an addition; of unequal layers, what they have in common.

    A larger source is sampled with a stride, a smaller one is spread out, and only the channels that both
    have are added (Darknet: src/blas.c, shortcut_cpu). The rest of the input is not even multiplied by
    ``alpha``.
    """

    def __init__(self, section: Shortcut, inputs: Shape, source: Shape) -> None:
        super().__init__()
        self.section = section
        self.sources = (section.source,)
        self.plain = inputs == source and section.alpha == section.beta == 1.0
        channels = slice(0, min(inputs.channels, source.channels))
        rows = _common(inputs.height, source.height)
        columns = _common(inputs.width, source.width)
        self.input_part = (slice(None), channels, rows[0], columns[0])
        self.source_part = (slice(None), channels, rows[1], columns[1])

    def forward(self, x: torch.Tensor, sources: Sequence[torch.Tensor]) -> torch.Tensor:
        """Adds the one source to ``x``, both ``[batch, channels, height, width]``."""
        section, (source,) = self.section, sources
        if self.plain:
            return activate_fresh(x + source, section.activation)
        part = section.alpha * x[self.input_part] + section.beta * source[self.source_part]
        total = x.clone()
        total[self.input_part] = part
        return activate(total, section.activation)


def _common(cells: int, source_cells: int) -> tuple[slice, slice]:
    """Which cells of the input, and of the source, are added."""
    sample, stride = max(1, cells // source_cells), max(1, source_cells // cells)
    count = min(cells, source_cells)
    return slice(0, count * sample, sample), slice(0, count * stride, stride)
