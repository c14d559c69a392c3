"""Write down what came of attempts: one short transaction for a whole batch, guarded by the attempt number.

With a result go the changes that it makes: history, the log of attempts, the endpoint's health, notices, operational
events, and the next delivery of an ordering key. What cannot be written because the database is away is kept and written later.
What the database refuses is written without all that came from outside, and if that is refused, too, tried again ever later:
until then the delivery is not sent again, for its attempts would not count.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, assert_never

import orjson
import structlog

from dispatcher.clock import Clock
from dispatcher.deliver import announce
from dispatcher.deliver.send import Attempted, describe, outcome_name, verdict_name
from dispatcher.deliver.subscribers import Subscribers
from dispatcher.lanes import Lanes
from dispatcher.metrics import Metrics
from dispatcher.model import (
    Answered,
    Blocked,
    DeathReason,
    Delivery,
    DeliveryId,
    DeliveryState,
    Done,
    EndpointId,
    GiveUp,
    NoticeKind,
    Outcome,
    Retry,
    Shard,
    Unreachable,
)
from dispatcher.retry import HealthChange, disable_date
from dispatcher.store import deliveries as store
from dispatcher.store import endpoints as endpoint_store
from dispatcher.store import notices as notice_store
from dispatcher.store import operational as operational_store
from dispatcher.store import outbox as outbox_store
from dispatcher.store.pool import Connection, Pool, is_outage
from dispatcher.tally import Tally

BATCH: Final = 500
"""Results a transaction; more gain nothing (measured), and lengthen the time for which a crash would repeat them."""

WORTH_KEEPING: Final = 5.0
"""Seconds of a subscriber's `Retry-After` from which on it is written down, so that it outlives this worker."""

ANSWER_START: Final = 1000
"""Characters of an answer that go into a notice; the mail shows fewer."""

LONGEST_LENGTH: Final = 18
"""Digits of an answer's announced length that are believed; more would not fit into the table."""

PARKED_FIRST, PARKED_LONGEST = 1.0, 60.0
"""Seconds between tries of a result that the database refuses even at its shortest, doubling: a lock that is not to be had, a
full disk or a missing partition are mended in their time, and each try is a line in the log."""

REFUSED: Final = "the database refused what is known of this attempt; the service's log says why (result.refused)"
"""Of an attempt that is recorded without what came from outside, for people."""

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Parked:
    """A result that the database refuses altogether."""

    attempted: Attempted
    pause: float
    """Seconds."""
    until: float
    """When it is tried again, by the monotonic clock."""


class Record:
    """The step that writes results down."""

    name = "record"
    pause = 1.0
    """Seconds; results wake it, this is for what an outage left behind."""
    linger = 0.005
    """Seconds between the first result and the batch. A crash repeats the requests whose results wait here."""

    def __init__(
        self,
        pool: Pool,
        *,
        lanes: Lanes,
        subscribers: Subscribers,
        clock: Clock,
        metrics: Metrics,
        tally: Tally,
        store_answers: bool,
        worker: str,
        on_work: Callable[[], None],
        on_disabled: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._lanes = lanes
        self._subscribers = subscribers
        self._clock = clock
        self._metrics = metrics
        self._tally = tally
        self._store_answers = store_answers
        self._worker = worker
        self._on_work = on_work
        self._on_disabled = on_disabled
        self._waiting: dict[DeliveryId, Attempted] = {}
        self._parked: dict[DeliveryId, _Parked] = {}

    def add(self, attempted: Attempted) -> None:
        """Queue a result."""
        self._waiting[attempted.delivery.id] = attempted

    @property
    def waiting(self) -> list[DeliveryId]:
        """Deliveries whose result is to be written down now."""
        return list(self._waiting)

    @property
    def unwritten(self) -> list[DeliveryId]:
        """Deliveries whose result is not written down yet, also those that have to wait because the database refuses it."""
        return [*self._waiting, *self._parked]

    def let_go(self, shards: Collection[Shard]) -> None:
        """Keep no refused results of these shards, which go to another worker: it sends these deliveries again."""
        for parked in [item for item in self._parked.values() if item.attempted.delivery.shard in shards]:
            logger.error("result.dropped", delivery=parked.attempted.delivery.id, effect="it will be sent again")
            self._forget(parked.attempted.delivery, None)
            self._lanes.rewind(parked.attempted.delivery.endpoint_id)  # for whoever may keep the shard after all

    async def run_once(self) -> int:
        """Write a batch down; returns its size. Raises what the database raises; nothing is lost by that."""
        batch = list(islice(self._waiting.values(), BATCH))
        try:
            if batch:
                await self._write(batch)
        except Exception as error:
            if is_outage(error):
                raise
            logger.exception("results.refused", results=len(batch))
            await self._write_singly(batch)
        if self._parked:
            now = self._clock.monotonic()
            await self._write_singly([item.attempted for item in self._parked.values() if item.until <= now])
        return len(batch)

    async def _write_singly(self, batch: Sequence[Attempted]) -> None:
        """Keep one result that the database refuses from holding up the others."""
        for attempted in batch:
            if await self._is_written(attempted):
                continue
            if await self._is_written(_bare(attempted), bare=True):
                logger.error("result.cut", delivery=attempted.delivery.id, attempt=attempted.delivery.attempts + 1)
            else:
                self._park(attempted)

    async def _is_written(self, attempted: Attempted, *, bare: bool = False) -> bool:
        """Write one result down, and tell whether the database took it."""
        try:
            await self._write([attempted], bare=bare)
        except Exception as error:
            if is_outage(error):
                raise
            logger.warning("result.refused", delivery=attempted.delivery.id, bare=bare, error=str(error))
            return False
        return True

    def _park(self, attempted: Attempted) -> None:
        id_ = attempted.delivery.id
        before = self._parked.get(id_)
        pause = PARKED_FIRST if before is None else min(before.pause * 2, PARKED_LONGEST)
        logger.error("result.parked", delivery=id_, attempt=attempted.delivery.attempts + 1, tried_again_in=pause)
        self._waiting.pop(id_, None)
        self._parked[id_] = _Parked(attempted, pause, self._clock.monotonic() + pause)

    async def _write(self, batch: Sequence[Attempted], *, bare: bool = False) -> None:
        now = self._clock.override()
        async with self._pool.acquire() as connection, connection.transaction():
            ordered = [item.delivery for item in batch if item.delivery.ordered]
            freed: list[tuple[EndpointId, str]] = []
            if ordered:
                await outbox_store.lock_ordering(connection, [delivery.shard for delivery in ordered])
                freed = await store.ordering_keys_of(connection, [delivery.id for delivery in ordered])
            results = [self._result(item, bare=bare) for item in batch]
            changed = await store.record(connection, results, worker=self._worker, age_at=self._clock.now(), now=now)
            promoted = await store.promote(connection, freed, now=now) if freed else []
            # whoever owns the shard now, if it was lost meanwhile, cannot know otherwise
            others = sorted({id_ for id_, _ in promoted if self._lanes.endpoint(id_) is None})
            if others:
                await endpoint_store.touch(connection, others)
            await self._write_changes(connection, [item for item in batch if item.delivery.id in changed])
        for item in batch:
            self._forget(item.delivery, changed.get(item.delivery.id))
            if item.delivery.id not in changed:
                # Written before: by another worker, or by this one, who lost the connection before it heard of it. The
                # delivery may wait for its next attempt, at an instant that is not known here.
                self._lanes.rewind(item.delivery.endpoint_id)
        for endpoint_id, due_at in promoted:
            self._lanes.note(endpoint_id, due_at)
        self._count(batch, changed)
        self._on_work()
        if any(item.disabled for item in batch):
            self._on_disabled()

    def _forget(self, delivery: Delivery, next_due: float | None) -> None:
        self._waiting.pop(delivery.id, None)
        self._parked.pop(delivery.id, None)
        self._lanes.recorded(delivery.endpoint_id, delivery.id, next_due)

    def _result(self, item: Attempted, *, bare: bool) -> store.Result:
        """Turn an attempt into columns; a `bare` one says what is missing."""
        verdict = item.judgement.verdict
        status, error = describe(item.outcome)
        headers, body, body_cut = None, None, None
        sent, timings = None, None
        if not isinstance(item.outcome, Blocked):
            sent, timings = item.outcome.sent, item.outcome.timings
        if bare:
            error = error or f"unrecordable: {REFUSED}"
        elif isinstance(item.outcome, Answered) and self._store_answers:
            headers = orjson.dumps(item.outcome.headers).decode()
            body, body_cut = item.outcome.body or None, item.outcome.body_cut
        return store.Result(
            delivery_id=item.delivery.id,
            shard=item.delivery.shard,
            number=item.delivery.attempts + 1,
            verdict=verdict_name(verdict),
            delay=verdict.delay if isinstance(verdict, Retry) else None,
            reason=verdict.reason if isinstance(verdict, GiveUp) else None,
            started=item.started,
            seconds=item.outcome.seconds,
            outcome=outcome_name(item.outcome),
            status=status,
            error=None if error is None else error.replace("\0", "�"),
            address=item.outcome.address,
            headers=headers,
            body=body,
            body_cut=body_cut,
            body_size=_size(item.outcome),
            sent=sent,
            timings=timings,
            signed_with=item.signed_with,
        )

    async def _write_changes(self, connection: Connection, written: Sequence[Attempted]) -> None:
        """Write what follows from results that are new: health, disabling, notices, operational events."""
        written = [item for item in written if _is_notable(item)]
        if not written:
            return
        health = {change.endpoint_id: change for item in written if (change := self._health(item)) is not None}
        if health:  # the last change of each endpoint holds the earlier ones
            await endpoint_store.write_health(connection, list(health.values()))
        disabled: set[EndpointId] = set()
        for item in written:
            endpoint_id = item.delivery.endpoint_id
            if item.disabled and await endpoint_store.disable(connection, endpoint_id, announce.why_disabled(item)):
                disabled.add(endpoint_id)
        dead = [item for item in written if _is_mourned(item)]
        firsts = await store.first_attempts(connection, [item.delivery.id for item in dead]) if dead else {}
        notices = [_death(item, first=firsts.get(item.delivery.id, item.started)) for item in dead]
        notices += [notice for item in written if (notice := self._health_notice(item)) is not None]
        if notices:
            await notice_store.write(connection, notices, now=self._clock.override())
            for notice in notices:
                self._metrics.noticed(notice.kind, 1)
        events = announce.of_attempts(written, disabled=disabled, subscribers=self._subscribers)
        await operational_store.write(connection, events, now=self._clock.override())

    def _health(self, item: Attempted) -> endpoint_store.HealthWrite | None:
        """What is to be written down of an endpoint's health, if this attempt changed it."""
        pause = item.judgement.pause or 0.0
        subscriber = self._subscribers.get(item.delivery.endpoint_id)
        if subscriber is None or (item.change is None and pause < WORTH_KEEPING):
            return None
        lane = self._lanes.health(item.delivery.endpoint_id)
        succeeded = isinstance(item.judgement.verdict, Done)
        status, error = describe(item.outcome)
        return endpoint_store.HealthWrite(
            endpoint_id=item.delivery.endpoint_id,
            health=replace(subscriber.health, cool_until=lane.cool_until, hung=lane.hung),
            last_success_at=item.ended if succeeded else None,
            last_failure_at=None if succeeded else item.ended,
            last_error=None if succeeded else error or f"status {status}",
        )

    def _health_notice(self, item: Attempted) -> notice_store.NewNotice | None:
        subscriber = self._subscribers.get(item.delivery.endpoint_id)
        kind = NoticeKind.ENDPOINT_DISABLED if item.disabled else _NOTICES.get(item.change)
        if kind is None or subscriber is None:
            return None
        deadline = None
        if item.change is HealthChange.WARN:
            deadline = disable_date(
                subscriber.health, warn_after=subscriber.warn_after, disable_after=subscriber.disable_after
            )
        status, error = describe(item.outcome)
        return notice_store.NewNotice(
            kind=kind,
            endpoint_id=item.delivery.endpoint_id,
            delivery_id=item.delivery.id,
            event_id=item.delivery.event.id,
            event_type=item.delivery.event.event_type,
            attempts=item.delivery.attempts + 1,
            first_attempt_at=subscriber.health.failing_since,
            last_attempt_at=item.started,
            reason=announce.why_disabled(item) if item.disabled else None,
            status=status,
            error=error,
            answer=_answer(item),
            deadline=deadline,
        )

    def _count(self, batch: Sequence[Attempted], changed: dict[DeliveryId, float | None]) -> None:
        self._metrics.recorded(len(batch))
        self._tally.recorded(batch, changed)
        delivered = 0
        for item in batch:
            verdict = item.judgement.verdict
            if item.delivery.id not in changed:
                logger.warning("result.late", delivery=item.delivery.id, attempt=item.delivery.attempts + 1)
            elif isinstance(verdict, Done):
                delivered += 1
            elif isinstance(verdict, GiveUp):
                self._metrics.finished(DeliveryState.DEAD, verdict.reason)
        if delivered:
            self._metrics.finished(DeliveryState.DELIVERED, None, delivered)


_NOTICES: Final[Mapping[HealthChange | None, NoticeKind]] = {
    HealthChange.WARN: NoticeKind.ENDPOINT_FAILING,
    HealthChange.RECOVERED: NoticeKind.ENDPOINT_RECOVERED,
}


def _bare(item: Attempted) -> Attempted:
    """Leave out all that came from outside, but for the status."""
    outcome: Outcome
    match item.outcome:
        case Answered(status=status, seconds=seconds):
            outcome = Answered(status, (), b"", body_cut=False, seconds=seconds, address=None)
        case Unreachable(reason=reason, seconds=seconds):
            outcome = Unreachable(reason, REFUSED, seconds, None)
        case Blocked(seconds=seconds):
            outcome = Blocked(REFUSED, seconds, None)
        case _:
            assert_never(item.outcome)
    return replace(item, outcome=outcome)


def _is_notable(item: Attempted) -> bool:
    """Whether anything may follow beyond what the record holds; nothing does from a delivery to who is well."""
    judgement = item.judgement
    return (
        item.change is not None
        or item.disabled
        or judgement.pause is not None
        or not isinstance(judgement.verdict, Done)
    )


def _is_mourned(item: Attempted) -> bool:
    """Whether a notice tells of this death: not of a person's own retry unless asked for, nor where the disabled endpoint's does."""
    verdict = item.judgement.verdict
    return (
        isinstance(verdict, GiveUp)
        and verdict.reason is not DeathReason.GONE
        and not item.delivery.is_silent
        and not item.disabled
    )


def _death(item: Attempted, *, first: float) -> notice_store.NewNotice:
    status, error = describe(item.outcome)
    verdict = item.judgement.verdict
    return notice_store.NewNotice(
        kind=NoticeKind.DELIVERIES_DEAD,
        endpoint_id=item.delivery.endpoint_id,
        delivery_id=item.delivery.id,
        event_id=item.delivery.event.id,
        event_type=item.delivery.event.event_type,
        attempts=item.delivery.attempts + 1,
        first_attempt_at=first,
        last_attempt_at=item.started,
        reason=verdict.reason if isinstance(verdict, GiveUp) else None,
        status=status,
        error=error,
        answer=_answer(item),
    )


def _size(outcome: Outcome) -> int | None:
    """Tell the true size of an answer's body, as far as it is known: read to its end, or announced."""
    if not isinstance(outcome, Answered):
        return None
    if not outcome.body_cut:
        return len(outcome.body)
    announced = [value for name, value in outcome.headers if name.lower() == "content-length"]
    if len(announced) != 1 or not announced[0].isdecimal() or len(announced[0]) > LONGEST_LENGTH:
        return None
    return int(announced[0])


def _answer(item: Attempted) -> str | None:
    """Return the start of the answer's text."""
    if not isinstance(item.outcome, Answered) or not item.outcome.body:
        return None
    return item.outcome.body[:ANSWER_START].decode("utf-8", "replace").replace("\0", "�")
