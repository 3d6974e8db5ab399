"""Options that several commands have, and what each refuses before anything is started."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from cyclopts import Parameter

from plinius.limits import MAX_KEPT, MAX_SEED, MAX_STEPS, MAX_THREADS


def not_empty(_: object, value: object) -> None:
    """Refuses an empty path or name, which no later message could quote.

    Raises:
        ValueError: It is empty, or one of several is.
    """
    if value == "" or (isinstance(value, list | tuple) and "" in value):
        raise ValueError("It is empty")


def from_to(low: int, high: int) -> Callable[[Any, int | None], None]:
    """Refuses numbers that are out of range.

    Args:
        low: The smallest that is taken.
        high: The largest.
    """

    def check(_: object, value: int | None) -> None:
        if value is not None and not low <= value <= high:
            raise ValueError(f"Choose a number from {low} to {high}")

    return check


def _job_name(_: object, value: str) -> None:
    if not re.fullmatch("[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", value):
        raise ValueError("A job's name has 1 to 100 of A-Z, a-z, 0-9, '.', '_' and '-', not '.' or '-' first")


def _sha256(_: object, value: str | None) -> None:
    if value is not None and not re.fullmatch("[0-9a-fA-F]{64}", value):
        raise ValueError("It is a SHA-256: 64 hexadecimal digits")


Code = Annotated[str, Parameter(validator=_sha256)]
Json = Annotated[bool, Parameter(help="Print JSON for machines.")]
JobName = Annotated[str, Parameter(validator=_job_name)]
Steps = Annotated[int, Parameter(validator=from_to(1, MAX_STEPS))]
Keep = Annotated[int, Parameter(validator=from_to(1, MAX_KEPT))]
Threads = Annotated[int, Parameter(validator=from_to(1, MAX_THREADS))]
Seed = Annotated[int, Parameter(validator=from_to(0, MAX_SEED))]
Restarts = Annotated[int, Parameter(validator=from_to(0, MAX_STEPS))]
