"""Writes and reads the log of what people did in the console."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
import orjson

from dispatcher.store import queries

SQL = queries.load(__file__)

LAST = 2**63 - 1
"""Behind every id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What somebody does."""

    who: str
    """`anna`, an operator's name; or `portal:acme`, whoever holds a link of that tenant."""
    action: str
    """`noun.verbed`."""
    address: str | None = None
    """From where."""
    tenant: str | None = None
    """Whose thing it is."""
    target: str | None = None
    """Id of the thing."""
    details: Mapping[str, Any]
    """Never a secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow(Deed):
    """What somebody did."""

    id: int
    at: datetime


async def insert(connection: asyncpg.Connection, deed: Deed, *, now: datetime | None) -> None:
    """Note what somebody did."""
    details = orjson.dumps(dict(deed.details), default=str).decode()
    await connection.execute(
        SQL.insert_entry, deed.who, deed.address, deed.tenant, deed.action, deed.target, details, now
    )


async def entries(
    connection: asyncpg.Connection,
    *,
    before: int,
    limit: int,
    target: str | None = None,
    tenant: str | None = None,
) -> list[AuditRow]:
    """Return what was done, the latest first: to one thing, to a tenant's, or all."""
    if target is not None:
        rows = await connection.fetch(SQL.entries_of_target, before, limit, target)
    elif tenant is not None:
        rows = await connection.fetch(SQL.entries_of_tenant, before, limit, tenant)
    else:
        rows = await connection.fetch(SQL.entries, before, limit)
    return [AuditRow(**dict(row) | {"details": orjson.loads(row["details"])}) for row in rows]
