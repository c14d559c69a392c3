"""The outbox as fan-out sees it: read what is new, turn it into pending deliveries.

Opens no transaction; `fan_out` is one statement, and is safe against a worker that comes late.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from dispatcher.model import Delivery, DeliveryId, EndpointId, Event, EventId, Shard
from dispatcher.store import queries

SQL = queries.load(__file__)


@dataclass(frozen=True, slots=True)
class Unread:
    """An event that fan-out has not turned into deliveries yet."""

    shard: Shard
    position: int
    """Where it stands in its shard; rises with the insert, not with the commit, so that it can be overtaken."""
    ordered: bool
    """It has an ordering key."""
    event: Event


async def read(
    connection: asyncpg.Connection,
    cursors: Mapping[Shard, int],
    *,
    per_shard: int,
    limit: int,
) -> list[Unread]:
    """Read on in each shard behind its cursor; the shards that come first in `cursors` are served first."""
    rows = await connection.fetch(SQL.read, list(cursors), list(cursors.values()), per_shard, limit)
    return [
        Unread(
            shard=Shard(row["shard"]),
            position=row["position"],
            ordered=row["ordered"],
            event=event_of(row),
        )
        for row in rows
    ]


def event_of(row: asyncpg.Record, *, id_column: str = "id") -> Event:
    """Build the event of a row that holds its columns; instants as unix seconds."""
    return Event(
        id=EventId(row[id_column]),
        tenant=row["tenant"],
        event_type=row["event_type"],
        payload=row["payload"],
        occurred_at=row["occurred_at"],
        inserted_at=row["inserted_at"],
    )


async def lock_ordering(connection: asyncpg.Connection, shards: Sequence[Shard]) -> None:
    """Keep fan-out and recording of ordered deliveries apart, shard by shard, until the transaction ends."""
    await connection.execute(SQL.lock_ordering, sorted(set(shards)))


async def fan_out(
    connection: asyncpg.Connection,
    unread: Sequence[Unread],
    *,
    now: datetime | None,
) -> list[Delivery]:
    """Make one pending delivery per matching endpoint, and return those that have an instant at which they are due.

    A batch with ordering keys needs `lock_ordering` first.
    """
    ordered = any(item.ordered for item in unread)
    rows = await connection.fetch(
        SQL.fan_out_ordered if ordered else SQL.fan_out,
        [item.shard for item in unread],
        [item.position for item in unread],
        now,
    )
    events = {item.event.id: item.event for item in unread}
    return [
        Delivery(
            id=DeliveryId(row["id"]),
            shard=Shard(row["shard"]),
            endpoint_id=EndpointId(row["endpoint_id"]),
            event=events[row["event_id"]],
            due_at=row["due_at"],
            created_at=row["created_at"],
            attempts=0,
            expires_at=row["expires_at"],
            ordered=ordered and row["ordered"],
        )
        for row in rows
    ]


async def fill_wakeups(connection: asyncpg.Connection) -> None:
    """Make the row that spaces out wake-ups, in case a crash emptied its table."""
    await connection.execute(SQL.fill_wakeups)


async def set_parameters(
    connection: asyncpg.Connection,
    *,
    idempotency_window: float,
    notify_every: float | None,
) -> None:
    """Tell the outbox triggers how long idempotency keys last and how often to wake workers (None: never); seconds."""
    await connection.execute(SQL.set_parameters, idempotency_window, notify_every)


async def forget_idempotency_keys(connection: asyncpg.Connection, *, limit: int) -> int:
    """Drop keys that are past the window; returns how many."""
    return int((await connection.execute(SQL.forget_idempotency_keys, limit)).split()[-1])


async def oldest_unread(connection: asyncpg.Connection, shards: Sequence[Shard]) -> float | None:
    """Seconds that the oldest unread event of these shards has waited; None if none waits."""
    age: float | None = await connection.fetchval(SQL.oldest_unread, list(shards))
    return age
