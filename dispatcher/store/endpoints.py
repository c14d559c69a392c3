"""Reads and writes endpoints with their subscriptions, secrets and health: for workers, and for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import asyncpg
import orjson

from dispatcher.errors import ConfigError
from dispatcher.model import Endpoint, EndpointId, EndpointState, Health, Secret, Shard
from dispatcher.sealing import Sealed, Sealer
from dispatcher.store import queries

SQL = queries.load(__file__)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    """What a person sets of an endpoint; durations in seconds."""

    url: str
    subscriptions: tuple[str, ...]
    description: str | None = None
    notification_email: str | None = None
    additional_notification_emails: tuple[str, ...] = ()
    payload_format: str = "standard"
    signing_profiles: tuple[str, ...] = ("standard",)
    filter: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_schedule: tuple[float, ...] | None = None
    """Null: the configured default."""
    timeout: float | None = None
    rate_limit: float | None = None
    """Requests per second."""
    warn_after: float | None = None
    disable_after: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    include_descendants: bool = False
    """It gets the events of the tenants below its own, too."""


@dataclass(frozen=True, slots=True)
class HealthRow:
    """What is written down of how an endpoint is doing, for people (workers have `model.Health`)."""

    failing_since: datetime | None = None
    warned_at: datetime | None = None
    cool_until: datetime | None = None
    hung: bool = False
    last_success_at: datetime | None = None
    last_failure_at: datetime | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRow(EndpointSettings):
    """An endpoint with all that a person may see of it."""

    id: EndpointId
    tenant: str
    shard: Shard
    state: EndpointState
    created_at: datetime
    updated_at: datetime | None = None
    """When a person last changed it; null until then."""
    archived_at: datetime | None = None
    disabled_at: datetime | None = None
    disabled_reason: str | None = None
    health: HealthRow = HealthRow()
    format_deprecated: date | None = None
    """From this day on nobody should use its payload format."""
    secret: str | None = field(default=None, repr=False)
    """Only right after it was created."""
    public_key: str | None = None
    """Of its ed25519 signatures; only right after it was created."""


@dataclass(frozen=True, slots=True)
class DisabledSpan:
    """A time in which an endpoint was disabled."""

    began_at: datetime
    ended_at: datetime | None
    """Null: it still is."""
    reason: str | None


@dataclass(frozen=True, slots=True)
class SecretRow:
    """One signing key of an endpoint, opened."""

    value: str = field(repr=False)
    created_at: datetime
    expires_at: datetime | None
    """Null for the current one."""


@dataclass(frozen=True, slots=True)
class HealthWrite:
    """Health to be written down; instants in unix seconds."""

    endpoint_id: EndpointId
    health: Health
    """As it shall be from now on."""
    last_success_at: float | None = None
    """Null: as it was; so for the two below."""
    last_failure_at: float | None = None
    last_error: str | None = None


async def load(
    connection: asyncpg.Connection,
    ids: Sequence[EndpointId],
    sealer: Sealer,
    *,
    now: datetime | None = None,
) -> list[Endpoint]:
    """Return endpoints as workers need them, archived ones included; unknown ids are left out.

    One whose secrets are sealed with a main key that is not configured says so in `sealed`; the others are none the worse.
    """
    return [_endpoint(row, sealer) for row in await connection.fetch(SQL.load, list(ids), now)]


def _endpoint(row: asyncpg.Record, sealer: Sealer) -> Endpoint:
    secrets, sealed = _opened(row, sealer)
    return Endpoint(
        id=EndpointId(row["id"]),
        shard=Shard(row["shard"]),
        tenant=row["tenant"],
        url=row["url"],
        state=EndpointState(row["state"]),
        secrets=secrets,
        sealed=sealed,
        notification_email=row["notification_email"],
        additional_notification_emails=tuple(row["additional_notification_emails"]),
        payload_format=row["payload_format"],
        format_definition=row["format_definition"],
        signing_profiles=tuple(row["signing_profiles"]),
        profile_definitions=dict(zip(row["profile_names"] or (), row["profile_definitions"] or (), strict=True)),
        headers=orjson.loads(row["headers"]),
        retry_schedule=_tuple_or_none(row["retry_schedule"]),
        timeout=row["timeout"],
        rate_limit=row["rate_limit"],
        warn_after=row["warn_after"],
        disable_after=row["disable_after"],
        description=row["description"],
        archived=row["archived"],
        health=Health(
            failing_since=row["failing_since"],
            warned_at=row["warned_at"],
            cool_until=row["cool_until"],
            hung=row["hung"],
        ),
    )


def _opened(row: asyncpg.Record, sealer: Sealer) -> tuple[tuple[Secret, ...], str | None]:
    """Open an endpoint's secrets, all or none: without the old one a subscriber that still has it would refuse all."""
    stored = zip(row["sealed"] or (), row["sealing_keys"] or (), row["expire_at"] or (), strict=True)
    try:
        return tuple(Secret(sealer.open(data, key), expires_at) for data, key, expires_at in stored), None
    except ConfigError as error:
        return (), str(error)


async def changed_since(
    connection: asyncpg.Connection,
    shards: Sequence[Shard],
    since: datetime,
) -> list[tuple[EndpointId, datetime]]:
    """Return the endpoints of some shards that were changed or touched after `since`, and when.

    The instant is that of the statement, not of its commit: look back a little further than the last one seen.
    """
    rows = await connection.fetch(SQL.changed_since, list(shards), since)
    return [(EndpointId(row["id"]), row["changed_at"]) for row in rows]


async def touch(connection: asyncpg.Connection, ids: Sequence[EndpointId]) -> None:
    """Let the workers of these endpoints look at them again."""
    await connection.execute(SQL.touch, list(ids))


async def write_health(connection: asyncpg.Connection, changes: Sequence[HealthWrite]) -> None:
    """Write down the health of endpoints, at most one change each."""
    await connection.execute(
        SQL.write_health,
        [change.endpoint_id for change in changes],
        [change.health.failing_since for change in changes],
        [change.health.warned_at for change in changes],
        [change.health.cool_until for change in changes],
        [change.health.hung for change in changes],
        [change.last_success_at for change in changes],
        [change.last_failure_at for change in changes],
        [change.last_error for change in changes],
    )


async def disable(
    connection: asyncpg.Connection,
    endpoint_id: EndpointId,
    reason: str,
    *,
    now: datetime | None = None,
) -> bool:
    """Disable an endpoint; returns False if it was, or is archived."""
    return await connection.fetchval(SQL.disable, endpoint_id, reason, now) is not None


async def insert(
    connection: asyncpg.Connection,
    tenant: str,
    settings: EndpointSettings,
    *,
    now: datetime | None,
) -> EndpointId | None:
    """Create an endpoint with its subscriptions, but without a secret; None if there is no such tenant."""
    endpoint_id = await connection.fetchval(SQL.insert_endpoint, tenant, *_columns(settings), now)
    if endpoint_id is not None:
        await connection.execute(SQL.insert_subscriptions, endpoint_id, list(settings.subscriptions))
    return endpoint_id if endpoint_id is None else EndpointId(endpoint_id)


async def update(
    connection: asyncpg.Connection,
    endpoint_id: EndpointId,
    settings: EndpointSettings,
    *,
    now: datetime | None,
) -> None:
    """Set all that a person sets of an endpoint."""
    await connection.execute(SQL.update_endpoint, endpoint_id, *_columns(settings), now)
    await connection.execute(SQL.delete_subscriptions, endpoint_id, list(settings.subscriptions))
    await connection.execute(SQL.insert_subscriptions, endpoint_id, list(settings.subscriptions))


def _columns(settings: EndpointSettings) -> tuple[Any, ...]:
    """Return the settings in the order of `insert_endpoint`'s arguments."""
    return (
        settings.url,
        settings.description,
        settings.notification_email,
        list(settings.additional_notification_emails),
        settings.payload_format,
        list(settings.signing_profiles),
        settings.filter,
        orjson.dumps(dict(settings.headers)).decode(),
        None if settings.retry_schedule is None else list(settings.retry_schedule),
        settings.timeout,
        settings.rate_limit,
        settings.warn_after,
        settings.disable_after,
        orjson.dumps(dict(settings.metadata)).decode(),
        settings.include_descendants,
    )


async def set_state(
    connection: asyncpg.Connection,
    endpoint_id: EndpointId,
    state: EndpointState,
    *,
    reason: str | None = None,
    now: datetime | None,
) -> None:
    """Set an endpoint's state as a person wants it; `reason` says why it is disabled."""
    await connection.execute(SQL.set_state, endpoint_id, state, reason, now)


async def forget_health(connection: asyncpg.Connection, endpoint_id: EndpointId) -> None:
    """Let an endpoint begin anew, as if it had never failed."""
    await connection.execute(SQL.forget_health, endpoint_id)


async def archive(connection: asyncpg.Connection, endpoint_id: EndpointId, *, now: datetime | None) -> None:
    """Take an endpoint out of use for good."""
    await connection.execute(SQL.archive, endpoint_id, now)


async def lock(connection: asyncpg.Connection, endpoint_id: EndpointId) -> None:
    """Keep others from changing an endpoint until the transaction ends."""
    await connection.execute(SQL.lock, endpoint_id)


async def one(connection: asyncpg.Connection, endpoint_id: EndpointId) -> EndpointRow | None:
    """Return an endpoint as people see it, archived or not."""
    rows = await connection.fetch(SQL.show, [endpoint_id])
    return _endpoint_row(rows[0]) if rows else None


async def of_tenant(connection: asyncpg.Connection, tenant: str, *, include_archived: bool) -> list[EndpointRow]:
    """Return a tenant's endpoints as people see them, the oldest first."""
    ids = await connection.fetch(SQL.ids_of_tenant, tenant, include_archived)
    return await _show(connection, ids)


async def concerned(connection: asyncpg.Connection, tenant: str) -> list[EndpointRow]:
    """Return the endpoints that a tenant's events can go to, archived ones too, the oldest first."""
    return await _show(connection, await connection.fetch(SQL.ids_concerned, tenant))


async def disabled_at(
    connection: asyncpg.Connection, ids: Sequence[EndpointId], instant: datetime
) -> dict[EndpointId, DisabledSpan]:
    """Return those of some endpoints that were disabled at an instant, or became so right after, with that span."""
    rows = await connection.fetch(SQL.disabled_at, list(ids), instant)
    return {
        EndpointId(row["endpoint_id"]): DisabledSpan(row["began_at"], row["ended_at"], row["reason"]) for row in rows
    }


async def every(connection: asyncpg.Connection, *, include_archived: bool) -> list[EndpointRow]:
    """Return all endpoints as people see them, the oldest first."""
    return await _show(connection, await connection.fetch(SQL.ids, include_archived))


async def several(connection: asyncpg.Connection, ids: Sequence[EndpointId]) -> list[EndpointRow]:
    """Return some endpoints as people see them, archived or not, the oldest first."""
    return [_endpoint_row(row) for row in await connection.fetch(SQL.show, list(ids))]


async def _show(connection: asyncpg.Connection, ids: Sequence[asyncpg.Record]) -> list[EndpointRow]:
    return await several(connection, [EndpointId(row["id"]) for row in ids])


def _endpoint_row(row: asyncpg.Record) -> EndpointRow:
    return EndpointRow(
        id=EndpointId(row["id"]),
        tenant=row["tenant"],
        shard=Shard(row["shard"]),
        url=row["url"],
        subscriptions=tuple(row["subscriptions"]),
        state=EndpointState(row["state"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        archived_at=row["archived_at"],
        disabled_at=row["disabled_at"],
        disabled_reason=row["disabled_reason"],
        description=row["description"],
        notification_email=row["notification_email"],
        additional_notification_emails=tuple(row["additional_notification_emails"]),
        payload_format=row["payload_format"],
        signing_profiles=tuple(row["signing_profiles"]),
        filter=row["filter"],
        headers=orjson.loads(row["headers"]),
        retry_schedule=_tuple_or_none(row["retry_schedule"]),
        timeout=row["timeout"],
        rate_limit=row["rate_limit"],
        warn_after=row["warn_after"],
        disable_after=row["disable_after"],
        metadata=orjson.loads(row["metadata"]),
        include_descendants=row["include_descendants"],
        format_deprecated=row["format_deprecated"],
        health=HealthRow(
            failing_since=row["failing_since"],
            warned_at=row["warned_at"],
            cool_until=row["cool_until"],
            hung=row["hung"],
            last_success_at=row["last_success_at"],
            last_failure_at=row["last_failure_at"],
            last_error=row["last_error"],
        ),
    )


def _tuple_or_none(delays: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if delays is None else tuple(delays)


async def secrets(
    connection: asyncpg.Connection,
    endpoint_id: EndpointId,
    sealer: Sealer,
    *,
    now: datetime | None,
    private: bool = False,
) -> list[SecretRow]:
    """Return the secrets of an endpoint that are in use, the current one first, opened; or its private keys."""
    return [
        SecretRow(sealer.open(row["sealed"], row["sealing_key"]), row["created_at"], row["expires_at"])
        for row in await connection.fetch(SQL.secrets, endpoint_id, now, private)
    ]


async def replace_secret(
    connection: asyncpg.Connection,
    endpoint_id: EndpointId,
    sealed: Sealed,
    *,
    overlap: float,
    now: datetime | None,
    private: bool = False,
) -> None:
    """Give an endpoint a new current secret; the others end after `overlap` seconds, or earlier if they did so before.

    Private keys and shared secrets do not replace each other.
    """
    await connection.execute(SQL.retire_secrets, endpoint_id, overlap, now, private)
    await connection.execute(SQL.forget_secrets, endpoint_id, now)
    await connection.execute(SQL.insert_secret, endpoint_id, sealed.data, sealed.key, private)
