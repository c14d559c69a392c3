"""The first page: how things stand, and how they went."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from aiohttp import web

from dispatcher.admin import Series
from dispatcher.console.view import Page, View

RANGES: Final[Mapping[str, timedelta]] = {
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}

USUAL: Final = "1h"

WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "3xx": ("3xx", "calm"),
    "4xx": ("4xx", "warn"),
    "5xx": ("5xx", "bad"),
    "unreachable": ("no answer", "accent"),
    "blocked": ("blocked address", "calm"),
}
"""How classes of failures are called and coloured."""


async def show(view: View) -> web.StreamResponse:
    """Show how things stand, and went over a range of time."""
    chosen = view.given("range") or USUAL
    span = RANGES.get(chosen, RANGES[USUAL])
    now = view.admin.now()
    overview = await view.admin.overview(since=now - span, until=now)
    return view.render(
        "overview.html",
        now=overview.now,
        totals=overview.totals,
        plots=_plots(overview.series),
        words=WORDS,
        ranges=tuple(RANGES),
        chosen=chosen if chosen in RANGES else USUAL,
    )


def _plots(series: Series) -> Sequence[tuple[str, str, Mapping[str, Any]]]:
    """Put the series into pictures: id, title, and what console.js draws."""
    failed = [
        _line(WORDS.get(name, (name, "bad"))[0], WORDS.get(name, (name, "bad"))[1], values, dashed=True)
        for name, values in series.failed.items()
        if any(values)
    ]
    return (
        (
            "rate",
            "Attempts a second, by answer",
            _plot(series, "/s", [_line("2xx", "good", series.delivered), *failed]),
        ),
        (
            "latency",
            "How long attempts took",
            _plot(
                series,
                "ms",
                [
                    _line("p50", "good", series.p50),
                    _line("p95", "accent", series.p95, dashed=True),
                    _line("p99", "bad", series.p99, dashed=True),
                ],
            ),
        ),
        ("backlog", "Deliveries due", _plot(series, "", [_line("due", "accent", series.due)])),
        ("age", "For how long the oldest was due", _plot(series, "s", [_line("oldest", "warn", series.oldest_due)])),
        (
            "deaths",
            "Deaths",
            _plot(series, "", [_line("died", "bad", series.deaths), _line("cancelled", "calm", series.cancelled)]),
        ),
        ("flight", "Requests under way", _plot(series, "", [_line("in flight", "accent", series.in_flight)])),
    )


def _plot(series: Series, unit: str, lines: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return {"unit": unit, "times": series.times, "lines": lines}


def _line(label: str, colour: str, values: Sequence[float | None], *, dashed: bool = False) -> Mapping[str, Any]:
    rounded = [None if value is None else round(value, 3) for value in values]
    return {"label": label, "colour": colour, "values": rounded, "dashed": dashed}


PAGES: Final = (Page("overview", "/", show),)
