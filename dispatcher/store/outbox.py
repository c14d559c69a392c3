"""The outbox as fan-out sees it: read what is new, turn it into pending deliveries.

Opens no transaction; `fan_out` is one statement, and is safe against a worker that comes late.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from dispatcher.model import Delivery, DeliveryId, EndpointId, Event, EventId, Shard
from dispatcher.store import queries
from dispatcher.swift import swift

SQL = queries.load(__file__)


@swift
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
        Unread(Shard(shard), position, ordered, Event(EventId(event_id), *event))
        for shard, position, ordered, event_id, *event in rows
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


class UnjudgedFilters(Exception):
    """An endpoint has a filter that was not applied: undo the transaction, apply it, and fan out again."""


@dataclass(frozen=True, slots=True)
class Filtered:
    """An event for which a filter did not say yes."""

    endpoint_id: EndpointId
    event_id: EventId
    fault: str | None
    """Why the filter failed, so that the event is delivered all the same; null: it said no."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What filters said of a batch of events."""

    filters: Mapping[EndpointId, str]
    """Those that were applied."""
    filtered: Sequence[Filtered]


async def filters(
    connection: asyncpg.Connection, kinds: Sequence[tuple[str, str]]
) -> list[tuple[str, str, EndpointId, str]]:
    """Return the filters of those who want some kinds of events, given as tenant and type: both, endpoint and filter."""
    rows = await connection.fetch(SQL.filters, [tenant for tenant, _ in kinds], [event_type for _, event_type in kinds])
    return [(row["tenant"], row["event_type"], EndpointId(row["endpoint_id"]), row["filter"]) for row in rows]


async def fan_out(
    connection: asyncpg.Connection,
    unread: Sequence[Unread],
    *,
    now: datetime | None,
    judged: Judged | None = None,
) -> list[Delivery]:
    """Make one pending delivery per matching endpoint, and return those that have an instant at which they are due.

    A batch with ordering keys needs `lock_ordering` first. Raises UnjudgedFilters.
    """
    ordered = any(item.ordered for item in unread)
    batch = [item.shard for item in unread], [item.position for item in unread], now
    if judged is None and not ordered:
        rows = await connection.fetch(SQL.fan_out, *batch)
    else:
        rows = await connection.fetch(SQL.fan_out_ordered, *batch, *columns_of(judged))
    if rows and rows[0]["unjudged"]:
        raise UnjudgedFilters
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


def columns_of(judged: Judged | None) -> tuple[list[Any], ...]:
    """Return the last arguments of `fan_out_ordered`."""
    if judged is None:
        return [], [], [], [], []
    return (
        list(judged.filters),
        list(judged.filters.values()),
        [item.endpoint_id for item in judged.filtered],
        [item.event_id for item in judged.filtered],
        [item.fault for item in judged.filtered],
    )


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
