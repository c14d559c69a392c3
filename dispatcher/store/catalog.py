"""The catalogue's documents, as far as they are imported into the database."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from dispatcher.store import queries

SQL = queries.load(__file__)


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """An AsyncAPI document as JSON text."""

    name: str
    text: str


async def current(connection: asyncpg.Connection) -> UUID | None:
    """Tell which import is in force; None: nothing is imported."""
    found: UUID | None = await connection.fetchval(SQL.current)
    return found


async def documents(connection: asyncpg.Connection) -> tuple[UUID | None, list[StoredDocument]]:
    """Return the imported documents in their order, and which import they are of."""
    rows = await connection.fetch(SQL.documents)
    return (rows[0]["import_id"] if rows else None), [StoredDocument(row["name"], row["document"]) for row in rows]


async def replace(connection: asyncpg.Connection, new: Sequence[StoredDocument], *, now: datetime | None) -> None:
    """Put documents in the place of all that were there."""
    await connection.execute(SQL.lock)
    await connection.execute(SQL.clear)
    await connection.execute(SQL.insert, [one.name for one in new], [one.text for one in new], now)
