"""Reads how things stand and have gone, for people: counters over time, endpoints at a glance."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from dispatcher.model import EndpointId, Shard
from dispatcher.store import queries
from dispatcher.store.history import Lane
from dispatcher.tally import LATENCIES

SQL = queries.load(__file__)

FIRST = EndpointId(UUID(int=0))
LAST = EndpointId(UUID(int=2**128 - 1))
"""Before and behind every endpoint."""


@dataclass(frozen=True, slots=True)
class EndpointCounts:
    """How many endpoints there are, and how they do."""

    endpoints: int
    failing: int
    disabled: int
    paused: int


@dataclass(frozen=True, slots=True)
class WorkCounts:
    """What the living workers do together; null: there is none."""

    workers: int
    due: int | None
    oldest_due_seconds: float | None
    in_flight: int | None


@dataclass(frozen=True, slots=True)
class Backed:
    """Things that wait, and for how many seconds the oldest has; 0 if none does."""

    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Step:
    """Counters of one step of time."""

    start: int
    """Unix seconds."""
    attempts: tuple[int, ...]
    """By `tally.CLASSES`."""
    dead: int
    cancelled: int | None = None
    """Null for an endpoint or a tenant; so for all below."""
    due: int | None = None
    oldest_due_seconds: float | None = None
    in_flight: int | None = None
    latencies: tuple[int, ...] = ()
    """By `tally.LATENCIES`, and one more."""


@dataclass(frozen=True, slots=True)
class Hour:
    """What came of an endpoint's deliveries in an hour."""

    endpoint_id: EndpointId
    start: int
    """Unix seconds."""
    ok: int
    failed: int
    dead: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for an endpoint."""

    pending: int
    first_due_at: datetime | None
    """Null: nothing waits for an instant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSearch:
    """Which endpoints are asked for; null: no matter."""

    tenant: str | None = None
    state: str | None = None
    """`archived` is one here; null: all but those."""
    failing: bool | None = None
    text: str | None = None
    """A part of URL, tenant or description, or the start of an id; in lower case."""


async def now(connection: asyncpg.Connection, override: datetime | None) -> datetime:
    """Tell the instant."""
    instant: datetime = await connection.fetchval(SQL.now, override)
    return instant


async def endpoint_counts(connection: asyncpg.Connection, *, tenant: str | None) -> EndpointCounts:
    """Count endpoints by how they do."""
    return EndpointCounts(**await connection.fetchrow(SQL.endpoints, tenant))


async def work(connection: asyncpg.Connection) -> WorkCounts:
    """Add up what the living workers said last."""
    return WorkCounts(**await connection.fetchrow(SQL.workers))


async def mails(connection: asyncpg.Connection, *, most: int, now: datetime | None) -> Backed:
    """Count the mails that wait, up to `most`."""
    row = await connection.fetchrow(SQL.mails, most, now)
    return Backed(row["mails"], row["seconds"])


async def due(connection: asyncpg.Connection, tenant: str, *, most: int, now: datetime | None) -> Backed:
    """Count what is due at a tenant's active endpoints, up to `most`."""
    row = await connection.fetchrow(SQL.due, tenant, most, now)
    return Backed(row["due"], row["seconds"])


async def service_series(
    connection: asyncpg.Connection, *, resolution: int, since: datetime, until: datetime, step: int
) -> list[Step]:
    """Return the service's counters in steps (seconds), those left out in which nobody worked."""
    rows = await connection.fetch(SQL.service_series, resolution, since, until, step)
    return [
        Step(
            row["start"],
            _attempts(row),
            row["dead"],
            row["cancelled"],
            row["due"],
            row["oldest_due_seconds"],
            row["in_flight"],
            _latencies(row),
        )
        for row in rows
    ]


async def endpoint_series(
    connection: asyncpg.Connection, endpoint_id: EndpointId, *, since: datetime, until: datetime, step: int
) -> list[Step]:
    """Return what came of an endpoint's deliveries in steps (seconds), those left out in which nobody worked."""
    rows = await connection.fetch(SQL.endpoint_series, endpoint_id, since, until, step)
    return [Step(row["start"], _attempts(row), row["dead"]) for row in rows]


async def tenant_series(
    connection: asyncpg.Connection, tenant: str, *, since: datetime, until: datetime, step: int
) -> list[Step]:
    """Return the same of a tenant's deliveries."""
    rows = await connection.fetch(SQL.tenant_series, tenant, since, until, step)
    return [Step(row["start"], _attempts(row), row["dead"]) for row in rows]


def _latencies(row: asyncpg.Record) -> tuple[int, ...]:
    counts = dict(zip(row["places"] or (), row["attempts"] or (), strict=True))
    return tuple(counts.get(place, 0) for place in range(1, max((len(LATENCIES) + 1, *counts)) + 1))


def _attempts(row: asyncpg.Record) -> tuple[int, ...]:
    return (
        row["answered_2xx"],
        row["answered_3xx"],
        row["answered_4xx"],
        row["answered_5xx"],
        row["unreachable"],
        row["blocked"],
    )


async def place(
    connection: asyncpg.Connection, *, behind: EndpointId, tenant: str | None, count: int
) -> EndpointId | None:
    """Return the endpoint that is `count` further on; None if there are fewer."""
    found = await connection.fetchval(SQL.place, behind, tenant, count)
    return None if found is None else EndpointId(found)


async def find(
    connection: asyncpg.Connection,
    search: EndpointSearch,
    *,
    behind: EndpointId,
    down_to: EndpointId,
    limit: int,
) -> list[Lane]:
    """Return endpoints that match, the newest first."""
    rows = await connection.fetch(
        SQL.find, behind, down_to, search.tenant, search.state, search.failing, search.text, limit
    )
    return [Lane(EndpointId(row["id"]), Shard(row["shard"])) for row in rows]


async def hours(
    connection: asyncpg.Connection, ids: Sequence[EndpointId], *, since: datetime, until: datetime
) -> list[Hour]:
    """Return what came of some endpoints' deliveries by the hour, in no order; hours without any are left out."""
    return [Hour(**row) for row in await connection.fetch(SQL.hours, list(ids), since, until)]


async def waiting(connection: asyncpg.Connection, lanes: Sequence[Lane], *, most: int) -> dict[EndpointId, Waiting]:
    """Count the deliveries that wait for some endpoints, up to `most` each, and tell when the first is due."""
    rows = await connection.fetch(
        SQL.waiting, [lane.endpoint_id for lane in lanes], [lane.shard for lane in lanes], most
    )
    return {EndpointId(row["endpoint_id"]): Waiting(row["pending"], row["first_due_at"]) for row in rows}
