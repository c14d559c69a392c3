"""Workers and shard leases. Opens no transaction: each step is one statement."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from dispatcher.model import Shard
from dispatcher.store import queries

SQL = queries.load(__file__)


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that delivers, as the others know it."""

    id: UUID
    host: str
    pid: int
    roles: tuple[str, ...]
    release: str


@dataclass(frozen=True, slots=True)
class Census:
    """How many live workers share the shards, and the database's clock (unix seconds)."""

    workers: int
    now: float


async def enrol(connection: asyncpg.Connection, worker: Worker, *, lease: float) -> None:
    """Make a worker known, for `lease` seconds from now."""
    await connection.execute(SQL.enrol, worker.id, worker.host, worker.pid, list(worker.roles), worker.release, lease)


async def renew(connection: asyncpg.Connection, worker: UUID, held: Mapping[Shard, int], *, lease: float) -> set[Shard]:
    """Beat, and renew the leases held (shard → epoch); returns the shards that are still the worker's."""
    rows = await connection.fetch(SQL.renew, worker, lease, list(held), list(held.values()))
    return {Shard(row["shard"]) for row in rows}


async def census(connection: asyncpg.Connection, *, role: str) -> Census:
    """Count the live workers that have `role`, and read the clock."""
    row = await connection.fetchrow(SQL.census, role)
    return Census(workers=row["workers"], now=row["now"])


async def acquire(connection: asyncpg.Connection, worker: UUID, *, lease: float, limit: int) -> dict[Shard, int]:
    """Take up to `limit` free or expired shards; returns them with their epochs."""
    rows = await connection.fetch(SQL.acquire, worker, lease, limit)
    return {Shard(row["shard"]): row["epoch"] for row in rows}


async def release(connection: asyncpg.Connection, worker: UUID, shards: Sequence[Shard]) -> None:
    """Give shards back."""
    await connection.execute(SQL.release, worker, list(shards))


async def leave(connection: asyncpg.Connection, worker: UUID) -> None:
    """Forget a worker that ends."""
    await connection.execute(SQL.leave, worker)


async def forget_dead_workers(connection: asyncpg.Connection) -> None:
    """Forget workers that have not been seen for a day."""
    await connection.execute(SQL.forget_dead_workers)
