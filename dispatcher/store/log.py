"""Reads one endpoint's deliveries page by page, in the order of their creation or delivery: the log that tenants browse.

A page is read in two steps, so that every way to order and filter stays a walk along an index: marks (which deliveries, in
order), then what is known of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import asyncpg

from dispatcher.model import DeliveryId, DeliveryState, EndpointId, EventId, Shard
from dispatcher.store import queries
from dispatcher.store.history import DAWN, DUSK, LAST_ID, DeliveryRow

SQL = queries.load(__file__)


class Mark(NamedTuple):
    """Where a delivery stands in the order that was asked for."""

    at: datetime
    id: DeliveryId
    finished_at: datetime | None = None
    """Null: pending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """Which deliveries of an endpoint, in which order. Instants from `*_from` on, and before `*_before`."""

    endpoint_id: EndpointId
    shard: Shard
    created_from: datetime = DAWN
    created_before: datetime = DUSK
    delivered_from: datetime = DAWN
    delivered_before: datetime = DUSK
    delivered: bool | None = None
    """Only what was delivered, or only what was not; null: both."""
    by_delivery: bool = False
    """In the order of delivery, which leaves out what was not delivered; else of creation."""
    ascending: bool = False
    now: datetime | None = None
    """Null: the database's."""

    @property
    def only_delivered(self) -> bool:
        """Whether anything but a delivered one could be meant."""
        return bool(self.delivered) or self.by_delivery or (self.delivered_from, self.delivered_before) != (DAWN, DUSK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A delivery as the log shows it."""

    id: DeliveryId
    endpoint_id: EndpointId
    event_id: EventId
    event_at: datetime
    event_type: str | None
    """Null when the event is past retention."""
    state: DeliveryState
    reason: str | None
    created_at: datetime
    due_at: datetime | None
    finished_at: datetime | None
    attempts: int
    manual: bool
    status: int | None
    """Of the last attempt, as far as the delivery itself knows it: see `last_attempts` for a pending one."""
    error: str | None


@dataclass(frozen=True, slots=True)
class LastAttempt:
    """What a delivery's last attempt came to."""

    started_at: datetime
    status: int | None
    error: str | None


async def marks(connection: asyncpg.Connection, walk: Walk, *, after: Mark | None, limit: int) -> list[Mark]:
    """Return the next deliveries behind a mark, or the first ones, in order."""
    if walk.delivered is False and walk.only_delivered:
        return []
    if walk.by_delivery:
        found = await _by_delivery(connection, walk, after, limit)
    else:
        found = await _by_creation(connection, walk, after, limit)
    # pending and finished ones come in order each, so that the sort only merges them
    return sorted(found, key=lambda mark: mark[:2], reverse=not walk.ascending)[:limit]


async def _by_creation(connection: asyncpg.Connection, walk: Walk, after: Mark | None, limit: int) -> list[Mark]:
    place = _place(walk, after, walk.created_from, walk.created_before)
    rows: list[asyncpg.Record] = []
    if not walk.only_delivered:
        fresh, moved = (
            (SQL.fresh_earliest, SQL.moved_earliest) if walk.ascending else (SQL.fresh_latest, SQL.moved_latest)
        )
        rows += await connection.fetch(fresh, walk.endpoint_id, walk.shard, *place, limit, walk.now)
        rows += await connection.fetch(moved, walk.endpoint_id, walk.shard, *place, limit)
    if walk.delivered is False:
        statement = SQL.undelivered_earliest if walk.ascending else SQL.undelivered_latest
        rows += await connection.fetch(statement, walk.endpoint_id, *place, limit)
    else:
        statement = SQL.finished_earliest if walk.ascending else SQL.finished_latest
        delivered = (walk.delivered_from, walk.delivered_before, walk.only_delivered)
        rows += await connection.fetch(statement, walk.endpoint_id, *place, *delivered, limit)
    return [Mark(row["at"], DeliveryId(row["id"]), row["finished_at"]) for row in rows]


async def _by_delivery(connection: asyncpg.Connection, walk: Walk, after: Mark | None, limit: int) -> list[Mark]:
    statement = SQL.delivered_earliest if walk.ascending else SQL.delivered_latest
    place = _place(walk, after, walk.delivered_from, walk.delivered_before)
    rows = await connection.fetch(statement, walk.endpoint_id, *place, walk.created_from, walk.created_before, limit)
    return [Mark(row["at"], DeliveryId(row["id"]), row["finished_at"]) for row in rows]


def _place(walk: Walk, after: Mark | None, start: datetime, end: datetime) -> tuple[datetime, DeliveryId, datetime]:
    """Return where to begin (an instant and an id to be behind), and the instant to stop at."""
    if walk.ascending:
        # an id of 0 lets those at that very instant in
        return (start, DeliveryId(0), end) if after is None else (after.at, after.id, end)
    if after is not None:
        return after.at, after.id, start
    return (end, DeliveryId(LAST_ID) if end == DUSK else DeliveryId(0), start)


async def entries(connection: asyncpg.Connection, shard: Shard, marks: Sequence[Mark]) -> list[Entry]:
    """Return what is known of deliveries, in the order of their marks."""
    rows = await connection.fetch(SQL.entries, [mark.id for mark in marks], [mark.finished_at for mark in marks], shard)
    return [Entry(**dict(row) | {"state": DeliveryState(row["state"])}) for row in rows]


async def sift(
    connection: asyncpg.Connection,
    shard: Shard,
    marks: Sequence[Mark],
    *,
    event_type: str | None,
    status: int | None,
    error: str | None,
) -> list[Mark]:
    """Return those deliveries that a filter lets through, in order. `error` is a part of the last one, in any case."""
    rows = await connection.fetch(
        SQL.sift,
        [mark.id for mark in marks],
        [mark.finished_at for mark in marks],
        shard,
        event_type,
        status,
        None if error is None else error.lower(),
    )
    return [marks[row["place"] - 1] for row in rows]


async def last_attempts(
    connection: asyncpg.Connection, deliveries: Sequence[Entry | DeliveryRow]
) -> dict[DeliveryId, LastAttempt]:
    """Return the last attempt of those deliveries that had one, as far as it is not past retention."""
    tried = [entry for entry in deliveries if entry.attempts]
    if not tried:
        return {}
    since = min(entry.created_at for entry in tried)
    rows = await connection.fetch(SQL.last_attempts, [entry.id for entry in tried], since)
    return {DeliveryId(row["delivery_id"]): LastAttempt(row["started_at"], row["status"], row["error"]) for row in rows}


async def payloads(connection: asyncpg.Connection, deliveries: Sequence[Entry]) -> dict[EventId, str]:
    """Return the payloads of deliveries' events, as inserted; those past retention are left out."""
    events = {entry.event_id: entry.event_at for entry in deliveries}
    rows = await connection.fetch(SQL.payloads, list(events), list(events.values()))
    return {EventId(row["event_id"]): row["payload"] for row in rows}
