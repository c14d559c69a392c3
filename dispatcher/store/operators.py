"""Reads and writes operators, their sessions, and the console's key. Of passwords and tokens only hashes are stored."""

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from dispatcher.sealing import Sealed
from dispatcher.store import queries

SQL = queries.load(__file__)


@dataclass(frozen=True, slots=True)
class Operator:
    """A person who may sign in to the console."""

    name: str
    created_at: datetime
    changed_at: datetime
    """When the password was set."""
    signed_in_at: datetime | None


async def insert(connection: asyncpg.Connection, name: str, *, password_hash: str) -> Operator | None:
    """Register an operator; None if the name is taken."""
    row = await connection.fetchrow(SQL.insert_operator, name, password_hash)
    return None if row is None else Operator(**row)


async def set_password(
    connection: asyncpg.Connection, name: str, *, password_hash: str, now: datetime | None
) -> Operator | None:
    """Change a password and end the operator's sessions; None if there is no such operator."""
    row = await connection.fetchrow(SQL.set_password, name, password_hash, now)
    await connection.execute(SQL.end_sessions, name)
    return None if row is None else Operator(**row)


async def replace_hash(connection: asyncpg.Connection, name: str, *, old: str, new: str) -> None:
    """Store the same password hashed anew."""
    await connection.execute(SQL.replace_hash, name, new, old)


async def remove(connection: asyncpg.Connection, name: str) -> bool:
    """Remove an operator with all sessions; False if there is none."""
    return await connection.fetchval(SQL.remove, name) is not None


async def every(connection: asyncpg.Connection) -> list[Operator]:
    """Return all operators by name."""
    return [Operator(**row) for row in await connection.fetch(SQL.every)]


async def is_any(connection: asyncpg.Connection) -> bool:
    """Tell whether anybody could sign in."""
    return bool(await connection.fetchval(SQL.any_operator))


async def password_hash(connection: asyncpg.Connection, name: str) -> str | None:
    """Return the hash of an operator's password; None if there is no such operator."""
    found: str | None = await connection.fetchval(SQL.password_hash, name)
    return found


async def begin_session(
    connection: asyncpg.Connection, digest: bytes, operator: str, *, seconds: float, now: datetime | None
) -> None:
    """Begin a session, and forget those that are over."""
    await connection.execute(SQL.forget_ended, now)
    await connection.execute(SQL.insert_session, digest, operator, seconds, now)
    await connection.execute(SQL.note_sign_in, operator, now)


async def session(connection: asyncpg.Connection, digest: bytes, *, now: datetime | None) -> str | None:
    """Return whose session it is; None if it is over or never was."""
    operator: str | None = await connection.fetchval(SQL.session, digest, now)
    return operator


async def end_session(connection: asyncpg.Connection, digest: bytes) -> None:
    """End a session."""
    await connection.execute(SQL.end_session, digest)


async def console_key(connection: asyncpg.Connection) -> Sealed | None:
    """Return the console's key, sealed; None before the first one is stored."""
    row = await connection.fetchrow(SQL.console_key)
    return None if row is None else Sealed(row["sealed"], row["sealing_key"])


async def insert_console_key(connection: asyncpg.Connection, sealed: Sealed) -> None:
    """Store the console's key, unless somebody was faster."""
    await connection.execute(SQL.insert_console_key, sealed.data, sealed.key)
