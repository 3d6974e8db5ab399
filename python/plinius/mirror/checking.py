"""What a mirror is given, checked; and what it warns of."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np

from plinius.errors import ConfigError
from plinius.mirror.manifest import Facts
from plinius.pool import PoolFile
from plinius.seal import Key
from plinius.state.tree import named

_MAX_NAME_BYTES: Final = 200
_MAX_STEP: Final = 1 << 63
_ADVICE: Final = {
    "every": "mirror every step (1) or every few steps (2, 3, ...)",
    "keep": "keep one generation or more",
    "drain_every": "drain every step (1) or every few steps (2, 3, ...)",
}


class ExactnessWarning(UserWarning):
    """Training goes on, but not to the very same bits: something differs from the run that saved the state."""


class RollbackWarning(UserWarning):
    """Nothing outside the pool knows how new its newest state is, so an older pool would be accepted."""


def check_options(pool: object, key: object, name: str, counts: Mapping[str, int], state: Mapping[str, object]) -> None:
    """Checks what a mirror is made with.

    Raises:
        TypeError: There is no pool or no key.
        ConfigError: An option or the name is out of range, or there is no state.
    """
    if not isinstance(pool, PoolFile) or not isinstance(key, Key):
        raise TypeError("a mirror needs an open pool and a key: Mirror(Pool(path), Key.load(path), ...)")
    for option, count in counts.items():
        if not isinstance(count, (int, np.integer)) or count < 1:
            raise ConfigError(f"{option}={count!r}: {_ADVICE[option]}")
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name.encode()) <= _MAX_NAME_BYTES:
        raise ConfigError(f"a mirror's name is printable text of 1 to {_MAX_NAME_BYTES} bytes, not {name!r}")
    if not state:
        raise ConfigError("a mirror needs state: give it model=, optimizer=, ...")


def checked_facts(facts: Facts | None) -> dict[str, str | int | float | None]:
    """The facts, all of them such as a restore will read.

    Raises:
        ConfigError: They are no mapping, or one of them is no plain value or cannot be written.
    """
    if facts is None:
        return {}
    if not isinstance(facts, Mapping):
        raise ConfigError(f"facts are a dict of plain values, not {named(facts)}")
    for name, value in facts.items():
        if type(name) is not str or type(value) not in (str, int, float, bool, type(None)):
            raise ConfigError(
                f"facts: {name!r}: {named(value)}; facts have names, and are text, numbers, bools or None"
            )
        try:
            msgspec.msgpack.encode((name, value))
        except (OverflowError, UnicodeEncodeError) as error:
            raise ConfigError(f"facts: {name!r} cannot be written: {error}") from None
    return dict(facts)


def checked_step(step: int) -> int:
    """The number of a step.

    Raises:
        ConfigError: It is none, or out of range.
    """
    try:
        number = operator.index(step)
    except TypeError:
        raise ConfigError(f"a step is a whole number, not {step!r}") from None
    if not 0 <= number < _MAX_STEP:
        raise ConfigError(f"step {number} is not between 0 and 2^63")
    return number
