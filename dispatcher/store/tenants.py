"""Reads and writes tenants."""

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from dispatcher.model import Shard
from dispatcher.store import queries

SQL = queries.load(__file__)


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whose events and endpoints they are."""

    name: str
    parent: str | None
    root: str
    """The top of its tree; itself without a parent."""
    shard: Shard
    created_at: datetime
    payload_format: str | None = None
    """What its new endpoints are pinned to; null: what the nearest tenant above it has, or `standard`."""
    preset: str | None = None
    """What its new endpoints are set up as; null: what the nearest tenant above it has, or nothing."""


async def insert(connection: asyncpg.Connection, name: str, *, parent: str | None) -> Tenant | None:
    """Register a tenant under a parent that exists; None if the name is taken."""
    return _tenant(await connection.fetchrow(SQL.insert_tenant, name, parent))


async def one(connection: asyncpg.Connection, name: str) -> Tenant | None:
    """Return a tenant, or None if there is none of that name."""
    return _tenant(await connection.fetchrow(SQL.one, name))


async def every(connection: asyncpg.Connection) -> list[Tenant]:
    """Return all tenants by name."""
    return [Tenant(**row) for row in await connection.fetch(SQL.every)]


async def names(connection: asyncpg.Connection, *, limit: int) -> list[str]:
    """Return names of tenants, to find what a mistyped one may have meant."""
    return [row["name"] for row in await connection.fetch(SQL.names, limit)]


def _tenant(row: asyncpg.Record | None) -> Tenant | None:
    return None if row is None else Tenant(**row)
