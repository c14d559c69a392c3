"""Count in memory what a worker's deliveries come to, until a step writes it down: by the minute for the whole service,
by the quarter of an hour for each endpoint. Adding is all that is done here: it lies on the way of every delivery.

These are statistics, not the record: what a killed process had not handed over is missing.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Protocol

from dispatcher.clock import Clock
from dispatcher.model import (
    Answered,
    Blocked,
    Delivery,
    DeliveryId,
    DeliveryState,
    Done,
    EndpointId,
    GiveUp,
    Judgement,
    Outcome,
    Unreachable,
)

MINUTE: Final = 60
"""Seconds that the service's counts are gathered over."""

QUARTER: Final = 900
"""Seconds that an endpoint's are: 96 rows a day, of ten thousand endpoints a million."""

CLASSES: Final = ("2xx", "3xx", "4xx", "5xx", "unreachable", "blocked")
"""What attempts come to, in the order in which they are counted."""

UNREACHABLE, BLOCKED = CLASSES.index("unreachable"), CLASSES.index("blocked")

DEAD: Final = len(CLASSES)
"""Behind an endpoint's classes: how many of its deliveries died."""

STATES: Final = (DeliveryState.DELIVERED, DeliveryState.DEAD, DeliveryState.CANCELLED)
"""How deliveries end, in the order in which they are counted."""

LATENCIES: Final = (
    *(0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7),
    *(1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0),
)
"""Seconds: upper bounds of the classes that durations of attempts are counted in, one more class behind the last. Each is
about 1.5 times the one before, so that a percentile read off by interpolation is right to some per cent. Rows hold counts
by place: bounds may only be added behind."""

_CLASS_OF: Final = tuple(min(max(status // 100, 2), 5) - 2 for status in range(1000))
"""Place of the class of each status; what is no class of HTTP's counts as 5xx."""


class Recorded(Protocol):
    """An attempt whose result was written down."""

    @property
    def delivery(self) -> Delivery:
        """What was sent."""
        ...

    @property
    def outcome(self) -> Outcome:
        """What the attempt came to."""
        ...

    @property
    def judgement(self) -> Judgement:
        """What followed from it."""
        ...


@dataclass(frozen=True, slots=True)
class Minute:
    """What the service did in one minute, as far as one worker knows."""

    start: int
    """Unix seconds."""
    attempts: list[int] = field(default_factory=lambda: [0] * len(CLASSES))
    """By `CLASSES`."""
    ended: list[int] = field(default_factory=lambda: [0] * len(STATES))
    """Deliveries, by `STATES`."""
    latencies: list[int] = field(default_factory=lambda: [0] * (len(LATENCIES) + 1))
    """Attempts that were sent, by how long they took."""

    def add(self, other: "Minute") -> None:
        """Add what was counted elsewhere of the same minute."""
        for mine, others in (
            (self.attempts, other.attempts),
            (self.ended, other.ended),
            (self.latencies, other.latencies),
        ):
            mine[:] = map(int.__add__, mine, others)


@dataclass(frozen=True, slots=True)
class EndpointQuarter:
    """What came of one endpoint's deliveries in a quarter of an hour."""

    endpoint_id: EndpointId
    start: int
    """Unix seconds."""
    counts: list[int]
    """Attempts by `CLASSES`, then deliveries that died."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits at a worker, as it was last looked at."""

    due: int = 0
    oldest_seconds: float = 0.0


class Tally:
    """The counts of one worker that are not written down yet."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._minutes: dict[int, Minute] = {}
        self._quarters: dict[int, dict[EndpointId, list[int]]] = {}
        self.backlog = Backlog()

    def recorded(self, batch: Iterable[Recorded], written: Collection[DeliveryId]) -> None:
        """Count the attempts of a batch, those whose delivery is among the `written`; the others were counted before."""
        now = int(self._clock.now())
        minute, endpoints = self._minute(now), self._quarter(now)
        attempts, ended, latencies = minute.attempts, minute.ended, minute.latencies
        for item in batch:
            delivery = item.delivery
            if delivery.id not in written:
                continue
            outcome = item.outcome
            place = _place(outcome)
            attempts[place] += 1
            if place != BLOCKED:
                latencies[bisect_left(LATENCIES, outcome.seconds)] += 1
            counts = endpoints.get(delivery.endpoint_id)
            if counts is None:
                counts = endpoints[delivery.endpoint_id] = [0] * (DEAD + 1)
            counts[place] += 1
            verdict = type(item.judgement.verdict)
            if verdict is Done:
                ended[0] += 1
            elif verdict is GiveUp:
                ended[1] += 1
                counts[DEAD] += 1

    def ended(self, endpoint_id: EndpointId, state: DeliveryState, count: int = 1) -> None:
        """Count deliveries that ended without an attempt."""
        now = int(self._clock.now())
        self._minute(now).ended[STATES.index(state)] += count
        if state is DeliveryState.DEAD:
            self._quarter(now).setdefault(endpoint_id, [0] * (DEAD + 1))[DEAD] += count

    def waits(self, due: int, *, oldest_seconds: float) -> None:
        """Take note of how many deliveries are due, and for how long the oldest has been."""
        self.backlog = Backlog(due, oldest_seconds)

    def _minute(self, now: int) -> Minute:
        start = now - now % MINUTE
        minute = self._minutes.get(start)
        if minute is None:
            minute = self._minutes[start] = Minute(start)
        return minute

    def _quarter(self, now: int) -> dict[EndpointId, list[int]]:
        return self._quarters.setdefault(now - now % QUARTER, {})

    # handing over

    def take_minutes(self) -> list[Minute]:
        """Hand over what was counted for the service; the last is the minute that runs, counts or none."""
        self._minute(int(self._clock.now()))
        minutes = sorted(self._minutes.values(), key=lambda minute: minute.start)
        self._minutes = {}
        return minutes

    def take_quarters(self, limit: int) -> list[EndpointQuarter]:
        """Hand over up to `limit` endpoints' counts, those first that have waited longest."""
        taken: list[EndpointQuarter] = []
        for start in sorted(self._quarters):
            endpoints = self._quarters[start]
            for endpoint_id in list(islice(endpoints, limit - len(taken))):
                taken.append(EndpointQuarter(endpoint_id, start, endpoints.pop(endpoint_id)))
            if not endpoints:
                del self._quarters[start]
        return taken

    def give_back(self, minutes: Iterable[Minute], quarters: Iterable[EndpointQuarter] = ()) -> None:
        """Take back what could not be written down."""
        for minute in minutes:
            self._minute(minute.start).add(minute)
        for quarter in quarters:
            counts = self._quarter(quarter.start).setdefault(quarter.endpoint_id, [0] * (DEAD + 1))
            counts[:] = map(int.__add__, counts, quarter.counts)


def _place(outcome: Outcome) -> int:
    """Return the place of an attempt's class in `CLASSES`."""
    match outcome:
        case Answered(status=status):
            return _CLASS_OF[status] if status < len(_CLASS_OF) else 3
        case Unreachable():
            return UNREACHABLE
        case Blocked():
            return BLOCKED
