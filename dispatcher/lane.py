"""One endpoint's queue inside the worker that owns its shard: rows in memory, pace, and how far the database was read.

Knows nothing of other lanes: whose turn it is, is decided by `lanes`. Pure: instants come in as `now`.

What holds at any time, and why no delivery sleeps when it is due: every pending row of the endpoint is either *known*
(held, in flight, or its result not yet recorded), or it lies past `cursor` and is due no earlier than `unread_due`.
Whoever lets go of a row, or hears of one, calls `miss`, which moves `cursor` and `unread_due` back where needed.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import assert_never

from dispatcher.model import (
    Delivery,
    DeliveryId,
    Endpoint,
    EndpointId,
    EndpointState,
    Health,
    Judgement,
    Pressure,
    Retry,
    Shard,
)

Key = tuple[float, int]
"""`(due_at, id)`: the order in which an endpoint's pending rows are read."""

HEAD: Key = (-inf, -1)
"""Before every row."""

ROUNDS_HELD = 4
"""Rows to hold, in multiples of the in-flight limit: enough to go on while the next are read."""

SECONDS_HELD = 2
"""Rows to hold for an endpoint with a rate limit: what it may get within this time."""

BURST_SECONDS = 0.1
"""How much of a rate limit may be saved up: a tenth of a second's worth, at least one request."""


def key_of(delivery: Delivery) -> Key:
    """Return the place of a row in its endpoint's order."""
    return (delivery.due_at, delivery.id)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast lanes start, grow and rest."""

    start_in_flight: int
    lane_in_flight: int
    held: int
    """Rows in memory per lane, at most."""
    pause_first: float
    pause_longest: float


@dataclass(frozen=True, slots=True, eq=False)
class Pull:
    """A wish to read at most `count` due rows of an endpoint past `(after_due, after_id)`, in that order.

    `after_due` is minus infinity to read from the head. Compared by identity: an answer counts only for the question
    that is still open.
    """

    endpoint_id: EndpointId
    shard: Shard
    after_due: float
    after_id: int
    count: int


@dataclass(frozen=True, slots=True)
class LaneView:
    """A lane as operators see it."""

    endpoint_id: EndpointId
    shard: Shard
    state: EndpointState
    in_flight: int
    limit: int
    """How many may be in flight at once, now."""
    held: int
    unrecorded: int
    hung: bool
    cool_until: float | None
    """No attempt before this instant; null when there is no pause."""
    oldest_due: float | None
    """Due instant of the first row in memory, or of the first unread one; null when nothing waits."""
    unread_due: float | None
    """When the next unread row in the database is due, as far as is known; null when there is none."""


class Lane:
    """The rows, the pace and the cursor of one endpoint.

    `flying` maps what is in flight to the round in which it was started; a round ends when the lane slows down, so
    that a burst of failures counts once.
    """

    __slots__ = (
        "active_at",
        "allowed_at",
        "aside",
        "asked_until",
        "burst",
        "cool_until",
        "cursor",
        "endpoint",
        "flying",
        "gone",
        "held",
        "hung",
        "interval",
        "level",
        "limit",
        "missed",
        "most_held",
        "open",
        "pace",
        "pause",
        "pull",
        "queue",
        "rest_until",
        "round",
        "settled",
        "unread_due",
        "unrecorded",
        "wake",
    )

    def __init__(self, endpoint: Endpoint, pace: Pace, *, now: float) -> None:
        self.pace = pace
        self.endpoint = endpoint
        self.open = False
        """Active, and its shard is not being given back: it may start and pull."""
        self.gone = False
        """Forgotten; only results of what was in flight still arrive."""
        self.active_at = now

        self.held: deque[Delivery] = deque()
        self.flying: dict[DeliveryId, int] = {}
        self.unrecorded: set[DeliveryId] = set()

        # A new lane reads from the head once: nobody has to remember whether rows were left there.
        self.cursor: Key = HEAD
        self.unread_due = -inf
        self.pull: Pull | None = None
        """The question that is open; while it is, the next three fields gather what its answer cannot know."""
        self.aside: list[Delivery] = []
        """Rows handed over meanwhile: they come after those being read, or wait in the database like them."""
        self.settled: set[DeliveryId] = set()
        """Rows recorded meanwhile: the answer may hold them as they were before."""
        self.missed: Key | None = None
        """The first row missed meanwhile: the answer may lie wholly behind it."""

        self.round = 0
        self.pause: float
        self.rest_until: float
        """End of the pause that the lane grew itself."""
        self.asked_until: float
        """End of the pause that the subscriber asked for, or that was written down by an earlier owner."""
        self.cool_until: float
        self.hung: bool
        self.limit: int
        self._start_afresh()

        self.interval = 0.0
        self.burst = 0.0
        self.allowed_at = -inf
        """The rate limit's allowance as one number: when the next request may start (the generic cell rate algorithm,
        a token bucket without rounding)."""
        self.most_held = pace.held

        # Kept by `Turns`.
        self.level = -1
        self.queue: OrderedDict[Lane, None] | None = None
        self.wake = inf

        self.set_rate(endpoint.rate_limit, now=now)

    @property
    def active(self) -> bool:
        """Tell whether its deliveries go out (they wait while it is paused, die when it is disabled or archived)."""
        return self.endpoint.state is EndpointState.ACTIVE and not self.endpoint.archived

    def change(self, endpoint: Endpoint, *, now: float) -> None:
        """Follow a change of the endpoint's settings.

        What the lane knows of the endpoint's health is newer than what was read with the settings, unless a person
        has changed its state: then it starts afresh, from the head.
        """
        if endpoint.state is self.endpoint.state and endpoint.archived == self.endpoint.archived:
            endpoint = replace(endpoint, health=self.endpoint.health)
            self.endpoint = endpoint
        else:
            self.endpoint = endpoint
            self._start_afresh()
            self.miss(HEAD)
        self.set_rate(endpoint.rate_limit, now=now)

    def _start_afresh(self) -> None:
        health = self.endpoint.health
        self.pause = 0.0
        self.rest_until = -inf
        self.asked_until = -inf if health.cool_until is None else health.cool_until
        self.cool_until = self.asked_until
        self.hung = health.hung
        self.limit = 1 if self.hung else self.pace.start_in_flight
        self.round += 1

    def stop(self) -> None:
        """Disable it here and now, ahead of what will be written down."""
        self.endpoint = replace(self.endpoint, state=EndpointState.DISABLED)
        self.open = False

    def forgettable(self, now: float) -> bool:
        """Tell whether a lane made anew would know as much: nothing in memory, and well, or at its end."""
        if self.held or self.flying or self.unrecorded or self.pull is not None or self.allowed_at > now:
            return False
        if self.endpoint.archived or self.endpoint.state is EndpointState.DISABLED:
            return True
        well = not self.hung and self.pause == 0.0 and self.endpoint.health.failing_since is None
        return well and self.unread_due == inf and self.cool_until <= now

    # pace

    def set_rate(self, rate: float | None, *, now: float) -> None:
        """Allow `rate` requests per second from now on (None: any number)."""
        self.interval = 1 / rate if rate else 0.0
        self.burst = max(0.0, BURST_SECONDS - self.interval) if rate else 0.0
        # A debt of the old rate is not paid at the new one: the next request comes one interval from now at the latest.
        self.allowed_at = min(self.allowed_at, now + self.interval)
        self.most_held = min(self.pace.held, int(rate * SECONDS_HELD) + 1) if rate else self.pace.held

    def take_turn(self, now: float) -> None:
        """Use up the allowance for one request."""
        self.allowed_at = max(self.allowed_at, now - self.burst) + self.interval

    def wanted(self) -> int:
        """Return how many rows the lane would hold in order never to wait for the database.

        A hung lane reads the one row that it probes with, when it may.
        """
        if self.hung:
            return 0 if self.flying else 1
        return min(ROUNDS_HELD * self.limit, self.most_held)

    def outlook(self, now: float) -> tuple[bool, bool, float]:
        """Tell whether the lane may start a request, whether rows should be read for it, and when that may change.

        The last is the earliest instant at which, with nothing else happening, one of the first two becomes true.
        """
        if not self.open:
            return False, False, inf
        if self.cool_until > now:
            # Nothing is held: it was let go of when the pause began.
            return False, False, inf if self.unread_due == inf else max(self.cool_until, self.unread_due)
        held, wake = len(self.held), inf
        startable = held > 0 and len(self.flying) < self.limit
        if startable and self.allowed_at > now:
            startable, wake = False, self.allowed_at
        if self.pull is not None:
            return startable, False, wake
        if self.unread_due > now:
            return startable, False, min(wake, self.unread_due)
        return startable, 2 * held < self.wanted(), wake

    def heed(self, judgement: Judgement, *, current: bool, now: float) -> None:
        """Adapt to what an attempt said; `current` tells whether it was started in this round."""
        match judgement.pressure:
            case Pressure.OK:
                self._ease(current=current, now=now)
            case Pressure.NEUTRAL:
                self.hung = False
            case Pressure.STRAINED:
                self.hung = False
                self._slow(current=current)
            case Pressure.THROTTLED:
                self.hung = False
                self._slow(current=current)
                if judgement.pause is not None:
                    self.asked_until = max(self.asked_until, now + judgement.pause)
                elif current:
                    self._rest(judgement, now=now)
            case Pressure.HUNG:
                self.hung = True
                self.limit = 1
                if current:
                    self.round += 1
                    self._rest(judgement, now=now)
            case _:
                assert_never(judgement.pressure)
        self.cool_until = max(self.asked_until, self.rest_until)

    def _ease(self, *, current: bool, now: float) -> None:
        if self.hung:
            self.limit = max(1, self.pace.start_in_flight // 2)
        elif not current:
            # Started before the lane slowed down: says nothing about the slower pace, and its rest goes on.
            return
        elif self.limit < self.pace.lane_in_flight:
            self.limit += 1
        self.hung = False
        self.pause = 0.0
        self.rest_until = -inf
        if self.asked_until <= now:
            self.asked_until = -inf

    def _slow(self, *, current: bool) -> None:
        if current:
            self.limit = max(1, self.limit // 2)
            self.round += 1

    def _rest(self, judgement: Judgement, *, now: float) -> None:
        """Grow the pause, but start again no later than the failed delivery may: a lone one keeps its own schedule."""
        self.pause = min(max(2 * self.pause, self.pace.pause_first), self.pace.pause_longest)
        delay = judgement.verdict.delay if isinstance(judgement.verdict, Retry) else inf
        self.rest_until = now + min(self.pause, delay)

    # reading

    def miss(self, key: Key) -> None:
        """Take note of a row in the database that is not in memory."""
        if key <= self.cursor:
            self.cursor = (key[0], key[1] - 1)
        self.unread_due = min(self.unread_due, key[0])
        if self.pull is not None and (self.missed is None or key < self.missed):
            self.missed = key

    def miss_all(self, deliveries: Iterable[Delivery]) -> None:
        """Take note of rows that are let go of."""
        first = min(map(key_of, deliveries), default=None)
        if first is not None:
            self.miss(first)

    def ask(self, count: int) -> Pull:
        """Open a question for `count` rows."""
        self.pull = Pull(self.endpoint.id, self.endpoint.shard, *self.cursor, count)
        self.settled = set()
        self.missed = None
        return self.pull

    def close_pull(self, deliveries: Sequence[Delivery], next_due: float | None) -> set[DeliveryId]:
        """Move the cursor past what was read, back to what was missed meanwhile; return what was recorded meanwhile."""
        pull, missed, settled = self.pull, self.missed, self.settled
        assert pull is not None
        self.pull, self.missed, self.settled = None, None, set()
        self.cursor = key_of(deliveries[-1]) if deliveries else (pull.after_due, pull.after_id)
        if len(deliveries) < pull.count:
            self.unread_due = inf if next_due is None else next_due
        else:
            self.unread_due = self.cursor[0]
        if missed is not None:
            self.miss(missed)
        return settled

    # eyes

    def set_health(self, health: Health) -> None:
        """Remember what was written down."""
        self.endpoint = replace(self.endpoint, health=health)

    def health(self) -> Health:
        """Return the endpoint's health, with the lane's own part of it up to date."""
        health = self.endpoint.health
        cool_until = None if self.cool_until == -inf else self.cool_until
        if health.hung == self.hung and health.cool_until == cool_until:
            return health
        return replace(health, hung=self.hung, cool_until=cool_until)

    def oldest_due(self) -> float | None:
        """Return when the first waiting row was or will be due, as far as is known."""
        oldest = self.held[0].due_at if self.held else inf
        if self.unread_due > -inf:
            oldest = min(oldest, self.unread_due)
        return None if oldest == inf else oldest

    def view(self) -> LaneView:
        """Describe the lane for the console."""
        return LaneView(
            endpoint_id=self.endpoint.id,
            shard=self.endpoint.shard,
            state=self.endpoint.state,
            in_flight=len(self.flying),
            limit=self.limit,
            held=len(self.held),
            unrecorded=len(self.unrecorded),
            hung=self.hung,
            cool_until=None if self.cool_until == -inf else self.cool_until,
            oldest_due=self.oldest_due(),
            unread_due=None if self.unread_due in (inf, -inf) else self.unread_due,
        )
