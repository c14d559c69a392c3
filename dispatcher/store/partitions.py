"""The daily partitions of history: made ahead, dropped behind."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import asyncpg

from dispatcher.store import queries

SQL = queries.load(__file__)

PARENTS = (
    "outbox",
    "unmatched_events",
    "filtered_events",
    "refused_events",
    "finished_deliveries",
    "attempts",
    "endpoint_statistics",
    "tenant_statistics",
)


@dataclass(frozen=True, slots=True)
class Partition:
    """One day (UTC) of a history table."""

    name: str
    day: date


async def create(connection: asyncpg.Connection, parent: str, *, days: int, now: datetime | None) -> int:
    """Make the missing partitions of `days` days from yesterday on; returns how many were made."""
    made: int = await connection.fetchval(SQL.create, parent, now, days)
    return made


async def list_days(connection: asyncpg.Connection, parent: str) -> Sequence[Partition]:
    """List the daily partitions, oldest first."""
    return [Partition(row["name"], row["day"]) for row in await connection.fetch(SQL.list, parent)]


async def drop(connection: asyncpg.Connection, partition: Partition) -> None:
    """Drop one partition. Needs a lock on the parent for a moment: set `lock_timeout` before."""
    name = partition.name
    if not name.replace("_", "").isalnum():  # it is spliced into a statement
        raise ValueError(name)
    await connection.execute(f"drop table dispatcher.{name}")


async def lock_out(connection: asyncpg.Connection, parent: str, partition: Partition) -> None:
    """Keep everybody from the events of a day until the transaction ends; set `lock_timeout` before.

    The parent first, as everybody else does, so that nobody waits in a circle.
    """
    for name in (parent, partition.name):
        if not name.replace("_", "").isalnum():  # they are spliced into a statement
            raise ValueError(name)
    await connection.execute(
        f"lock table only dispatcher.{parent}, dispatcher.{partition.name} in access exclusive mode"
    )


async def is_needed(connection: asyncpg.Connection, partition: Partition) -> bool:
    """Tell whether anything pending needs an event of a day."""
    return bool(await connection.fetchval(SQL.is_needed, partition.day))


async def set_lock_timeout(connection: asyncpg.Connection, *, milliseconds: int) -> None:
    """Give up waiting for locks after so long, until the transaction ends: producers queue behind whoever waits."""
    await connection.execute("select set_config('lock_timeout', $1, true)", f"{milliseconds}ms")


async def oldest_event_needed(connection: asyncpg.Connection) -> date | None:
    """Tell the day (UTC) of the oldest event that something pending needs."""
    day: date | None = await connection.fetchval(SQL.oldest_event_needed)
    return day


async def today(connection: asyncpg.Connection, *, now: datetime | None) -> date:
    """Tell the day by the database's clock, UTC."""
    day: date = await connection.fetchval(SQL.today, now)
    return day


async def lock(connection: asyncpg.Connection) -> None:
    """Let one worker at a time make partitions, until the transaction ends."""
    await connection.execute(SQL.lock)
