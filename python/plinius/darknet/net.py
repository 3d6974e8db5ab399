"""The ``[net]`` section: input, batch and learning rate (Darknet: src/parser.c, parse_net_options)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from plinius.darknet.values import choice, number, series, whole

NET_NAMES = frozenset({"net", "network"})
"""What Darknet takes as this section's name."""


class Policy(StrEnum):
    """The learning-rate policies that can be resumed exactly (Darknet: src/network.c, get_current_rate)."""

    CONSTANT = "constant"
    STEP = "step"
    STEPS = "steps"
    EXP = "exp"
    POLY = "poly"
    SIGMOID = "sigmoid"


_REFUSED_POLICIES = {"random": "could not be repeated by a run that resumes"}
_AUGMENTATION = frozenset({"angle", "aspect", "center", "exposure", "hue", "random", "saturation"})
_CROPS = frozenset({"max_crop", "max_ratio", "min_crop", "min_ratio"})


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

    ignored: ClassVar[frozenset[str]] = _AUGMENTATION | _CROPS
    must_be: ClassVar[Mapping[str, float]] = {"adam": 0, "clip": 0, "notruth": 0, "time_steps": 1}
