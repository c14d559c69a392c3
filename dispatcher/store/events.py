"""Reads events for people, the latest inserted first, without their payloads; `history` reads one of them whole.

No index has events in the order of their insertion, which would cost every producer; a note of the instants of each stretch
of pages finds a window of time. So a list is read window by window, back in time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from dispatcher.model import EndpointId, EventId
from dispatcher.store import queries
from dispatcher.store.history import DUSK

SQL = queries.load(__file__)

COUNTED: Final = 1000
"""Where counting an event's deliveries stops."""


class Place(NamedTuple):
    """Where a list stands: behind an event."""

    at: datetime
    id: UUID


TOP: Final = Place(DUSK, UUID(int=2**128 - 1))
"""Before the latest."""


@dataclass(frozen=True, slots=True)
class Fates:
    """How many deliveries of an event there are by state; each count stops at 1000."""

    pending: int
    delivered: int
    dead: int
    cancelled: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.pending + self.delivered + self.dead + self.cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedEvent:
    """An event as a list shows it, without its payload."""

    id: EventId
    tenant: str
    event_type: str
    occurred_at: datetime
    inserted_at: datetime
    deliver_at: datetime | None
    expires_at: datetime | None
    idempotency_key: str | None
    ordering_key: str | None
    fates: Fates
    is_unmatched: bool
    """No endpoint wanted it when it was read. Where this is false and there are no deliveries, `Admin.explain` says why."""
    refused_at: datetime | None
    """When the catalogue refused it, instead of its being fanned out."""
    refused_because: str | None


@dataclass(frozen=True, slots=True)
class EventHaul:
    """What one window holds."""

    rows: tuple[asyncpg.Record, ...]
    walked: int
    """How many were looked at."""


async def window(
    connection: asyncpg.Connection,
    *,
    since: datetime,
    until: datetime,
    behind: Place,
    tenant: str | None,
    event_type: str | None,
    refused: bool,
    limit: int,
    widest: int,
) -> EventHaul:
    """Return the latest of a window; if `widest` were looked at, it held too many to tell which these are."""
    statement = SQL.refused_window if refused else SQL.window
    rows = await connection.fetch(statement, since, until, *behind, tenant, event_type, limit, widest)
    return EventHaul(tuple(row for row in rows if row["id"] is not None), rows[0]["walked"])


async def with_fates(
    connection: asyncpg.Connection, rows: Sequence[asyncpg.Record], *, endpoints: Sequence[EndpointId] | None
) -> tuple[ListedEvent, ...]:
    """Add to events what became of them, at some endpoints or at all."""
    fates = await connection.fetch(
        SQL.fates,
        [row["id"] for row in rows],
        [row["inserted_at"] for row in rows],
        None if endpoints is None else list(endpoints),
        COUNTED,
    )
    return tuple(_listed(row, fate) for row, fate in zip(rows, fates, strict=True))


def _listed(row: asyncpg.Record, fate: asyncpg.Record) -> ListedEvent:
    return ListedEvent(
        id=EventId(row["id"]),
        tenant=row["tenant"],
        event_type=row["event_type"],
        occurred_at=row["occurred_at"],
        inserted_at=row["inserted_at"],
        deliver_at=row["deliver_at"],
        expires_at=row["expires_at"],
        idempotency_key=row["idempotency_key"],
        ordering_key=row["ordering_key"],
        fates=Fates(fate["pending"], fate["delivered"], fate["dead"], fate["cancelled"]),
        is_unmatched=fate["unmatched"],
        refused_at=fate["refused_at"],
        refused_because=fate["refused_because"],
    )
