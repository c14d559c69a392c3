"""Pending deliveries: pull them past a lane's cursor, record what came of them, end those that nobody can have.

Opens no transaction. Results are guarded by the attempt number, never by a lease.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isinf
from typing import Any, Final

import asyncpg

from dispatcher.model import Delivery, DeliveryId, EndpointId, EventId, Sent, Shard, Timings
from dispatcher.store import queries
from dispatcher.store.outbox import event_of
from dispatcher.swift import swift

SQL = queries.load(__file__)

DAWN = datetime.min.replace(tzinfo=UTC)
"""Before every row: where a cursor stands that has read nothing."""


BEFORE_NOW: Final = 15
"""Of the arguments of `record`, so many arrays come before `now`."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a lane, behind which to read on."""

    shard: Shard
    endpoint_id: EndpointId
    after_due: float
    """Unix seconds; minus infinity for the head."""
    after_id: int
    count: int


@swift
class Result:
    """What came of one attempt, ready to be written down. Texts hold no NUL."""

    delivery_id: DeliveryId
    shard: Shard
    number: int
    """1 for the first attempt."""
    verdict: str
    """`done`, `retry` or `give_up`."""
    delay: float | None
    """Seconds until the next attempt."""
    reason: str | None
    """Why it was given up."""
    started: float
    """Unix seconds."""
    seconds: float
    outcome: str
    """`answered`, `unreachable` or `blocked`."""
    status: int | None
    error: str | None
    address: str | None
    headers: str | None
    body: bytes | None
    body_cut: bool | None
    body_size: int | None = None
    """Of the answer, true size; null if it is not known."""
    sent: Sent | None = None
    timings: Timings | None = None
    signed_with: str | None = None


@dataclass(frozen=True, slots=True)
class Killed:
    """A pending delivery that was ended without an attempt."""

    id: DeliveryId
    shard: Shard
    endpoint_id: EndpointId
    event_id: EventId
    event_type: str | None
    attempts: int
    manual: bool
    silent: bool
    """Its death is told to nobody."""
    ordering_key: str | None


@dataclass(frozen=True, slots=True)
class Ended:
    """An endpoint that gets no deliveries any more: disabled (pending ones die) or archived (they are cancelled)."""

    shard: Shard
    endpoint_id: EndpointId
    archived: bool


@dataclass(frozen=True, slots=True)
class Work:
    """An endpoint has pending deliveries, the first due at `due_at` (unix seconds)."""

    shard: Shard
    endpoint_id: EndpointId
    due_at: float


def _instant(seconds: float) -> datetime:
    return DAWN if isinf(seconds) else datetime.fromtimestamp(seconds, UTC)


async def pull(
    connection: asyncpg.Connection,
    places: Sequence[Place],
    *,
    now: datetime | None,
) -> list[Delivery]:
    """Read what is due behind each place, at most its `count`, in the order of due_at and id within a lane."""
    rows = await connection.fetch(
        SQL.pull,
        [place.shard for place in places],
        [place.endpoint_id for place in places],
        [_instant(place.after_due) for place in places],
        [place.after_id for place in places],
        [place.count for place in places],
        now,
    )
    return [
        Delivery(
            id=DeliveryId(row["id"]),
            shard=Shard(row["shard"]),
            endpoint_id=EndpointId(row["endpoint_id"]),
            event=event_of(row, id_column="event_id"),
            due_at=row["due_at"],
            created_at=row["created_at"],
            attempts=row["attempts"],
            expires_at=row["expires_at"],
            ordered=row["ordered"],
            manual=row["manual"],
            notify=row["notify"],
        )
        for row in rows
    ]


async def next_due(connection: asyncpg.Connection, places: Sequence[Place]) -> dict[EndpointId, float]:
    """Tell when each lane has its next work after its place; lanes that have none are left out."""
    rows = await connection.fetch(
        SQL.next_due,
        [place.shard for place in places],
        [place.endpoint_id for place in places],
        [_instant(place.after_due) for place in places],
    )
    return {EndpointId(row["endpoint_id"]): row["due_at"] for row in rows}


async def lanes_with_work(connection: asyncpg.Connection, shards: Sequence[Shard]) -> list[Work]:
    """Tell which endpoints of some shards have pending deliveries, and when the first of each is due."""
    rows = await connection.fetch(SQL.lanes_with_work, list(shards))
    return [Work(Shard(row["shard"]), EndpointId(row["endpoint_id"]), row["due_at"]) for row in rows]


async def record(
    connection: asyncpg.Connection,
    results: Sequence[Result],
    *,
    worker: str | None = None,
    age_at: float,
    now: datetime | None,
) -> dict[DeliveryId, float | None]:
    """Write results down; returns the deliveries that they changed, with the instant of the next attempt if there is one.

    `worker` is whoever made the attempts, `age_at` the present by the clock that `Result.started` was read from.
    """
    await connection.execute(SQL.prefer_keys)  # behind PgBouncer the session cannot say so once and for all
    columns = list(zip(*[_columns(result, age_at=age_at) for result in results], strict=True))
    rows = await connection.fetch(SQL.record, *columns[:BEFORE_NOW], now, *columns[BEFORE_NOW:], worker)
    return {DeliveryId(row["id"]): row["due_at"] for row in rows}


def _columns(result: Result, *, age_at: float) -> tuple[Any, ...]:
    """Return a result as `record` takes it, in the order of its arguments."""
    head, body_size, body_sha256 = None, None, None
    if (sent := result.sent) is not None:
        head, body_size, body_sha256 = sent.head, sent.body_size, sent.body_sha256
    reused, lookup, connect, tls, first_byte = None, None, None, None, None
    if (timings := result.timings) is not None:
        reused = timings.reused
        lookup, connect, tls = map(_milliseconds, (timings.lookup, timings.connect, timings.tls))
        first_byte = _milliseconds(timings.first_byte)
    return (
        result.delivery_id,
        result.shard,
        result.number,
        result.verdict,
        result.delay,
        result.reason,
        age_at - result.started,
        round(result.seconds * 1000),
        result.outcome,
        result.status,
        result.error,
        result.address,
        result.headers,
        result.body,
        result.body_cut,
        head,
        body_size,
        body_sha256,
        result.signed_with,
        result.body_size,
        reused,
        lookup,
        connect,
        tls,
        first_byte,
    )


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


async def ordering_keys_of(connection: asyncpg.Connection, ids: Sequence[DeliveryId]) -> list[tuple[EndpointId, str]]:
    """Look up endpoint and ordering key of pending deliveries that have one."""
    rows = await connection.fetch(SQL.ordering_keys_of, list(ids))
    return [(EndpointId(row["endpoint_id"]), row["ordering_key"]) for row in rows]


async def promote(
    connection: asyncpg.Connection,
    freed: Sequence[tuple[EndpointId, str]],
    *,
    now: datetime | None,
) -> list[tuple[EndpointId, float]]:
    """Make the next delivery of each (endpoint, ordering key) due; returns endpoints and the instants.

    Call it in the transaction that ended the one before, under `store.outbox.lock_ordering`.
    """
    keys = sorted(set(freed))
    rows = await connection.fetch(SQL.promote, [endpoint_id for endpoint_id, _ in keys], [key for _, key in keys], now)
    return [(EndpointId(row["endpoint_id"]), row["due_at"]) for row in rows]


async def orphaned_ordering_keys(
    connection: asyncpg.Connection, shards: Sequence[Shard], *, limit: int
) -> list[tuple[EndpointId, str]]:
    """Find ordering keys whose first delivery waits though nothing is before it; there should be none."""
    rows = await connection.fetch(SQL.orphaned_ordering_keys, list(shards), limit)
    return [(EndpointId(row["endpoint_id"]), row["ordering_key"]) for row in rows]


async def kill_ended(
    connection: asyncpg.Connection,
    ended: Sequence[Ended],
    *,
    limit: int,
    busy: Sequence[DeliveryId],
    now: datetime | None,
) -> dict[EndpointId, int]:
    """End up to `limit` pending deliveries of each endpoint, but for the `busy` ones; returns how many of which."""
    rows = await connection.fetch(
        SQL.kill_ended,
        [item.shard for item in ended],
        [item.endpoint_id for item in ended],
        [item.archived for item in ended],
        limit,
        list(busy),
        now,
    )
    return {EndpointId(row["endpoint_id"]): row["count"] for row in rows}


async def kill_expired(
    connection: asyncpg.Connection,
    shards: Sequence[Shard],
    *,
    limit: int,
    busy: Sequence[DeliveryId],
    now: datetime | None,
) -> list[Killed]:
    """End pending deliveries whose event has expired, but for the `busy` ones."""
    return _killed(await connection.fetch(SQL.kill_expired, list(shards), limit, list(busy), now))


async def kill_overdue(
    connection: asyncpg.Connection,
    spans: Mapping[EndpointId, tuple[Shard, float]],
    *,
    limit: int,
    busy: Sequence[DeliveryId],
    now: datetime | None,
) -> list[Killed]:
    """End deliveries of failing endpoints that have waited longer than their schedule's span (seconds)."""
    return _killed(
        await connection.fetch(
            SQL.kill_overdue,
            [shard for shard, _ in spans.values()],
            list(spans),
            [span for _, span in spans.values()],
            limit,
            list(busy),
            now,
        )
    )


def _killed(rows: Sequence[asyncpg.Record]) -> list[Killed]:
    return [
        Killed(
            id=DeliveryId(row["id"]),
            shard=Shard(row["shard"]),
            endpoint_id=EndpointId(row["endpoint_id"]),
            event_id=EventId(row["event_id"]),
            event_type=row["event_type"],
            attempts=row["attempts"],
            manual=row["manual"],
            silent=row["silent"],
            ordering_key=row["ordering_key"],
        )
        for row in rows
    ]


async def first_attempts(connection: asyncpg.Connection, ids: Sequence[DeliveryId]) -> dict[DeliveryId, float]:
    """Tell when deliveries were first tried, unix seconds; those never tried are left out."""
    rows = await connection.fetch(SQL.first_attempts, list(ids))
    return {DeliveryId(row["delivery_id"]): row["started_at"] for row in rows}


async def count_due(connection: asyncpg.Connection, works: Sequence[Work], *, most: int) -> int:
    """Count the deliveries that are due in some lanes, up to `most` a lane."""
    count: int = await connection.fetchval(
        SQL.count_due, [work.shard for work in works], [work.endpoint_id for work in works], most
    )
    return count
