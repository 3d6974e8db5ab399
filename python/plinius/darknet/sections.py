"""The sections of a ``.cfg`` file as typed values, with Darknet's own defaults (Darknet: src/parser.c).

Every field's metadata says how its text is read (see ``values``). A key that Darknet knows and that is not a field
here is in ``must_be`` (accepted only with the value that changes nothing) or in ``ignored`` (read, not applied).
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


class Policy(StrEnum):
    """The learning-rate policies that can be resumed exactly (Darknet: src/network.c, get_current_rate)."""

    CONSTANT = "constant"
    STEP = "step"
    STEPS = "steps"
    EXP = "exp"
    POLY = "poly"
    SIGMOID = "sigmoid"


class CostType(StrEnum):
    """The costs of a classifier or regressor (Darknet: src/cost_layer.c)."""

    SSE = "sse"
    L1 = "L1"
    SMOOTH = "smooth"


_REFUSED_POLICIES = {"random": "could not be repeated by a run that resumes"}
_REFUSED_COSTS = dict.fromkeys(("masked", "seg", "wgan"), "is not for classifiers, and not supported here")


@dataclass(frozen=True, kw_only=True)
class Net:
    """``[net]``: the input, the batch and the learning rate. ``batch`` is the whole batch of one update."""

    line: int
    batch: int = field(default=1, metadata=whole(1))
    subdivisions: int = field(default=1, metadata=whole(1))
    height: int = field(metadata=whole(1))
    width: int = field(metadata=whole(1))
    channels: int = field(metadata=whole(1))
    inputs: int | None = field(default=None, metadata=whole(1))
    learning_rate: float = field(default=0.001, metadata=number(0.0))
    momentum: float = field(default=0.9, metadata=number(0.0, 1.0))
    decay: float = field(default=0.0001, metadata=number(0.0))
    policy: Policy = field(default=Policy.CONSTANT, metadata=choice(Policy, _REFUSED_POLICIES))
    burn_in: int = field(default=0, metadata=whole())
    power: float = field(default=4.0, metadata=number(0.0))
    step: int = field(default=1, metadata=whole(1))
    scale: float = field(default=1.0, metadata=number(0.0))
    steps: tuple[int, ...] = field(default=(), metadata=series(0, wholes=True))
    scales: tuple[float, ...] = field(default=(), metadata=series(0.0, wholes=False))
    gamma: float = field(default=1.0, metadata=number(0.0))
    max_batches: int = field(default=0, metadata=whole())

    ignored: ClassVar[frozenset[str]] = frozenset(
        "angle aspect center exposure hue max_crop max_ratio min_crop min_ratio random saturation".split()
    )
    must_be: ClassVar[Mapping[str, float]] = {"adam": 0, "clip": 0, "notruth": 0, "time_steps": 1}


@dataclass(frozen=True, kw_only=True)
class Section:
    """What every section but ``[net]`` has.

    ``learning_rate`` in a section multiplies the network's, and so is called ``learning_rate_scale`` here.
    """

    line: int
    learning_rate_scale: float = field(default=1.0, metadata=number(0.0, key="learning_rate"))

    ignored: ClassVar[frozenset[str]] = frozenset()
    must_be: ClassVar[Mapping[str, float]] = dict.fromkeys(
        "dontload dontloadscales dontsave numload onlyforward smooth stopbackward truth".split(), 0
    )

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
        raise ValueError(
            f"{key} = {place} does not name an earlier layer: this is layer {index}, so give 0 to {index - 1}, "
            f"or -1 to -{index} counted back"
            if index
            else f"{key} = {place} does not name an earlier layer: this is the first layer"
        )
    return absolute


@dataclass(frozen=True, kw_only=True)
class Shortcut(Section):
    """``[shortcut]``: ``alpha`` times the input plus ``beta`` times the output of layer ``source``, from 0."""

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
            values = values | {
                "layers": tuple(_earlier("layers", place, index) for place in values["layers"])
            }
        return values


@dataclass(frozen=True, kw_only=True)
class Upsample(Section):
    """``[upsample]``: each value repeated ``stride`` times each way; with a negative ``stride``, blocks summed."""

    stride: int = field(default=2, metadata=whole(-INT_MAX))
    scale: float = field(default=1.0, metadata=number())


@dataclass(frozen=True, kw_only=True)
class Crop(Section):
    """``[crop]``: the centre (in training: a random place), moved from [0, 1] to [-1, 1] unless ``noadjust``."""

    crop_height: int = field(default=1, metadata=whole(1))
    crop_width: int = field(default=1, metadata=whole(1))
    flip: bool = field(default=False, metadata=flag())
    noadjust: bool = field(default=False, metadata=flag())

    ignored: ClassVar[frozenset[str]] = frozenset("angle exposure saturation shift".split())


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

NET_NAMES = frozenset({"net", "network"})

UNSUPPORTED = frozenset(
    "crnn deconv deconvolutional detection gru iseg l2norm local logistic lrn lstm normalization region reorg rnn "
    "yolo".split()
)
"""The layers that Darknet has and that are not trained here."""
