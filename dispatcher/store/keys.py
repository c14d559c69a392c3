"""Reads and writes API keys; only their hashes are stored."""

from dataclasses import dataclass
from datetime import datetime
from hmac import compare_digest
from uuid import UUID

import asyncpg

from dispatcher.store import queries

SQL = queries.load(__file__)


@dataclass(frozen=True, slots=True)
class Key:
    """An API key as far as it can be shown."""

    id: UUID
    tenant: str
    operator: bool
    """True: it may act for every tenant."""
    prefix: str
    """Its first characters, to tell keys apart."""
    description: str | None
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


async def insert(
    connection: asyncpg.Connection,
    tenant: str,
    *,
    operator: bool,
    prefix: str,
    digest: bytes,
    description: str | None,
) -> Key:
    """Store a new key of a tenant that exists."""
    return Key(**await connection.fetchrow(SQL.insert_key, tenant, operator, prefix, digest, description))


async def of_tenant(connection: asyncpg.Connection, tenant: str) -> list[Key]:
    """Return a tenant's keys, revoked ones included, the oldest first."""
    return [Key(**row) for row in await connection.fetch(SQL.of_tenant, tenant)]


async def every(connection: asyncpg.Connection) -> list[Key]:
    """Return all keys, revoked ones included, the oldest first."""
    return [Key(**row) for row in await connection.fetch(SQL.every)]


async def revoke(connection: asyncpg.Connection, key_id: UUID, *, now: datetime | None) -> Key | None:
    """Revoke a key, if it is not revoked yet; None if there is none with that id."""
    row = await connection.fetchrow(SQL.revoke, key_id, now)
    return None if row is None else Key(**row)


async def in_use(connection: asyncpg.Connection, digest: bytes) -> Key | None:
    """Return the key with a digest (SHA-256), unless it is revoked."""
    row = await connection.fetchrow(SQL.in_use, digest)
    if row is None or not compare_digest(row["digest"], digest):
        return None
    return Key(**{name: value for name, value in row.items() if name != "digest"})


async def mark_used(
    connection: asyncpg.Connection, key_id: UUID, *, at_most_every: float, now: datetime | None
) -> None:
    """Note that a key is in use, at most once in so many seconds."""
    await connection.execute(SQL.mark_used, key_id, at_most_every, now)
