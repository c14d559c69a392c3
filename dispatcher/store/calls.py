"""Reads the deliveries of all endpoints, the newest first, filtered: the log that operators browse.

A *walk* goes along an index, so many rows and no further; a *sift* keeps what passes the filters, inside the server. Ids
ascend with time but for transactions that overlapped, so that over all endpoints the newest is the one with the highest id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

import asyncpg

from dispatcher.model import DeliveryId, DeliveryState, EndpointId, EventId
from dispatcher.store import queries
from dispatcher.store.history import DAWN, DUSK, LAST_ID, Lane

SQL = queries.load(__file__)

_WALKS = (
    "pending",
    "pending_of_endpoints",
    "pending_of_event",
    "finished",
    "undelivered",
    "finished_of_event",
    "finished_of_endpoints",
    "undelivered_of_endpoints",
)

STATEMENTS: Mapping[str, str] = MappingProxyType(
    {name: f"-- calls.{name}\n{SQL.sift.replace('/* walk */', SQL[name])}" for name in _WALKS}
)
"""What each walk finds, sifted."""


class Place(NamedTuple):
    """Where a walk stands: behind a delivery that was created at an instant and has an id."""

    at: datetime
    id: DeliveryId


TOP = Place(DUSK, DeliveryId(LAST_ID))
"""Before the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sieve:
    """What a delivery must be; null: no matter. Instants from `created_from` on, and before `created_before`."""

    state: DeliveryState | None = None
    statuses: tuple[int, int] | None = None
    """Last HTTP status, from and to."""
    error_class: str | None = None
    event_type: str | None = None
    endpoints: tuple[EndpointId, ...] | None = None
    created_from: datetime = DAWN
    created_before: datetime = DUSK

    @property
    def asks_for_attempt(self) -> bool:
        """Whether the last attempt decides."""
        return self.statuses is not None or self.error_class is not None

    @property
    def is_open(self) -> bool:
        """Whether all pass, so that not one more than asked for need be looked at."""
        return self == Sieve()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sifted:
    """A delivery's own row."""

    id: DeliveryId
    endpoint_id: EndpointId
    event_id: EventId
    event_at: datetime
    created_at: datetime
    attempts: int
    manual: bool
    state: DeliveryState
    reason: str | None
    due_at: datetime | None
    """Of a pending one; null when it waits for an earlier delivery with the same ordering key."""
    finished_at: datetime | None
    status: int | None
    error: str | None

    @property
    def place(self) -> Place:
        """Where a walk stands that has come to it."""
        return Place(self.created_at, self.id)


@dataclass(frozen=True, slots=True)
class Haul:
    """What one sift brought."""

    rows: tuple[Sifted, ...]
    """In the order of the walk."""
    walked: int
    """How many were looked at."""
    edge: Place | None
    """The last one that was looked at; null: none was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A delivery as the log of all calls shows it."""

    id: DeliveryId
    tenant: str
    endpoint_id: EndpointId
    url: str
    event_id: EventId
    event_type: str | None
    """Null when the event is past retention."""
    state: DeliveryState
    reason: str | None
    """Of a dead one: a `DeathReason`; of a cancelled one: null or `endpoint_archived`."""
    attempts: int
    """How many were made."""
    manual: bool
    """Made by a person's retry, a test or a replay."""
    created_at: datetime
    due_at: datetime | None
    """Of a pending one; null when it waits for an earlier delivery with the same ordering key."""
    finished_at: datetime | None
    """Null: pending."""
    last_status: int | None
    """HTTP status of the last attempt; null: none was made, or it was not answered."""
    last_error_class: str | None
    """`timeout`, `dns`, …, `blocked`; null: answered, or no attempt was made."""
    last_error: str | None
    """The same in one line for people, without its class."""
    last_attempt_at: datetime | None
    """Null: none was made, or it is past retention."""
    last_milliseconds: int | None


async def prefer_order(connection: asyncpg.Connection) -> None:
    """Let walks follow their indexes until the transaction ends; needs one."""
    await connection.execute(SQL.prefer_order)


async def sift(connection: asyncpg.Connection, walk: str, sieve: Sieve, *arguments: Any, limit: int) -> Haul:
    """Walk so far as `arguments` say (see calls.sql), and return at most `limit` of what passes."""
    statuses = sieve.statuses or (None, None)
    rows = await connection.fetch(
        STATEMENTS[walk],
        sieve.state,
        *statuses,
        sieve.error_class,
        sieve.event_type,
        None if sieve.endpoints is None else list(sieve.endpoints),
        sieve.created_from,
        sieve.created_before,
        limit,
        *arguments,
    )
    if not rows:
        return Haul((), 0, None)
    edge = Place(rows[0]["edge_at"], DeliveryId(rows[0]["edge_id"]))
    return Haul(tuple(_sifted(row) for row in rows if row["id"] is not None), rows[0]["walked"], edge)


def _sifted(row: asyncpg.Record) -> Sifted:
    return Sifted(
        id=DeliveryId(row["id"]),
        endpoint_id=EndpointId(row["endpoint_id"]),
        event_id=EventId(row["event_id"]),
        event_at=row["event_at"],
        created_at=row["created_at"],
        attempts=row["attempts"],
        manual=row["manual"],
        state=DeliveryState(row["state"]),
        reason=row["reason"],
        due_at=row["due_at"],
        finished_at=row["finished_at"],
        status=row["status"],
        error=row["error"],
    )


async def shown(connection: asyncpg.Connection, rows: Sequence[Sifted]) -> tuple[Call, ...]:
    """Add to deliveries what is told of them beside: endpoint, event type and last attempt."""
    details = await connection.fetch(
        SQL.shown,
        [row.id for row in rows],
        [row.endpoint_id for row in rows],
        [row.event_id for row in rows],
        [row.event_at for row in rows],
        [row.attempts for row in rows],
        [row.created_at for row in rows],
        [row.finished_at for row in rows],
    )
    return tuple(_call(row, detail) for row, detail in zip(rows, details, strict=True))


def _call(row: Sifted, detail: asyncpg.Record) -> Call:
    tried = detail["started_at"] is not None
    error = detail["error"] if tried else row.error
    error_class, _, line = (error or "").partition(": ")
    return Call(
        id=row.id,
        tenant=detail["tenant"],
        endpoint_id=row.endpoint_id,
        url=detail["url"],
        event_id=row.event_id,
        event_type=detail["event_type"],
        state=row.state,
        reason=row.reason,
        attempts=row.attempts,
        manual=row.manual,
        created_at=row.created_at,
        due_at=row.due_at,
        finished_at=row.finished_at,
        last_status=detail["status"] if tried else row.status,
        last_error_class=error_class or None,
        last_error=line or None,
        last_attempt_at=detail["started_at"],
        last_milliseconds=detail["milliseconds"],
    )


async def endpoints_of(connection: asyncpg.Connection, tenant: str, *, limit: int) -> list[Lane]:
    """Return endpoints of a tenant, archived ones too, at most `limit`."""
    return [Lane(row["id"], row["shard"]) for row in await connection.fetch(SQL.endpoints_of, tenant, limit)]


async def first_id_at(
    connection: asyncpg.Connection, instant: datetime, *, finished_from: datetime
) -> DeliveryId | None:
    """Return the id from which on deliveries were created at an instant or later; None if there are none at all.

    `finished_from` spares the partitions of earlier days.
    """
    found: int | None = await connection.fetchval(SQL.first_id_at, instant, finished_from)
    return None if found is None else DeliveryId(found)
