"""Writes counters over time, and drops them when they are past their time; `figures` reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from dispatcher.store import queries
from dispatcher.tally import CLASSES, LATENCIES, EndpointQuarter, Minute

SQL = queries.load(__file__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a worker does now."""

    due: int
    """Deliveries that are due; counted up to a bound in each lane."""
    oldest_due_seconds: float
    in_flight: int
    held: int
    """Deliveries in memory."""
    lanes: int
    """Endpoints in memory."""


async def write(connection: asyncpg.Connection, worker: UUID, minute: Minute, *, load: Load | None) -> None:
    """Add what a worker counted in a minute; `load` is null for a minute that is over."""
    now = (None,) * 5 if load is None else (load.due, load.oldest_due_seconds, load.in_flight, load.held, load.lanes)
    await connection.execute(SQL.write, worker, minute.start, *minute.attempts, *minute.ended, minute.latencies, *now)


async def write_endpoints(connection: asyncpg.Connection, quarters: Sequence[EndpointQuarter]) -> None:
    """Add what came of endpoints' deliveries."""
    await connection.execute(
        SQL.write_endpoints,
        [quarter.endpoint_id for quarter in quarters],
        [quarter.start for quarter in quarters],
        *([quarter.counts[place] for quarter in quarters] for place in range(len(CLASSES) + 1)),
    )


async def write_cancelled(connection: asyncpg.Connection, count: int, *, now: datetime | None) -> None:
    """Add deliveries that a person cancelled; last in the transaction, because workers wait for the row."""
    await connection.execute(SQL.write_cancelled, count, len(LATENCIES) + 1, now)


async def forget(
    connection: asyncpg.Connection, *, minutes_for: float, quarters_for: float, now: datetime | None
) -> None:
    """Drop the service's minutes and quarters of an hour that are older than so many seconds."""
    await connection.execute(SQL.forget, minutes_for, quarters_for, now)
