"""Draws where an attempt's time went: look-up, connecting, TLS, waiting, reading, one bar behind the other."""

from dataclasses import dataclass
from typing import Final

from dispatcher.admin import AttemptRow

WIDTH: Final = 560.0
"""Of the whole time, in the picture's own units."""

LEFT: Final = 110.0
"""Room for the names before the bars."""

ROW: Final = 22.0


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of the time."""

    label: str
    milliseconds: float
    x: float
    width: float
    y: float


@dataclass(frozen=True, slots=True)
class Waterfall:
    """The picture of one attempt."""

    bars: tuple[Bar, ...]
    total: float
    """Milliseconds."""
    height: float


def waterfall(attempt: AttemptRow) -> Waterfall | None:
    """Measure the bars; None where nothing was timed."""
    timings = attempt.timings
    if timings is None:
        return None
    parts = [
        ("Look-up", timings.lookup),
        ("Connect", timings.connect),
        ("TLS", timings.tls),
        ("Waiting", timings.first_byte),
    ]
    told = [(label, value) for label, value in parts if value is not None and (value > 0 or not timings.reused)]
    known = sum(value for _, value in told)
    total = max(float(attempt.milliseconds), known, 1.0)
    if timings.first_byte is not None:
        told.append(("Reading", total - known))
    elif total - known >= 1:
        told.append(("No answer", total - known))
    bars, at = [], 0.0
    for row, (label, value) in enumerate(told):
        bars.append(Bar(label, value, LEFT + at / total * WIDTH, max(value / total * WIDTH, 1.5), 4 + row * ROW))
        at += value
    return Waterfall(tuple(bars), total, 8 + len(bars) * ROW)
