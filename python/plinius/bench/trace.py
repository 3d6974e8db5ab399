"""When a spot instance ran, and what it cost: traces of availability, and price histories with a bid.

Three forms are read:

- JSON of the spot traces of Wu et al. (NSDI 2024): ``{"metadata": {"gap_seconds": 600}, "data": [1, 0, ...]}``, the
  instances that were available at each tick; ``prices``, in dollars an hour at each tick, may be beside it.
- The JSON of ``aws ec2 describe-spot-price-history``, of one market. It ran while the price was at most the bid.
- The same as TSV (``--output text``).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from plinius.errors import ConfigError

_MAX_BYTES: Final = 1 << 25
_MAX_ENTRIES: Final = 1_000_000
_MAX_GAP_S: Final = 7 * 86_400
_TSV_COLUMNS: Final = ("SPOTPRICEHISTORY", "AvailabilityZone", "InstanceType", "ProductDescription", "SpotPrice")
_WANTED: Final = "give a spot trace (metadata.gap_seconds and data) or AWS spot price history, JSON or TSV"

Price = Annotated[float, Meta(ge=0, le=1e6)]
Word = Annotated[str, Meta(max_length=200)]


class Span(NamedTuple):
    """A time in which nothing changed, in seconds from the trace's beginning; the price is in dollars an hour."""

    begins_s: float
    ends_s: float
    running: bool
    price: float | None


class _Metadata(msgspec.Struct):
    gap_seconds: Annotated[float, Meta(gt=0, le=_MAX_GAP_S)]


class _Quote(msgspec.Struct, rename="pascal"):
    availability_zone: Word
    instance_type: Word
    product_description: Word
    spot_price: Price
    timestamp: Annotated[datetime, Meta(tz=True)]

    @property
    def market(self) -> tuple[str, str, str]:
        return self.availability_zone, self.instance_type, self.product_description


class _File(msgspec.Struct):
    metadata: _Metadata | None = None
    data: Annotated[list[Annotated[int, Meta(ge=0)]], Meta(max_length=_MAX_ENTRIES)] | None = None
    prices: Annotated[list[Price], Meta(max_length=_MAX_ENTRIES)] | None = None
    quotes: Annotated[list[_Quote], Meta(max_length=_MAX_ENTRIES)] | None = msgspec.field(
        default=None, name="SpotPriceHistory"
    )


@dataclass(frozen=True)
class Trace:
    """A trace, or a part of one.

    Attributes:
        name: Of its file, or what it is in words.
        spans: One after the other, without gaps; neighbours differ.
        chosen: It is a part, chosen by `part`.
    """

    name: str
    spans: Sequence[Span]
    chosen: bool = False

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.spans[-1].ends_s - self.spans[0].begins_s

    @property
    def running_s(self) -> float:
        """How long of that the instance ran."""
        return sum(span.ends_s - span.begins_s for span in self.spans if span.running)

    @property
    def cost(self) -> float | None:
        """Dollars for the time that it ran, at the market's price; None where there are no prices."""
        found = [(span.price, span.ends_s - span.begins_s) for span in self.spans if span.running]
        return None if any(price is None for price, _ in found) else sum((p or 0) * s / 3600 for p, s in found)

    @property
    def lives(self) -> list[tuple[float, float]]:
        """From each start to the preemption (or the end), whatever the price did in between."""
        found: list[tuple[float, float]] = []
        for span in self.spans:
            if not span.running:
                continue
            begins_s = found.pop()[0] if found and found[-1][1] == span.begins_s else span.begins_s
            found.append((begins_s, span.ends_s))
        return found

    def part(self, preemptions: int) -> Trace:
        """The part with so many preemptions in which the shortest life is the longest, as a share of the part.

        A trace that is compressed leaves a short life no time for a start. The part begins with a start, and ends just
        before one more preemption.
        """
        lives = self.lives
        count = min(preemptions + 1, len(lives))

        def shortest(first: int) -> float:
            some = lives[first : first + count]
            return min(end - begin for begin, end in some) / (some[-1][1] - some[0][0])

        first = max(range(len(lives) - count + 1), key=shortest)
        return self._cut(lives[first][0], lives[first + count - 1][1])

    def _cut(self, begins_s: float, ends_s: float) -> Trace:
        kept = [
            Span(max(span.begins_s, begins_s) - begins_s, min(span.ends_s, ends_s) - begins_s, span.running, span.price)
            for span in self.spans
            if span.begins_s < ends_s and span.ends_s > begins_s
        ]
        return Trace(self.name, kept, chosen=True)


def made(name: str, spans: Sequence[Span]) -> Trace:
    """A trace of spans; neighbours that are alike become one.

    Raises:
        ConfigError: It never runs.
    """
    joined: list[Span] = []
    for span in spans:
        if span.begins_s == span.ends_s:
            continue
        if joined and joined[-1][2:] == span[2:]:
            joined[-1] = joined[-1]._replace(ends_s=span.ends_s)
        else:
            joined.append(span)
    if not any(span.running for span in joined):
        raise ConfigError("training is never possible in this trace", path=name)
    return Trace(name, joined)


def read(path: str, bid: float | None = None) -> Trace:
    """Reads a trace.

    Args:
        path: The file.
        bid: What is paid at most, in dollars an hour.

    Raises:
        ConfigError: The file cannot be read or is no trace, or a bid is missing or has no prices to go with.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", path=path) from None
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"a trace has at most {_MAX_BYTES >> 20} MiB", path=path)
    found = _parsed(content, path)
    if found.quotes is not None:
        return made(path, _of_quotes(found.quotes, bid, path))
    if found.metadata is None or not found.data:
        raise ConfigError(f"this is no trace; {_WANTED}", path=path)
    return made(path, _of_ticks(found.metadata.gap_seconds, found.data, found.prices, bid, path))


def _parsed(content: bytes, path: str) -> _File:
    try:
        if content.startswith(b"SPOTPRICEHISTORY\t"):
            return _File(quotes=_rows(content))
        # AWS writes prices as text.
        return msgspec.convert(msgspec.json.decode(content), _File, strict=False)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, csv.Error) as error:
        raise ConfigError(f"this is no trace ({error}); {_WANTED}", path=path) from None


def _rows(content: bytes) -> list[_Quote]:
    names = (*_TSV_COLUMNS, "Timestamp")
    lines = csv.DictReader(io.StringIO(content.decode()), names, delimiter="\t", restkey="more")
    return msgspec.convert([dict(line) for line in lines], list[_Quote], strict=False)


def _of_quotes(quotes: Sequence[_Quote], bid: float | None, path: str) -> list[Span]:
    markets = {quote.market for quote in quotes}
    if len(markets) > 1:
        raise ConfigError(f"this file has the prices of {len(markets)} markets; keep one", path=path)
    if len({quote.timestamp for quote in quotes}) < 2:  # noqa: PLR2004 (a beginning and an end)
        raise ConfigError("a price history has at least two moments", path=path)
    if bid is None:
        raise ConfigError("a price history needs a bid: --bid DOLLARS_AN_HOUR", path=path)
    quotes = sorted(quotes, key=lambda quote: quote.timestamp)
    begun = quotes[0].timestamp
    # How long the last price was good for is not in the file.
    return [
        Span(
            (one.timestamp - begun).total_seconds(),
            (after.timestamp - begun).total_seconds(),
            one.spot_price <= bid,
            one.spot_price,
        )
        for one, after in pairwise(quotes)
    ]


def _of_ticks(
    gap_s: float, data: Sequence[int], prices: Sequence[float] | None, bid: float | None, path: str
) -> list[Span]:
    if prices is not None and len(prices) != len(data):
        raise ConfigError(f"this trace has {len(data)} ticks and {len(prices)} prices", path=path)
    if bid is not None and prices is None:
        raise ConfigError("this trace has no prices: leave --bid out", path=path)
    costs: Sequence[float | None] = prices or [None] * len(data)
    limit = math.inf if bid is None else bid
    return [
        Span(tick * gap_s, (tick + 1) * gap_s, count > 0 and (price is None or price <= limit), price)
        for tick, (count, price) in enumerate(zip(data, costs, strict=True))
    ]
