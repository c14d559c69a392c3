"""Events that the catalogue spoke against when they were read: taken out of fan-out's way, kept, and let in again."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from dispatcher.model import EventId
from dispatcher.store import queries
from dispatcher.store.outbox import Unread

SQL = queries.load(__file__)


async def refuse(
    connection: asyncpg.Connection, refused: Sequence[tuple[Unread, str]], *, now: datetime | None
) -> None:
    """Record events as refused, each with its reason, instead of fanning them out."""
    await connection.execute(
        SQL.refuse,
        [item.shard for item, _ in refused],
        [item.position for item, _ in refused],
        [reason for _, reason in refused],
        now,
    )


async def readmit(connection: asyncpg.Connection, event_id: EventId, *, event_at: datetime) -> bool:
    """Let fan-out read a refused event again; False: it is not refused."""
    return bool(await connection.fetchval(SQL.readmit, event_id, event_at))
