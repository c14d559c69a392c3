"""Writes operational events into the outboxes of their tenants, where somebody wants them. Opens no transaction."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg
import orjson

from dispatcher.operational import OperationalEvent
from dispatcher.store import queries

SQL = queries.load(__file__)


async def write(connection: asyncpg.Connection, events: Sequence[OperationalEvent], *, now: datetime | None) -> int:
    """Write the events that an endpoint of the tenant is subscribed to, in their order; returns how many these were.

    Call it in the transaction that makes the change they tell of.
    """
    if not events:
        return 0
    count: int = await connection.fetchval(
        SQL.write,
        [event.endpoint_id for event in events],
        [event.type for event in events],
        [orjson.dumps(dict(event.data)).decode() for event in events],
        now,
    )
    return count
