"""Send what the lanes say is to be sent now, judge the answer, and hand the result on to be recorded.

The decision is `retry.judge`'s and `retry.health_change`'s; pacing is the lanes'; here they are only carried out. No
database connection is held while a request is in flight.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from random import Random
from typing import Final, Protocol, assert_never

import structlog

from dispatcher.clock import Clock
from dispatcher.deliver.subscribers import Subscriber, Subscribers
from dispatcher.egress import Request
from dispatcher.lanes import Lanes
from dispatcher.metrics import Metrics
from dispatcher.model import (
    Answered,
    Blocked,
    Delivery,
    DeliveryId,
    Done,
    GiveUp,
    Judgement,
    Outcome,
    Retry,
    Unreachable,
    Verdict,
)
from dispatcher.ownership import Ownership
from dispatcher.payload import FormatFailed
from dispatcher.retry import HealthChange, health_change, judge
from dispatcher.swift import swift

LEASE_POLL: Final = 0.2
"""Seconds between looks at the leases while they have run out: the database is away."""

SHORTEST, LONG = 0.002, 60.0
"""Seconds to wait for a lane's instant to come: at least so long, for it may be waiting for a row to be read; at most so
long when no lane knows of anything to come. Whatever brings work wakes the step."""

logger = structlog.get_logger()


class UnderWay(Protocol):
    """A request in flight."""

    def cancel(self) -> object:
        """Break it off, and tell nobody."""
        ...


class Sends(Protocol):
    """What egress does."""

    def begin(self, request: Request, done: Callable[[Outcome | Exception], None]) -> UnderWay:
        """Make one attempt; `done` is called once, later: whatever happens on the way is an outcome, but for our faults."""
        ...


@swift
class Attempted:
    """An attempt that ended, with all that follows from it."""

    delivery: Delivery
    outcome: Outcome
    judgement: Judgement
    started: float
    """Unix seconds."""
    ended: float
    change: HealthChange | None
    disabled: bool
    """This attempt disabled the endpoint."""
    signed_with: str | None
    """Fingerprints of the keys that signed, the newest first, a blank between; null: nothing was sent."""


class Send:
    """Requests in flight."""

    name = "send"

    def __init__(
        self,
        *,
        lanes: Lanes,
        subscribers: Subscribers,
        ownership: Ownership,
        sender: Sends,
        clock: Clock,
        random: Random,
        jitter: float,
        metrics: Metrics,
        on_results: Callable[[Sequence[Attempted]], None],
        on_expired: Callable[[Delivery], None],
    ) -> None:
        self._lanes = lanes
        self._subscribers = subscribers
        self._ownership = ownership
        self._sender = sender
        self._clock = clock
        self._random = random
        self._jitter = jitter
        self._metrics = metrics
        self._on_results = on_results
        self._on_expired = on_expired
        self._loop = asyncio.get_running_loop()
        self._flights: dict[DeliveryId, tuple[Delivery, UnderWay]] = {}
        self._landings: list[tuple[Delivery, Subscriber, float, Outcome | Exception]] = []
        self._stopped = False
        self._landed_all = asyncio.Event()
        self._logger = logger.bind()
        """Put together once: structlog's own proxy does so for each line."""

    @property
    def pause(self) -> float:
        """Seconds until a lane may have something to send that it has not now."""
        if self._stopped or not self._ownership.runs(self._clock.monotonic()):
            return LEASE_POLL
        now = self._clock.now()
        wake = self._lanes.next_wake(now)
        return LONG if wake is None else max(SHORTEST, wake - now)

    @property
    def in_flight(self) -> list[DeliveryId]:
        """Deliveries whose request is under way."""
        return list(self._flights)

    async def run_once(self) -> int:
        """Start what may be sent now; returns how many requests were started."""
        return self.start()

    def start(self) -> int:
        """Start what may be sent now."""
        monotonic = self._clock.monotonic()
        if self._stopped or not self._ownership.runs(monotonic):
            return 0
        now = self._clock.now()
        ready: list[tuple[Delivery, Subscriber, Request | Blocked | Exception]] = []
        for delivery in self._lanes.start(now):
            if not self._ownership.may_act(delivery.shard, monotonic):
                self._lanes.release(delivery)
            elif delivery.expires_at is not None and delivery.expires_at <= now:
                self._lanes.skip(delivery, now)
                self._on_expired(delivery)
            else:
                # looked up now, with no turn of the loop between: in it the shard may be lost, its subscribers with it
                subscriber = self._subscribers.of(delivery)
                ready.append((delivery, subscriber, self._request(delivery, subscriber, now)))
        for delivery, subscriber, request in ready:  # one kind of work after the other is quicker than in turn
            self._begin(delivery, subscriber, request, started=now)
        return len(ready)

    def _begin(
        self, delivery: Delivery, subscriber: Subscriber, request: Request | Blocked | Exception, *, started: float
    ) -> None:
        done = partial(self._landed, delivery, subscriber, started)
        if delivery.attempts == 0:
            since = max(delivery.event.inserted_at, delivery.due_at)
            self._metrics.first_attempted(max(0.0, started - since))
        under_way: UnderWay
        if isinstance(request, Request):
            under_way = self._sender.begin(request, done)
        else:
            under_way = self._loop.call_soon(done, request)
        self._flights[delivery.id] = (delivery, under_way)

    def _request(self, delivery: Delivery, subscriber: Subscriber, now: float) -> Request | Blocked | Exception:
        if subscriber.fault is not None:
            return Blocked(subscriber.fault, 0.0, None)
        try:
            envelope = subscriber.envelope(delivery.event, now)
        except FormatFailed as failure:
            return Blocked(str(failure), 0.0, None)
        except Exception as error:  # noqa: BLE001 - told to the one place that says what follows
            return error
        return Request(subscriber.endpoint.url, envelope.headers, envelope.body, subscriber.timeout)

    def _landed(self, delivery: Delivery, subscriber: Subscriber, started: float, outcome: Outcome | Exception) -> None:
        if not self._landings:
            self._loop.call_soon(self._settle)
        self._landings.append((delivery, subscriber, started, outcome))

    def _settle(self) -> None:
        """Judge, log and hand on all that landed in this turn of the loop, and send what may be sent now."""
        landings, self._landings = self._landings, []
        results: list[Attempted] = []
        for delivery, known, started, outcome in landings:
            if self._flights.pop(delivery.id, None) is None:
                continue  # it was cut
            if isinstance(outcome, Exception):
                # A fault of ours: nothing is known of the attempt; the lane tries it again later.
                endpoint = str(delivery.endpoint_id)
                logger.error("delivery.broke", delivery=delivery.id, endpoint=endpoint, exc_info=outcome)
                outcome = Blocked("a fault of the service; see its log for delivery.broke", 0.0, None)  # noqa: PLW2901
            # the endpoint may have been read anew meanwhile: what changes in its health belongs to what is known now
            subscriber = self._subscribers.get(delivery.endpoint_id) or known
            results.append(self._finish(delivery, subscriber, outcome, started))
        for result in results:
            self._log(result)
        if results:
            self._on_results(results)
        if self._stopped and not self._flights:
            self._landed_all.set()
        self.start()

    def _finish(self, delivery: Delivery, subscriber: Subscriber, outcome: Outcome, started: float) -> Attempted:
        now = self._clock.now()
        judgement = judge(
            outcome,
            attempts=delivery.attempts,
            schedule=() if delivery.manual else subscriber.schedule,
            jitter=self._jitter,
            random=self._random,
            expires_in=None if delivery.expires_at is None else delivery.expires_at - now,
            now=now,
        )
        self._lanes.finish(delivery, judgement, now)
        change = health_change(
            subscriber.health,
            succeeded=isinstance(judgement.verdict, Done),
            now=now,
            warn_after=subscriber.warn_after,
            disable_after=subscriber.disable_after,
        )
        disabled = judgement.disable or change is HealthChange.DISABLE
        if change is not None:
            subscriber.apply(change, now)
        if disabled:
            subscriber.disable()
            self._lanes.set_endpoint(subscriber.endpoint, now)
        unsent = isinstance(outcome, Blocked) or outcome.sent is None
        signed_with = None if unsent else subscriber.signed_with(started)
        return Attempted(delivery, outcome, judgement, started, now, change, disabled, signed_with)

    def _log(self, attempted: Attempted) -> None:
        """The one line per attempt that operators search."""
        delivery, outcome, judgement = attempted.delivery, attempted.outcome, attempted.judgement
        name, next_in = verdict_name(judgement.verdict), None
        if isinstance(judgement.verdict, Retry):
            next_in = round(judgement.verdict.delay, 3)
        status, error = describe(outcome)
        self._metrics.attempted(outcome, name, outcome.seconds)
        self._logger.info(
            "delivery.attempted",
            event_id=str(delivery.event.id),
            event_type=delivery.event.event_type,
            tenant=delivery.event.tenant,
            endpoint=str(delivery.endpoint_id),
            delivery=delivery.id,
            attempt=delivery.attempts + 1,
            outcome=outcome_name(outcome),
            status=status,
            error=error,
            milliseconds=round(outcome.seconds * 1000),
            verdict=name,
            next_attempt_in=next_in,
        )

    async def stop(self, *, grace: float) -> int:
        """Start nothing more, wait up to `grace` seconds for what is in flight, then cancel; returns how many were cut."""
        self._stopped = True
        if not self._flights:
            return 0
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._landed_all.wait()
        self._settle()
        late = list(self._flights.values())
        self._flights.clear()
        for delivery, under_way in late:
            under_way.cancel()
            self._lanes.release(delivery)
        return len(late)


def verdict_name(verdict: Verdict) -> str:
    """Name a verdict as logs and tables do."""
    match verdict:
        case Done():
            return "done"
        case Retry():
            return "retry"
        case GiveUp():
            return "give_up"
        case _:
            assert_never(verdict)


def outcome_name(outcome: Outcome) -> str:
    """Name an outcome as logs and tables do."""
    match outcome:
        case Answered():
            return "answered"
        case Unreachable():
            return "unreachable"
        case Blocked():
            return "blocked"
        case _:
            assert_never(outcome)


def describe(outcome: Outcome) -> tuple[int | None, str | None]:
    """Return the status, and the error as `class: one line` for people."""
    match outcome:
        case Answered(status=status):
            return status, None
        case Unreachable(reason=reason, detail=detail):
            return None, f"{reason}: {detail}"
        case Blocked(detail=detail):
            return None, f"blocked: {detail}"
        case _:
            assert_never(outcome)
