"""Keeps payload formats and signing profiles that operators put in, and knows who uses them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import asyncpg

from dispatcher.model import EndpointId
from dispatcher.store import queries

SQL = queries.load(__file__)


@dataclass(frozen=True, slots=True)
class Stored:
    """A definition as it is kept."""

    full_name: str
    """Of a format its name and version, `vsee/2.0`; of a profile its name."""
    definition: str
    """JSON."""
    deprecated: date | None
    created_at: datetime
    updated_at: datetime | None


async def put_format(
    connection: asyncpg.Connection,
    full_name: str,
    definition: str,
    *,
    deprecated: date | None,
    now: datetime | None,
) -> bool:
    """Keep a payload format; returns whether there was none of that name and version."""
    name, _, version = full_name.partition("/")
    return bool(await connection.fetchval(SQL.put_format, name, version, definition, deprecated, now))


async def deprecate_format(
    connection: asyncpg.Connection, full_name: str, *, deprecated: date | None, now: datetime | None
) -> bool:
    """Say from which day on a format is not to be used; False if there is none."""
    name, _, version = full_name.partition("/")
    return await connection.fetchval(SQL.deprecate_format, name, version, deprecated, now) is not None


async def deprecate_shipped(connection: asyncpg.Connection, full_name: str, *, deprecated: date | None) -> None:
    """Do the same for a format that comes with the service."""
    if deprecated is None:
        await connection.execute(SQL.lift_shipped, full_name)
    else:
        await connection.execute(SQL.deprecate_shipped, full_name, deprecated)


async def shipped_deprecations(connection: asyncpg.Connection) -> dict[str, date]:
    """Return from which days on formats that come with the service are not to be used."""
    return {row["format"]: row["deprecated"] for row in await connection.fetch(SQL.shipped_deprecations)}


async def drop_format(connection: asyncpg.Connection, full_name: str) -> bool:
    """Forget a format that nobody uses; False if there is none."""
    name, _, version = full_name.partition("/")
    return await connection.fetchval(SQL.drop_format, name, version) is not None


async def formats(connection: asyncpg.Connection, names: Sequence[str] | None = None) -> list[Stored]:
    """Return some formats, or all, by name."""
    return [_stored(row) for row in await connection.fetch(SQL.formats, _list(names))]


async def put_profile(connection: asyncpg.Connection, name: str, definition: str, *, now: datetime | None) -> bool:
    """Keep a signing profile; returns whether there was none of that name."""
    return bool(await connection.fetchval(SQL.put_profile, name, definition, now))


async def drop_profile(connection: asyncpg.Connection, name: str) -> bool:
    """Forget a profile that nobody uses; False if there is none."""
    return await connection.fetchval(SQL.drop_profile, name) is not None


async def profiles(connection: asyncpg.Connection, names: Sequence[str] | None = None) -> list[Stored]:
    """Return some profiles, or all, by name."""
    return [_stored(row) for row in await connection.fetch(SQL.profiles, _list(names))]


async def lock(connection: asyncpg.Connection, *, shared: bool = False) -> None:
    """Keep others from changing definitions until the transaction ends; with `shared` only from that."""
    await connection.execute(SQL.lock_shared if shared else SQL.lock)


async def users_of_format(connection: asyncpg.Connection, full_name: str) -> list[EndpointId]:
    """Return the endpoints that are pinned to a format, without archived ones."""
    return [EndpointId(row["id"]) for row in await connection.fetch(SQL.users_of_format, full_name)]


async def format_counts(connection: asyncpg.Connection) -> dict[str, int]:
    """Return how many endpoints are pinned to each format, without archived ones."""
    return {row["full_name"]: row["webhooks"] for row in await connection.fetch(SQL.format_counts)}


async def users_of_profile(connection: asyncpg.Connection, name: str) -> list[EndpointId]:
    """Return the endpoints that sign by a profile, without archived ones."""
    return [EndpointId(row["id"]) for row in await connection.fetch(SQL.users_of_profile, name)]


@dataclass(frozen=True, slots=True)
class DefaultSettings:
    """What new endpoints get that choose none."""

    payload_format: str | None
    preset: str | None


async def defaults(connection: asyncpg.Connection, tenant: str) -> DefaultSettings:
    """Return what a tenant's new endpoints get: what it names, or the nearest tenant above it that names one."""
    return DefaultSettings(**await connection.fetchrow(SQL.defaults, tenant))


async def set_defaults(connection: asyncpg.Connection, tenant: str, settings: DefaultSettings) -> None:
    """Set what a tenant's new endpoints get; null: what is above it decides."""
    await connection.execute(SQL.set_defaults, tenant, settings.payload_format, settings.preset)


def _list(names: Sequence[str] | None) -> list[str] | None:
    return None if names is None else list(names)


def _stored(row: Any) -> Stored:
    return Stored(**row)
