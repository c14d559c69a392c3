"""End pending deliveries that nobody can have: expired, overdue at an endpoint that cannot be tried, or of an endpoint
that is disabled or archived. Deliveries whose request is in flight are left alone until it has ended.
"""

from collections.abc import Callable, Sequence
from typing import Final

import structlog

from dispatcher.clock import Clock
from dispatcher.deliver import announce
from dispatcher.deliver.subscribers import Subscriber, Subscribers
from dispatcher.lanes import Lanes
from dispatcher.metrics import Metrics
from dispatcher.model import (
    DeathReason,
    Delivery,
    DeliveryId,
    DeliveryState,
    EndpointId,
    EndpointState,
    NoticeKind,
    Shard,
)
from dispatcher.ownership import Ownership
from dispatcher.retry import SHORTEST_SPAN, span
from dispatcher.store import deliveries as store
from dispatcher.store import notices as notice_store
from dispatcher.store import operational as operational_store
from dispatcher.store import outbox as outbox_store
from dispatcher.store.pool import Connection, Pool
from dispatcher.tally import Tally

BATCH: Final = 1000
"""Deliveries ended in one statement."""

logger = structlog.get_logger()


class Reap:
    """The step that ends what cannot be delivered."""

    name = "reap"
    pause = 2.0
    """Seconds: how late an expired delivery may be ended when no one tried to send it."""

    def __init__(
        self,
        pool: Pool,
        *,
        lanes: Lanes,
        subscribers: Subscribers,
        ownership: Ownership,
        clock: Clock,
        jitter: float,
        metrics: Metrics,
        tally: Tally,
        busy: Callable[[], Sequence[DeliveryId]],
        on_work: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._lanes = lanes
        self._subscribers = subscribers
        self._ownership = ownership
        self._clock = clock
        self._jitter = jitter
        self._metrics = metrics
        self._tally = tally
        self._busy = busy
        self._on_work = on_work
        self._expired: set[tuple[EndpointId, DeliveryId]] = set()

    def add_expired(self, delivery: Delivery) -> None:
        """Take charge of a delivery that a lane wanted to send after its expiry; its lane waits to be told."""
        self._expired.add((delivery.endpoint_id, delivery.id))

    async def run_once(self) -> int:
        """End one batch of each kind; returns how many deliveries were ended."""
        shards = self._ownership.active
        if not shards:
            return 0
        async with self._pool.acquire() as connection:
            ended = await self._end_disabled(connection)
            ended += await self._end_late(connection, shards)
        return ended

    async def _end_late(self, connection: Connection, shards: Sequence[Shard]) -> int:
        waiting = self._expired
        self._expired = set()
        try:
            async with connection.transaction():
                now = self._clock.override()
                await outbox_store.lock_ordering(connection, shards)
                expired = await store.kill_expired(connection, shards, limit=BATCH, busy=self._busy(), now=now)
                overdue: list[store.Killed] = []
                if spans := self._spans():
                    # what is about to be sent gets its attempt: nobody shall receive what was told to be given up
                    held = [delivery_id for endpoint_id in spans for delivery_id in self._lanes.holds(endpoint_id)]
                    busy = [*self._busy(), *held]
                    overdue = await store.kill_overdue(connection, spans, limit=BATCH, busy=busy, now=now)
                promoted = await self._follow_up(connection, expired, overdue)
        except BaseException:
            self._expired |= waiting
            raise
        for endpoint_id, delivery_id in waiting:
            self._lanes.recorded(endpoint_id, delivery_id, None)
        for endpoint_id, due_at in promoted:
            self._lanes.note(endpoint_id, due_at)
        self._count(DeathReason.EXPIRED, expired)
        self._count(DeathReason.UNAVAILABLE, overdue)
        if expired or overdue or waiting:
            self._on_work()
        return len(expired) + len(overdue)

    async def _follow_up(
        self, connection: Connection, expired: Sequence[store.Killed], overdue: Sequence[store.Killed]
    ) -> list[tuple[EndpointId, float]]:
        """Write notices and operational events, and make the next of each ordering key due."""
        killed = [(DeathReason.EXPIRED, item) for item in expired] + [
            (DeathReason.UNAVAILABLE, item) for item in overdue
        ]
        if not killed:
            return []
        now = self._clock.override()
        notices = [self._notice(item, reason) for reason, item in killed if not item.silent]
        if notices:
            await notice_store.write(connection, notices, now=now)
            self._metrics.noticed(NoticeKind.DELIVERIES_DEAD, len(notices))
        events = [
            *announce.of_killed(DeathReason.EXPIRED, expired),
            *announce.of_killed(DeathReason.UNAVAILABLE, overdue),
        ]
        await operational_store.write(connection, events, now=now)
        freed = [(item.endpoint_id, item.ordering_key) for _, item in killed if item.ordering_key is not None]
        return await store.promote(connection, freed, now=now) if freed else []

    def _notice(self, item: store.Killed, reason: DeathReason) -> notice_store.NewNotice:
        return notice_store.NewNotice(
            kind=NoticeKind.DELIVERIES_DEAD,
            endpoint_id=item.endpoint_id,
            delivery_id=item.id,
            event_id=item.event_id,
            event_type=item.event_type,
            attempts=item.attempts,
            reason=reason,
        )

    def _spans(self) -> dict[EndpointId, tuple[Shard, float]]:
        """How long deliveries of failing endpoints may wait."""
        return {
            subscriber.endpoint.id: (subscriber.endpoint.shard, self._span(subscriber))
            for subscriber in self._subscribers
            if subscriber.health.failing_since is not None and subscriber.endpoint.state is EndpointState.ACTIVE
        }

    def _span(self, subscriber: Subscriber) -> float:
        return max(span(subscriber.schedule, self._jitter), SHORTEST_SPAN)

    async def _end_disabled(self, connection: Connection) -> int:
        """End what is pending for endpoints that get nothing any more."""
        ended = [
            store.Ended(subscriber.endpoint.shard, subscriber.endpoint.id, subscriber.endpoint.archived)
            for subscriber in self._subscribers
            if subscriber.endpoint.archived or subscriber.endpoint.state is EndpointState.DISABLED
        ]
        if not ended:
            return 0
        async with connection.transaction():
            counts = await store.kill_ended(
                connection, ended, limit=BATCH, busy=self._busy(), now=self._clock.override()
            )
        for item in ended:
            count = counts.get(item.endpoint_id, 0)
            if count:
                state = DeliveryState.CANCELLED if item.archived else DeliveryState.DEAD
                reason = None if item.archived else DeathReason.ENDPOINT_DISABLED
                logger.info(
                    "deliveries.ended", endpoint=str(item.endpoint_id), deliveries=count, state=state, reason=reason
                )
                self._metrics.finished(state, reason, count)
                self._tally.ended(item.endpoint_id, state, count)
        return sum(counts.values())

    def _count(self, reason: DeathReason, killed: Sequence[store.Killed]) -> None:
        if killed:
            logger.info("deliveries.ended", deliveries=len(killed), state=DeliveryState.DEAD, reason=reason)
            self._metrics.finished(DeliveryState.DEAD, reason, len(killed))
        for item in killed:
            self._tally.ended(item.endpoint_id, DeliveryState.DEAD)
