"""Numbers as the rows of an experiment say them."""

from __future__ import annotations


def rounded(value: float) -> str:
    """Three figures that count, without an exponent: 1270 is ``1,270``, 0.01234 is ``0.0123``."""
    return f"{float(f'{value:.3g}'):,.10g}"
