"""The layers of a ``.cfg`` file as typed values, with Darknet's own defaults (Darknet: src/parser.c).

Every field's metadata says how its text is read (see ``values``). A key that Darknet knows and that is not a
field here is in ``must_be`` (accepted only with the value that changes nothing) or in ``ignored`` (read, not
applied).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from plinius.darknet.values import INT_MAX, choice, flag, number, positive, series, whole


class Activation(StrEnum):
    """The activation functions (Darknet: src/activations.h)."""

    LINEAR = "linear"
    LOGISTIC = "logistic"
    LOGGY = "loggy"
    RELU = "relu"
    ELU = "elu"
    SELU = "selu"
    RELIE = "relie"
    RAMP = "ramp"
    LEAKY = "leaky"
    TANH = "tanh"
    PLSE = "plse"
    STAIR = "stair"
    HARDTAN = "hardtan"
    LHTAN = "lhtan"


class CostType(StrEnum):
    """The costs of a classifier or regressor (Darknet: src/cost_layer.c)."""

    SSE = "sse"
    L1 = "L1"
    SMOOTH = "smooth"


_REFUSED_COSTS = dict.fromkeys(("masked", "seg", "wgan"), "is not for classifiers, and not supported here")


@dataclass(frozen=True, kw_only=True)
class Section:
    """What every section but ``[net]`` has.

    ``learning_rate`` in a section multiplies the network's, and so is called ``learning_rate_scale`` here.
    """

    line: int
    learning_rate_scale: float = field(default=1.0, metadata=number(0.0, key="learning_rate"))

    ignored: ClassVar[frozenset[str]] = frozenset()
    must_be: ClassVar[Mapping[str, float]] = {
        "dontload": 0,
        "dontloadscales": 0,
        "dontsave": 0,
        "numload": 0,
        "onlyforward": 0,
        "smooth": 0,
        "stopbackward": 0,
        "truth": 0,
    }

    @classmethod
    def complete(cls, values: dict[str, Any], index: int) -> dict[str, Any]:
        """Fills in what depends on another key or on the section's own place ``index``."""
        del index
        return values


@dataclass(frozen=True, kw_only=True)
class Convolutional(Section):
    """``[convolutional]``; ``padding`` is what is applied, ``pad=1`` having been turned into ``size/2``."""

    filters: int = field(default=1, metadata=whole(1))
    size: int = field(default=1, metadata=whole(1))
    stride: int = field(default=1, metadata=whole(1))
    groups: int = field(default=1, metadata=whole(1))
    pad: bool = field(default=False, metadata=flag())
    padding: int = field(default=0, metadata=whole())
    batch_normalize: bool = field(default=False, metadata=flag())
    activation: Activation = field(default=Activation.LOGISTIC, metadata=choice(Activation))

    must_be: ClassVar[Mapping[str, float]] = {
        **Section.must_be,
        "binary": 0,
        "dot": 0,
        "flipped": 0,
        "xnor": 0,
    }

    @classmethod
    def complete(cls, values: dict[str, Any], index: int) -> dict[str, Any]:
        """``pad=1`` overrules ``padding``."""
        del index
        return values | {"padding": values.get("size", 1) // 2} if values.get("pad") else values


@dataclass(frozen=True, kw_only=True)
class Connected(Section):
    """``[connected]``: every input to every output."""

    output: int = field(default=1, metadata=whole(1))
    batch_normalize: bool = field(default=False, metadata=flag())
    activation: Activation = field(default=Activation.LOGISTIC, metadata=choice(Activation))


@dataclass(frozen=True, kw_only=True)
class Maxpool(Section):
    """``[maxpool]``; ``padding`` is the sum of both sides, the smaller half of it on the left and the top."""

    stride: int = field(default=1, metadata=whole(1))
    size: int = field(default=1, metadata=whole(1))
    padding: int = field(default=0, metadata=whole())

    @classmethod
    def complete(cls, values: dict[str, Any], index: int) -> dict[str, Any]:
        """``size`` is ``stride`` unless given, and ``padding`` is ``size - 1``."""
        del index
        size = values.get("size", values.get("stride", 1))
        return {"size": size, "padding": size - 1} | values


@dataclass(frozen=True, kw_only=True)
class Avgpool(Section):
    """``[avgpool]``: the mean of each channel."""


@dataclass(frozen=True, kw_only=True)
class Dropout(Section):
    """``[dropout]``: each input is dropped with ``probability``, and the others are scaled up."""

    probability: float = field(default=0.5, metadata=number(0.0, 1.0))


@dataclass(frozen=True, kw_only=True)
class Softmax(Section):
    """``[softmax]`` over each of ``groups`` equal runs of the inputs, with its cost unless ``noloss=1``."""

    groups: int = field(default=1, metadata=whole(1))
    temperature: float = field(default=1.0, metadata=positive())
    noloss: bool = field(default=False, metadata=flag())

    must_be: ClassVar[Mapping[str, float]] = {**Section.must_be, "spatial": 0}


@dataclass(frozen=True, kw_only=True)
class Cost(Section):
    """``[cost]`` between the predictions and the truth."""

    type: CostType = field(default=CostType.SSE, metadata=choice(CostType, _REFUSED_COSTS))
    scale: float = field(default=1.0, metadata=number())

    must_be: ClassVar[Mapping[str, float]] = {**Section.must_be, "noobj": 1, "ratio": 0, "thresh": 0}


def _earlier(key: str, place: int, index: int) -> int:
    absolute = index + place if place < 0 else place
    if not 0 <= absolute < index:
        choices = f"give 0 to {index - 1}, or -1 to -{index} counted back" if index else "there is none"
        raise ValueError(f"{key} = {place} does not name a layer before this one, layer {index}: {choices}")
    return absolute


@dataclass(frozen=True, kw_only=True)
class Shortcut(Section):
    """``[shortcut]``: ``alpha`` times the input plus ``beta`` times the output of layer ``source``."""

    source: int = field(metadata=whole(-INT_MAX, key="from"))
    alpha: float = field(default=1.0, metadata=number())
    beta: float = field(default=1.0, metadata=number())
    activation: Activation = field(default=Activation.LINEAR, metadata=choice(Activation))

    @classmethod
    def complete(cls, values: dict[str, Any], index: int) -> dict[str, Any]:
        """A negative ``from`` counts back from this layer."""
        if "source" in values:
            values = values | {"source": _earlier("from", values["source"], index)}
        return values


@dataclass(frozen=True, kw_only=True)
class Route(Section):
    """``[route]``: the outputs of ``layers``, counted from 0, joined channel after channel."""

    layers: tuple[int, ...] = field(metadata=series(-INT_MAX, wholes=True))

    @classmethod
    def complete(cls, values: dict[str, Any], index: int) -> dict[str, Any]:
        """Negative ``layers`` count back from this layer."""
        if "layers" in values:
            values = values | {"layers": tuple(_earlier("layers", place, index) for place in values["layers"])}
        return values


@dataclass(frozen=True, kw_only=True)
class Upsample(Section):
    """``[upsample]``: values repeated ``stride`` times each way; with a negative one, blocks summed."""

    stride: int = field(default=2, metadata=whole(-INT_MAX))
    scale: float = field(default=1.0, metadata=number())


@dataclass(frozen=True, kw_only=True)
class Crop(Section):
    """``[crop]``: the centre, in training a random place; moved to [-1, 1] unless ``noadjust``."""

    crop_height: int = field(default=1, metadata=whole(1))
    crop_width: int = field(default=1, metadata=whole(1))
    flip: bool = field(default=False, metadata=flag())
    noadjust: bool = field(default=False, metadata=flag())

    ignored: ClassVar[frozenset[str]] = frozenset({"angle", "exposure", "saturation", "shift"})


@dataclass(frozen=True, kw_only=True)
class Batchnorm(Section):
    """``[batchnorm]`` on its own."""


@dataclass(frozen=True, kw_only=True)
class Active(Section):
    """``[activation]`` on its own."""

    activation: Activation = field(default=Activation.LINEAR, metadata=choice(Activation))


SECTIONS: Mapping[str, type[Section]] = {
    "convolutional": Convolutional,
    "conv": Convolutional,
    "connected": Connected,
    "conn": Connected,
    "maxpool": Maxpool,
    "max": Maxpool,
    "avgpool": Avgpool,
    "avg": Avgpool,
    "dropout": Dropout,
    "softmax": Softmax,
    "soft": Softmax,
    "cost": Cost,
    "shortcut": Shortcut,
    "route": Route,
    "upsample": Upsample,
    "crop": Crop,
    "batchnorm": Batchnorm,
    "activation": Active,
}
"""The layers that are trained here, under every name that Darknet takes."""

UNSUPPORTED = frozenset(
    {
        "crnn",
        "deconv",
        "deconvolutional",
        "detection",
        "gru",
        "iseg",
        "l2norm",
        "local",
        "logistic",
        "lrn",
        "lstm",
        "normalization",
        "region",
        "reorg",
        "rnn",
        "yolo",
    }
)
"""The layers that Darknet has and that are not trained here."""
