"""Keep history bounded: partitions made ahead and dropped behind, used-up keys and old notices deleted.

Any worker may do it; a lock lets one at a time. Nothing that is still needed is dropped: a day of the outbox stays while a
pending delivery or an unread event is of that day.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import structlog

from dispatcher.clock import Clock
from dispatcher.store import answers as answer_store
from dispatcher.store import notices as notice_store
from dispatcher.store import outbox as outbox_store
from dispatcher.store import partitions as store
from dispatcher.store import replays as replay_store
from dispatcher.store import shards as shard_store
from dispatcher.store import statistics as statistics_store
from dispatcher.store.pool import Connection, Pool, is_locked_out

AHEAD: Final = 14
"""Days of partitions made ahead: a service that stands still for two weeks finds its tables ready."""

LOCK_MILLISECONDS: Final = 200
"""How long a drop may wait for its lock. Producers' inserts queue behind it meanwhile; it tries again later."""

ROWS: Final = 5000
"""Rows deleted in one statement."""

MINUTES_KEPT: Final = timedelta(days=2)
"""Of the service's counters by the minute, which are for looking at the last hours; quarters of an hour stay."""

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Retention:
    """How many days each kind of history is kept."""

    events: int
    deliveries: int
    attempts: int
    statistics: int

    def of(self, parent: str) -> int:
        """Return the days for a table."""
        match parent:
            case "attempts":
                return self.attempts
            case "finished_deliveries":
                return self.deliveries
            case "endpoint_statistics" | "tenant_statistics":
                return self.statistics
            case _:
                return self.events


class Prune:
    """The step that keeps history bounded."""

    name = "prune"
    pause = 600.0
    """Seconds: partitions are made two weeks ahead, so that many rounds may fail."""

    def __init__(self, pool: Pool, *, retention: Retention, clock: Clock) -> None:
        self._pool = pool
        self._retention = retention
        self._clock = clock

    async def run_once(self) -> int:
        """Make, drop and delete what is due; returns 0, because the next round is due in a while."""
        async with self._pool.acquire() as connection:
            for parent in store.PARENTS:
                await self._create(connection, parent)
            for parent in store.PARENTS:
                await self._drop(connection, parent)
            while await self._delete_keys(connection) == ROWS:
                pass
            while await self._delete_notices(connection):
                pass
            while await self._delete_answers(connection) == ROWS:
                pass
            while await self._delete_replays(connection) == ROWS:
                pass
            async with connection.transaction():
                await shard_store.forget_dead_workers(connection)
                await self._forget_statistics(connection)
        return 0

    async def _create(self, connection: Connection, parent: str) -> None:
        async with connection.transaction():
            await store.lock(connection)
            made = await store.create(connection, parent, days=AHEAD, now=self._clock.override())
        if made:
            logger.info("partitions.created", table=parent, partitions=made)

    async def _delete_keys(self, connection: Connection) -> int:
        async with connection.transaction():
            return await outbox_store.forget_idempotency_keys(connection, limit=ROWS)

    async def _delete_notices(self, connection: Connection) -> int:
        async with connection.transaction():
            return await notice_store.forget(
                connection,
                older_than=timedelta(days=self._retention.deliveries).total_seconds(),
                limit=ROWS,
                now=self._clock.override(),
            )

    async def _delete_answers(self, connection: Connection) -> int:
        async with connection.transaction():
            return await answer_store.forget(connection, limit=ROWS, now=self._clock.override())

    async def _delete_replays(self, connection: Connection) -> int:
        async with connection.transaction():
            return await replay_store.forget(
                connection,
                older_than=timedelta(days=self._retention.deliveries).total_seconds(),
                limit=ROWS,
                now=self._clock.override(),
            )

    async def _forget_statistics(self, connection: Connection) -> None:
        await statistics_store.forget(
            connection,
            minutes_for=MINUTES_KEPT.total_seconds(),
            quarters_for=timedelta(days=self._retention.statistics).total_seconds(),
            now=self._clock.override(),
        )

    async def _drop(self, connection: Connection, parent: str) -> None:
        horizon = await self._horizon(connection, parent)
        for partition in await store.list_days(connection, parent):
            if partition.day >= horizon:
                return
            try:
                async with connection.transaction():
                    await store.set_lock_timeout(connection, milliseconds=LOCK_MILLISECONDS)
                    if parent == "outbox":
                        # a person's retry, or a replay, may have made a delivery of such an event since the horizon was read
                        await store.lock_out(connection, parent, partition)
                        if await store.is_needed(connection, partition):
                            return
                    await store.drop(connection, partition)
            except Exception as error:
                if not is_locked_out(error):
                    raise
                logger.info("partition.busy", partition=partition.name)
                return
            logger.info("partition.dropped", partition=partition.name)

    async def _horizon(self, connection: Connection, parent: str) -> date:
        """Return the first day that is kept."""
        today = await store.today(connection, now=self._clock.override())
        horizon = today - timedelta(days=self._retention.of(parent))
        if parent == "outbox":
            needed = await store.oldest_event_needed(connection)
            if needed is not None:
                horizon = min(horizon, needed)
        return horizon
