"""Turn counters in steps of time into series for plots: which step a range gets, rates, percentiles, gaps. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from dispatcher.admin.figures import EndpointSeries, Series, Totals, Values
from dispatcher.store.figures import Step
from dispatcher.tally import CLASSES, LATENCIES

MINUTE, QUARTER = 60, 900
"""Seconds: what is written by the minute and by the quarter of an hour."""

STEPS: Final = (MINUTE, 300, QUARTER, 3600, 21600, 86400)
"""Seconds a step: the first that fits is taken."""

MOST_STEPS: Final = 180
"""Points in a plot: an hour in minutes, a day in quarters of an hour, a week in hours, a month in quarters of a day."""

MINUTES_LAST: Final = 172_800
"""Seconds for which the service's minutes are kept, see `prune.MINUTES_KEPT`."""

SETTLED: Final = 10
"""Seconds: a step that runs for less tells nothing yet, because workers write every five."""

FAILURES: Final = CLASSES[1:]
"""Classes of attempts that failed, in the order in which a plot stacks them: 3xx, 4xx, 5xx, unreachable, blocked."""

SHOWN: Final = (0.5, 0.95, 0.99)
"""Percentiles."""


@dataclass(frozen=True, slots=True)
class Span:
    """A range of time in steps; all in unix seconds."""

    step: int
    times: tuple[int, ...]
    """When each step begins."""
    now: float

    @property
    def until(self) -> int:
        """The end of the last step."""
        return self.times[-1] + self.step

    @property
    def resolution(self) -> int:
        """Of the counters that it is made from."""
        return MINUTE if self.step < QUARTER else QUARTER

    def seconds(self, start: int) -> float | None:
        """Tell for how long a step has run; null: too short to tell anything of it."""
        seconds = min(self.step, self.now - start)
        return seconds if seconds >= min(SETTLED, self.step) else None


def span_of(since: float, until: float, *, now: float, finest: int) -> Span:
    """Divide a range into steps of at least `finest` seconds; what lies ahead of `now` is left out."""
    until = min(until, now)
    if since < now - MINUTES_LAST:
        finest = max(finest, QUARTER)
    step = next(
        (step for step in STEPS if step >= finest and until - since <= step * MOST_STEPS),
        STEPS[-1],
    )
    first = int(since // step) * step
    return Span(step, tuple(range(first, max(int(-(-until // step)) * step, first + step), step)), now)


def series_of(steps: Iterable[Step], span: Span) -> Series:
    """Make a series of counters; without latencies and backlog where the counters have none."""
    row = _Rows(steps, span)
    return Series(
        step=span.step,
        times=span.times,
        delivered=row.rates(0),
        failed={name: row.rates(place) for place, name in enumerate(CLASSES) if place},
        deaths=row.values(lambda step: step.dead),
        cancelled=row.values(lambda step: step.cancelled),
        p50=row.values(lambda step: percentile(step.latencies, SHOWN[0])),
        p95=row.values(lambda step: percentile(step.latencies, SHOWN[1])),
        p99=row.values(lambda step: percentile(step.latencies, SHOWN[2])),
        due=row.values(lambda step: step.due),
        oldest_due=row.values(lambda step: step.oldest_due_seconds),
        in_flight=row.values(lambda step: step.in_flight),
    )


def endpoint_series_of(steps: Sequence[Step], span: Span) -> EndpointSeries:
    """Make an endpoint's series of counters."""
    by_start = {step.start: step for step in steps}
    found = [by_start.get(start) for start in span.times]

    def counts(place: int) -> tuple[int | None, ...]:
        return tuple(None if step is None else step.attempts[place] for step in found)

    return EndpointSeries(
        step=span.step,
        times=span.times,
        delivered=counts(0),
        failed={name: counts(place) for place, name in enumerate(CLASSES) if place},
        deaths=tuple(None if step is None else step.dead for step in found),
        totals=totals_of(steps, whole=False),
    )


class _Rows:
    """The counters of each step of a span."""

    def __init__(self, steps: Iterable[Step], span: Span) -> None:
        by_start = {step.start: step for step in steps}
        self._rows = [(by_start.get(start), span.seconds(start)) for start in span.times]

    def rates(self, place: int) -> Values:
        """Return attempts of a class a second."""
        return tuple(
            None if step is None or seconds is None else round(step.attempts[place] / seconds, 4)
            for step, seconds in self._rows
        )

    def values(self, of: Callable[[Step], float | None]) -> Values:
        """Return what can be read off each step."""
        return tuple(None if step is None else of(step) for step, _ in self._rows)


def totals_of(steps: Sequence[Step], *, whole: bool) -> Totals:
    """Add steps up; `whole`: they are the service's, with latencies and cancellations."""
    attempts = [sum(step.attempts[place] for step in steps) for place in range(len(CLASSES))]
    latencies = [0] * max((len(step.latencies) for step in steps), default=0)
    for step in steps:
        for place, count in enumerate(step.latencies):
            latencies[place] += count
    p50, p95, p99 = (percentile(latencies, part) for part in SHOWN)
    return Totals(
        delivered=attempts[0],
        failed=dict(zip(FAILURES, attempts[1:], strict=True)),
        deaths=sum(step.dead for step in steps),
        cancelled=sum(step.cancelled or 0 for step in steps) if whole else None,
        p50=p50,
        p95=p95,
        p99=p99,
    )


def percentile(latencies: Sequence[int], part: float) -> float | None:
    """Read a percentile (0 to 1) off counts by `LATENCIES`, milliseconds; null where nothing was counted.

    Within a class they are taken for evenly spread; what is behind the last bound counts as that long.
    """
    total = sum(latencies)
    if not total:
        return None
    wanted, passed = part * total, 0
    for place, count in enumerate(latencies):
        if count and passed + count >= wanted:
            low = LATENCIES[min(place, len(LATENCIES)) - 1] if place else 0.0
            high = LATENCIES[min(place, len(LATENCIES) - 1)]
            return round(1000 * (low + (high - low) * (wanted - passed) / count), 1)
        passed += count
    return 1000 * LATENCIES[-1]
