"""Reads and writes the answers that the HTTP API gives again for an `Idempotency-Key`."""

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from dispatcher.sealing import Sealed
from dispatcher.store import queries

SQL = queries.load(__file__)

REMEMBERED = 86400.0
"""Seconds: the day within which people's own retries come."""


LONGEST = 120.0
"""Seconds that a request may take which is carried out outside of a transaction: several times its deadlines. Then whoever
carried it out is taken for dead, and the key is free."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """An answer as it is kept."""

    fingerprint: bytes
    """SHA-256 of the request."""
    status: int
    """0: it is being carried out."""
    body: Sealed


async def reserve(
    connection: asyncpg.Connection, tenant: str, key: str, *, fingerprint: bytes, now: datetime | None
) -> bool:
    """Claim a key for a request; False if it is in use. Waits for another transaction that is about to use it."""
    return bool(await connection.fetchval(SQL.reserve, tenant, key, fingerprint, now, REMEMBERED, LONGEST))


async def recall(connection: asyncpg.Connection, tenant: str, key: str) -> Remembered | None:
    """Return what was answered under a key."""
    row = await connection.fetchrow(SQL.recall, tenant, key)
    if row is None:
        return None
    return Remembered(row["fingerprint"], row["status"], Sealed(row["sealed"], row["sealing_key"]))


async def remember(connection: asyncpg.Connection, tenant: str, key: str, *, status: int, body: Sealed) -> None:
    """Keep the answer under a key that this transaction has reserved."""
    await connection.execute(SQL.remember, tenant, key, status, body.data, body.key)


async def release(connection: asyncpg.Connection, tenant: str, key: str) -> None:
    """Give up a key that this transaction has reserved."""
    await connection.execute(SQL.release, tenant, key)


async def forget(connection: asyncpg.Connection, *, limit: int, now: datetime | None) -> int:
    """Delete answers that are old enough, at most `limit`; returns how many."""
    tag: str = await connection.execute(SQL.forget, REMEMBERED, limit, now)
    return int(tag.rsplit(maxsplit=1)[-1])
