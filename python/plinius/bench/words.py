"""Numbers as an experiment says them."""

from __future__ import annotations


def rounded(value: float) -> str:
    """Three figures that count, without an exponent: 1270 is ``1,270``, 0.01234 is ``0.0123``."""
    return f"{float(f'{value:.3g}'):,.10g}"


def counted(count: int, what: str) -> str:
    """A number and what it counts: ``1 kill``, ``2 kills``."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def each(every: int) -> str:
    """How often something is done: ``after each step``, ``every 10 steps``."""
    return "after each step" if every == 1 else f"every {every:,} steps"
