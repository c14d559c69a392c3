"""Reads events, deliveries and attempts for people; workers have their own ways in `outbox` and `deliveries`.

Instants are aware datetimes in UTC here, because all of it ends in text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson

from dispatcher.model import DeliveryId, DeliveryState, EndpointId, EventId, Shard
from dispatcher.store import queries

SQL = queries.load(__file__)

DAWN = datetime.min.replace(tzinfo=UTC)
DUSK = datetime.max.replace(tzinfo=UTC)
"""Before and after every row: asyncpg writes and reads them as infinities."""
LAST_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event as it stands in the outbox."""

    id: EventId
    tenant: str
    event_type: str
    payload: str
    """The JSON text as inserted."""
    occurred_at: datetime
    inserted_at: datetime
    deliver_at: datetime | None
    expires_at: datetime | None
    idempotency_key: str | None
    ordering_key: str | None
    shard: Shard
    refused_at: datetime | None = None
    """When the catalogue refused it, instead of its being fanned out."""
    refused_because: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """A delivery, pending or finished."""

    id: DeliveryId
    tenant: str
    shard: Shard
    endpoint_id: EndpointId
    url: str
    event_id: EventId
    event_type: str | None
    """Null when the event is past retention."""
    event_at: datetime
    """When the event was inserted."""
    state: DeliveryState
    created_at: datetime
    attempts: int
    """How many were made."""
    manual: bool
    """Made by a person's retry or test."""
    due_at: datetime | None = None
    """Of a pending one; null when it waits for an earlier delivery with the same ordering key."""
    expires_at: datetime | None = None
    ordering_key: str | None = None
    """Of a pending one."""
    finished_at: datetime | None = None
    reason: str | None = None
    """Of a dead one: a `DeathReason`."""
    status: int | None = None
    """The last answer's; of a pending one only where it was looked up."""
    error: str | None = None
    """The last attempt's; of a pending one only where it was looked up."""


@dataclass(frozen=True, slots=True)
class TimingsRow:
    """How long the phases of an attempt took, milliseconds; null where it did not come so far, 0 where there was none."""

    reused: bool
    """Over a connection that was open: no look-up, no connecting, no TLS."""
    lookup: float | None
    connect: float | None
    tls: float | None
    first_byte: float | None
    """From when the request was written to the first byte of the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One HTTP try of a delivery, as it was logged."""

    delivery_id: DeliveryId
    number: int
    """From 1."""
    started_at: datetime
    milliseconds: int
    outcome: str
    """`answered`, `unreachable` or `blocked`."""
    status: int | None
    verdict: str
    """`done`, `retry` or `give_up`."""
    error: str | None
    address: str | None
    next_attempt_at: datetime | None
    response_headers: tuple[tuple[str, str], ...]
    response_body: bytes | None
    response_cut: bool
    response_size: int | None = None
    """True size of the answer's body; null where it was cut and its length not announced."""
    request_head: str | None = None
    """First line and headers as they were written, CRLF between, credentials hidden; null: nothing was written."""
    request_size: int | None = None
    request_sha256: bytes | None = None
    request_body: bytes | None = None
    """Made anew of the event; null where that cannot be done any more."""
    signed_with: tuple[str, ...] = ()
    """Fingerprints of the keys that signed, the newest first."""
    timings: TimingsRow | None = None
    worker: str | None = None
    """Host and process id."""

    @property
    def error_class(self) -> str | None:
        """Class of the failure: an `UnreachableReason`, or `blocked`; null when answered."""
        return None if self.error is None else self.error.partition(": ")[0]

    @property
    def error_detail(self) -> str | None:
        """The failure in one line for people."""
        return None if self.error is None else self.error.partition(": ")[2]


@dataclass(frozen=True, slots=True)
class Lane:
    """An endpoint whose deliveries are asked for."""

    endpoint_id: EndpointId
    shard: Shard


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who is there to work on a shard."""

    owned: bool
    any_worker: bool
    now: datetime


async def event(connection: asyncpg.Connection, event_id: EventId) -> EventRow | None:
    """Return an event, or None if there is none, or it is past retention."""
    row = await connection.fetchrow(SQL.event, event_id)
    return None if row is None else EventRow(**row)


async def events(
    connection: asyncpg.Connection,
    *,
    since: datetime,
    tenant: str | None,
    event_type: str | None,
    limit: int,
) -> list[EventRow]:
    """Return events inserted since an instant, the latest first (by id, which a producer may have chosen).

    `since` bounds the days that are read: with a tenant or a type, these have to be read whole.
    """
    if tenant is None and event_type is None:
        rows = await connection.fetch(SQL.events, since, limit)
    else:
        rows = await connection.fetch(SQL.events_of, since, limit, tenant, event_type)
    return [EventRow(**row) for row in rows]


async def refused_events(
    connection: asyncpg.Connection,
    *,
    since: datetime,
    tenant: str | None,
    event_type: str | None,
    limit: int,
) -> list[EventRow]:
    """Return events inserted since an instant that the catalogue refused, the latest refusals first."""
    rows = await connection.fetch(SQL.refused, since, limit, tenant, event_type)
    return [EventRow(**row) for row in rows]


async def is_unread(connection: asyncpg.Connection, event: EventRow) -> bool:
    """Tell whether fan-out has yet to read an event."""
    return bool(await connection.fetchval(SQL.is_unread, event.shard, event.id))


async def is_unmatched(connection: asyncpg.Connection, event: EventRow) -> bool:
    """Tell whether no endpoint wanted an event when it was read."""
    return bool(await connection.fetchval(SQL.is_unmatched, event.id, event.inserted_at))


async def delivery(connection: asyncpg.Connection, delivery_id: DeliveryId) -> DeliveryRow | None:
    """Return a delivery, pending or finished; None if there is none, or it is past retention."""
    row = await connection.fetchrow(SQL.pending, delivery_id)
    if row is None:
        row = await connection.fetchrow(SQL.finished, delivery_id)
    return None if row is None else _delivery(row)


async def deliveries_of_event(connection: asyncpg.Connection, event_id: EventId) -> list[DeliveryRow]:
    """Return all deliveries of an event, the newest first."""
    rows = [
        *await connection.fetch(SQL.pending_of_event, event_id),
        *await connection.fetch(SQL.finished_of_event, event_id),
    ]
    return sorted((_delivery(row) for row in rows), key=lambda delivery: delivery.id, reverse=True)


async def lanes(connection: asyncpg.Connection, *, endpoint_id: EndpointId | None, tenant: str | None) -> list[Lane]:
    """Return the endpoints that a filter means, archived ones included."""
    return [
        Lane(EndpointId(row["id"]), Shard(row["shard"]))
        for row in await connection.fetch(SQL.lanes, endpoint_id, tenant)
    ]


async def pending(
    connection: asyncpg.Connection,
    lanes: Sequence[Lane],
    *,
    after: tuple[datetime, DeliveryId] | None,
    limit: int,
) -> list[DeliveryRow]:
    """Return pending deliveries, the soonest due first; those that wait for an earlier one come last."""
    due_at, delivery_id = after or (DAWN, DeliveryId(0))
    rows = await connection.fetch(
        SQL.pending_of_endpoints,
        [lane.endpoint_id for lane in lanes],
        [lane.shard for lane in lanes],
        due_at,
        delivery_id,
        limit,
    )
    return [_delivery(row) for row in rows]


async def finished(
    connection: asyncpg.Connection,
    lanes: Sequence[Lane],
    *,
    state: DeliveryState | None,
    after: tuple[datetime, DeliveryId] | None,
    limit: int,
) -> list[DeliveryRow]:
    """Return finished deliveries, of one state or of all, the latest first."""
    finished_at, delivery_id = after or (DUSK, DeliveryId(LAST_ID))
    arguments: list[Any] = [[lane.endpoint_id for lane in lanes], finished_at, delivery_id, limit]
    if state is None:
        rows = await connection.fetch(SQL.finished_of_endpoints, *arguments)
    elif state is DeliveryState.DELIVERED:
        rows = await connection.fetch(SQL.delivered_of_endpoints, *arguments)
    else:
        rows = await connection.fetch(SQL.undelivered_of_endpoints, *arguments, state)
    return [_delivery(row) for row in rows]


async def attempts(connection: asyncpg.Connection, deliveries: Sequence[DeliveryId]) -> list[AttemptRow]:
    """Return the attempts of some deliveries, in order."""
    return [_attempt(row) for row in await connection.fetch(SQL.attempts, list(deliveries))]


async def subscribers(
    connection: asyncpg.Connection, ids: Sequence[EndpointId], event_type: str
) -> dict[EndpointId, bool]:
    """Say of some endpoints whether each is subscribed to a type."""
    rows = await connection.fetch(SQL.who_wants, list(ids), event_type)
    return {EndpointId(row["id"]): row["subscribed"] for row in rows}


async def filtered(connection: asyncpg.Connection, event: EventRow) -> dict[EndpointId, str | None]:
    """Return the endpoints whose filter did not say yes to an event, and why it failed, None if it said no."""
    rows = await connection.fetch(SQL.filtered, event.id, event.inserted_at)
    return {EndpointId(row["endpoint_id"]): row["fault"] for row in rows}


async def ownership(connection: asyncpg.Connection, shard: Shard, *, now: datetime | None) -> Ownership:
    """Tell who is there to work on a shard."""
    return Ownership(**await connection.fetchrow(SQL.is_owned, shard, now))


def _delivery(row: asyncpg.Record) -> DeliveryRow:
    return DeliveryRow(**dict(row) | {"state": DeliveryState(row["state"])})


def _attempt(row: asyncpg.Record) -> AttemptRow:
    return AttemptRow(
        delivery_id=DeliveryId(row["delivery_id"]),
        number=row["number"],
        started_at=row["started_at"],
        milliseconds=row["milliseconds"],
        outcome=row["outcome"],
        status=row["status"],
        verdict=row["verdict"],
        error=row["error"],
        address=row["address"],
        next_attempt_at=row["next_attempt_at"],
        response_headers=tuple((name, value) for name, value in orjson.loads(row["response_headers"] or "[]")),
        response_body=row["response_body"],
        response_cut=bool(row["response_cut"]),
        response_size=row["response_size"],
        request_head=row["request_head"],
        request_size=row["request_size"],
        request_sha256=row["request_sha256"],
        signed_with=tuple((row["signed_with"] or "").split()),
        timings=None
        if row["reused"] is None
        else TimingsRow(
            row["reused"],
            row["lookup_milliseconds"],
            row["connect_milliseconds"],
            row["tls_milliseconds"],
            row["first_byte_milliseconds"],
        ),
        worker=row["worker"],
    )
