"""Reads the newest attempts behind a mark: what a live tail shows. Cheap while attempts come in by the thousand.

A mark is what Postgres calls a snapshot: which transactions it saw. An attempt is new if the one that wrote it down was not
among them, so that none is missed or shown twice, however long its request took and however late it committed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

import asyncpg

from dispatcher.model import DeliveryId, EndpointId, EventId
from dispatcher.store import queries

SQL = queries.load(__file__)

STATEMENTS: Mapping[str, str] = MappingProxyType(
    {
        name: f"-- tail.{name}\n{SQL.latest.replace('/* attempts */', SQL[name])}"
        for name in ("everywhere", "of_endpoints")
    }
)
"""The latest attempts by where they are looked for."""


class Mark(NamedTuple):
    """Up to where attempts were read."""

    snapshot: str
    """As Postgres writes one: `xmin:xmax:…`."""
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Tailed:
    """An attempt as the live tail shows it."""

    delivery_id: DeliveryId
    number: int
    """From 1."""
    started_at: datetime
    milliseconds: int
    tenant: str
    endpoint_id: EndpointId
    url: str
    event_id: EventId
    event_type: str | None
    """Null when the event is past retention."""
    outcome: str
    """`answered`, `unreachable` or `blocked`."""
    status: int | None
    verdict: str
    """`done`, `retry` or `give_up`."""
    error_class: str | None
    error: str | None
    """In one line for people, without its class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which attempts are meant; null: no matter."""

    endpoints: tuple[EndpointId, ...] | None = None
    statuses: tuple[int, int] | None = None
    """From and to."""
    error_class: str | None = None
    verdict: str | None = None
    event_type: str | None = None


async def mark(connection: asyncpg.Connection, *, now: datetime | None) -> Mark:
    """Return a mark: what this transaction, if it is repeatable read, does not see is behind it."""
    row = await connection.fetchrow(SQL.now, now)
    return Mark(row["snapshot"], row["at"])


async def latest(
    connection: asyncpg.Connection,
    wanted: Wanted,
    *,
    behind: str | None,
    since: datetime,
    limit: int,
    looked_up: int,
) -> tuple[list[Tailed], int]:
    """Return the newest attempts behind a snapshot (null: all), the newest first, and how many there were in all.

    `since`: that started from this instant on. `looked_up` bounds how many are told apart by the type of their event.
    """
    statement = STATEMENTS["everywhere" if wanted.endpoints is None else "of_endpoints"]
    rows = await connection.fetch(
        statement,
        behind,
        since,
        *(wanted.statuses or (None, None)),
        wanted.error_class,
        wanted.verdict,
        wanted.event_type,
        limit,
        looked_up,
        *([] if wanted.endpoints is None else [list(wanted.endpoints)]),
    )
    return [_tailed(row) for row in rows if row["delivery_id"] is not None], rows[0]["total"]


def _tailed(row: asyncpg.Record) -> Tailed:
    error_class, _, line = (row["error"] or "").partition(": ")
    return Tailed(
        delivery_id=DeliveryId(row["delivery_id"]),
        number=row["number"],
        started_at=row["started_at"],
        milliseconds=row["milliseconds"],
        tenant=row["tenant"],
        endpoint_id=EndpointId(row["endpoint_id"]),
        url=row["url"],
        event_id=EventId(row["event_id"]),
        event_type=row["event_type"],
        outcome=row["outcome"],
        status=row["status"],
        verdict=row["verdict"],
        error_class=error_class or None,
        error=line or None,
    )
