"""The shape of every layer's output, and what does not fit together (Darknet: src/*_layer.c).

Darknet checks little of this: a mismatch there reads memory that is not its own. Here it is a
``ValueError``, to which ``cfg`` adds the place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plinius.darknet.sections import (
    Avgpool,
    Batchnorm,
    Connected,
    Convolutional,
    Cost,
    Crop,
    Dropout,
    Maxpool,
    Route,
    Section,
    Shortcut,
    Softmax,
    Upsample,
)


@dataclass(frozen=True)
class Shape:
    """One image's worth of a layer's output.

    ``is_image`` is False after ``[softmax]`` and after a ``[route]`` of unequal sizes: Darknet then only
    knows how many values there are, which stand in ``channels``.
    """

    channels: int
    height: int = 1
    width: int = 1
    is_image: bool = True

    @property
    def size(self) -> int:
        """Values per image."""
        return self.channels * self.height * self.width

    def __str__(self) -> str:
        return f"{self.channels}x{self.height}x{self.width}"


def output_shape(section: Section, inputs: Shape, earlier: Sequence[Shape]) -> Shape:
    """Works out one section's output.

    Args:
        section: The section.
        inputs: The output of the section before it, or the network's input.
        earlier: The outputs of all sections before it.

    Returns:
        The section's output for one image.

    Raises:
        ValueError: If the section cannot follow what is before it.
    """
    match section:
        case Connected(output=output):
            return Shape(output)
        case Softmax() | Cost():
            return _row(section, inputs)
        case Dropout():
            if not earlier:
                raise ValueError("a network cannot begin with [dropout]: Darknet drops the output of a layer")
            return inputs
        case Route(layers=layers):
            return _route([earlier[index] for index in layers])
        case Shortcut(source=source):
            return _shortcut(inputs, earlier[source])
        case _:
            return _image_output(section, inputs, is_first=not earlier)


def _row(section: Softmax | Cost, inputs: Shape) -> Shape:
    if isinstance(section, Softmax) and inputs.size % section.groups:
        raise ValueError(f"groups = {section.groups} does not divide the {inputs.size} inputs")
    return Shape(inputs.size, is_image=False)


def _image_output(section: Section, inputs: Shape, *, is_first: bool) -> Shape:
    match section:
        case Convolutional() | Maxpool() | Avgpool() | Upsample() | Crop() | Batchnorm() if not inputs.is_image:
            raise ValueError("the layer before this one must give an image, not a row of numbers")
        case Convolutional():
            return _convolutional(section, inputs)
        case Maxpool():
            return _maxpool(section, inputs)
        case Avgpool():
            return Shape(inputs.channels)
        case Upsample(stride=stride):
            return _upsample(stride, inputs)
        case Crop(crop_height=height, crop_width=width):
            if not is_first:
                raise ValueError("must be the first layer: Darknet trains nothing that is before it")
            if height > inputs.height or width > inputs.width:
                raise ValueError(f"crops {height}x{width} out of only {inputs.height}x{inputs.width}")
            return Shape(inputs.channels, height, width)
        case _:
            return inputs


def _convolutional(section: Convolutional, inputs: Shape) -> Shape:
    for name, count in (("channels before this layer", inputs.channels), ("filters", section.filters)):
        if count % section.groups:
            raise ValueError(f"groups = {section.groups} does not divide the {count} {name}")
    spans = [cells + 2 * section.padding - section.size for cells in (inputs.height, inputs.width)]
    if min(spans) < 0:
        raise ValueError(f"size = {section.size} is larger than the padded input, {inputs}: use pad=1 or less size")
    height, width = (span // section.stride + 1 for span in spans)
    return Shape(section.filters, height, width)


def _maxpool(section: Maxpool, inputs: Shape) -> Shape:
    cells_out = []
    for cells in (inputs.height, inputs.width):
        span = cells + section.padding - section.size
        if span < 0:
            raise ValueError(f"size = {section.size} is larger than the padded input, {inputs}")
        out = span // section.stride + 1
        before = section.padding // 2
        if before >= section.size or (out - 1) * section.stride - before >= cells:
            raise ValueError(f"padding = {section.padding} leaves a window without any input: use less")
        cells_out.append(out)
    return Shape(inputs.channels, cells_out[0], cells_out[1])


def _upsample(stride: int, inputs: Shape) -> Shape:
    if stride > 0:
        return Shape(inputs.channels, inputs.height * stride, inputs.width * stride)
    if stride == 0 or inputs.height % stride or inputs.width % stride:
        raise ValueError(f"stride = {stride} does not divide the input, {inputs}")
    return Shape(inputs.channels, inputs.height // -stride, inputs.width // -stride)


def _route(sources: Sequence[Shape]) -> Shape:
    first = sources[0]
    if all(shape.is_image and (shape.height, shape.width) == (first.height, first.width) for shape in sources):
        return Shape(sum(shape.channels for shape in sources), first.height, first.width)
    return Shape(sum(shape.size for shape in sources), is_image=False)


def _shortcut(inputs: Shape, source: Shape) -> Shape:
    if not (inputs.is_image and source.is_image):
        raise ValueError("both layers that are added must give images, not rows of numbers")
    steps = [(source.height // inputs.height, inputs.height // source.height)]
    steps.append((source.width // inputs.width, inputs.width // source.width))
    if steps[0] != steps[1]:
        raise ValueError(f"height and width of {source} must stand in the same ratio to those of {inputs}")
    return inputs


def largest_tensor(section: Section, inputs: Shape, output: Shape) -> int:
    """Counts the values per image of the largest tensor that a section makes."""
    if isinstance(section, Maxpool):
        before, (below, right) = pool_borders(section, inputs, output)
        padded_height, padded_width = inputs.height + before + below, inputs.width + before + right
        return max(output.size, inputs.channels * padded_height * padded_width)
    return output.size


def pool_borders(section: Maxpool, inputs: Shape, output: Shape) -> tuple[int, tuple[int, int]]:
    """Gives how many cells the windows reach over the input: above and left; and below, right."""
    before = section.padding // 2
    reach = section.size - before
    below = (output.height - 1) * section.stride + reach - inputs.height
    right = (output.width - 1) * section.stride + reach - inputs.width
    return before, (max(0, below), max(0, right))


def parameter_count(section: Section, inputs: Shape) -> int:
    """Counts the values that a section keeps in a ``.weights`` file."""
    match section:
        case Convolutional():
            weights = inputs.channels // section.groups * section.filters * section.size**2
            return weights + section.filters * (4 if section.batch_normalize else 1)
        case Connected():
            return inputs.size * section.output + section.output * (4 if section.batch_normalize else 1)
        case Batchnorm():
            return 3 * inputs.channels
        case _:
            return 0
