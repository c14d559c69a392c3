"""Reads what there is: workers, shards, tables with their partitions, migrations, the server."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

import asyncpg

from dispatcher.model import Shard
from dispatcher.store import queries

SQL = queries.load(__file__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    """A process that delivers, and what it did when it was last heard of."""

    id: UUID
    host: str
    pid: int
    roles: tuple[str, ...]
    release: str
    started_at: datetime
    seen_at: datetime
    alive: bool
    """False: it ended without a word, and its shards go to others."""
    shards: int
    in_flight: int
    """Requests under way."""
    held: int
    """Deliveries in memory."""
    lanes: int
    """Endpoints in memory."""
    due: int
    oldest_due_seconds: float


@dataclass(frozen=True, slots=True)
class ShardRow:
    """One of the 256 groups of tenants, and who has it."""

    shard: Shard
    owner: UUID | None
    """The worker; null: nobody, so that nothing of it is delivered."""
    epoch: int
    """How many owners it has had."""


@dataclass(frozen=True, slots=True)
class PartitionRow:
    """One day of a table."""

    name: str
    day: date | None
    """UTC; null: the default partition, which should be empty."""
    bytes: int
    """With indexes."""
    rows: int | None
    """By the planner's estimate; null: not counted yet."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """A table, all its partitions together."""

    name: str
    bytes: int
    """With indexes."""
    rows: int | None
    """By the planner's estimate; null: not counted yet."""
    partitions: tuple[PartitionRow, ...]
    """The oldest day first, the default one last; none: it has no days."""


@dataclass(frozen=True, slots=True)
class MigrationRow:
    """A migration that was applied."""

    number: int
    name: str
    applied_at: datetime
    release: str
    """Which release did it."""


@dataclass(frozen=True, slots=True)
class ServerRow:
    """The server and the database."""

    version: str
    database: str
    bytes: int
    now: datetime


async def server(connection: asyncpg.Connection) -> ServerRow:
    """Return what there is to know of the server."""
    return ServerRow(**await connection.fetchrow(SQL.server))


async def workers(connection: asyncpg.Connection) -> tuple[WorkerRow, ...]:
    """Return the workers, those of the last day that ended without a word too."""
    rows = await connection.fetch(SQL.workers)
    return tuple(WorkerRow(**dict(row) | {"roles": tuple(row["roles"])}) for row in rows)


async def shards(connection: asyncpg.Connection) -> tuple[ShardRow, ...]:
    """Return all shards, by number."""
    rows = await connection.fetch(SQL.shards)
    return tuple(ShardRow(Shard(row["shard"]), row["owner"], row["epoch"]) for row in rows)


async def tables(connection: asyncpg.Connection) -> tuple[TableRow, ...]:
    """Return the tables of the schema, the largest first."""
    partitions: defaultdict[str, list[PartitionRow]] = defaultdict(list)
    rows = await connection.fetch(SQL.tables)
    for row in rows:
        if row["parent"] is not None:
            partitions[row["parent"]].append(PartitionRow(row["name"], row["day"], row["bytes"], row["rows"]))
    found = [_table(row, tuple(partitions[row["name"]])) for row in rows if row["parent"] is None]
    return tuple(sorted(found, key=lambda table: (-table.bytes, table.name)))


def _table(row: asyncpg.Record, partitions: tuple[PartitionRow, ...]) -> TableRow:
    if not partitions:
        return TableRow(row["name"], row["bytes"], row["rows"], ())
    counted = [partition.rows for partition in partitions if partition.rows is not None]
    return TableRow(
        row["name"],
        sum(partition.bytes for partition in partitions),
        sum(counted) if counted else None,
        partitions,
    )


async def migrations(connection: asyncpg.Connection) -> tuple[MigrationRow, ...]:
    """Return the migrations that were applied, in order."""
    return tuple(MigrationRow(**row) for row in await connection.fetch(SQL.migrations))
