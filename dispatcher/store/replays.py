"""Replays: what they ask for, where they stand, and the pages of finished deliveries that they go through.

Opens no transaction. A batch is whole or not at all if `make` and `advance` share the transaction of `claim`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import asyncpg

from dispatcher.model import DeliveryId, DeliveryState, EndpointId, EndpointState, EventId, ReplayId, Shard
from dispatcher.store import queries

SQL = queries.load(__file__)

DAWN = datetime.min.replace(tzinfo=UTC)
FIRST = DeliveryId(0)
"""Before every row."""


class ReplayState(StrEnum):
    """Where a replay stands."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


class Fate(StrEnum):
    """What becomes of a finished delivery in a replay whose filters let it through."""

    REPLAYED = "replayed"
    PAST_RETENTION = "past_retention"
    """The event is gone."""
    EXPIRED = "expired"
    """The event's `expires_at` has passed."""
    SUPERSEDED = "superseded"
    """There is a later delivery of the event to the endpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a replay is to send again."""

    states: tuple[DeliveryState, ...]
    since: datetime | None = None
    """Of events inserted from this instant on."""
    until: datetime | None = None
    """Of events inserted before this instant."""
    patterns: tuple[str, ...] | None = None
    """Of these event types or patterns; null: of all."""
    causes: tuple[str, ...] | None = None
    """Class of the last error, last status (`503`, `5xx`) or reason of death; null: anything."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a replay stands: behind a finished delivery."""

    finished_at: datetime
    id: DeliveryId


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRow:
    """A replay with how far it has come."""

    id: ReplayId
    tenant: str
    endpoint_id: EndpointId
    wanted: Wanted
    rate: float | None
    """New deliveries a second; null: as many as the endpoint takes."""
    state: ReplayState
    reason: str | None
    """Why it was cancelled."""
    created_at: datetime
    finished_at: datetime | None
    expected: int
    """How many there were to be replayed when it was created."""
    expected_exact: bool
    """False: it was too long to count, and is at least that."""
    fates: Mapping[Fate, int]
    """So far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A replay that this transaction may take a step further."""

    id: ReplayId
    shard: Shard
    endpoint_id: EndpointId
    wanted: Wanted
    rate: float | None
    created_at: datetime
    place: Place
    endpoint_state: EndpointState
    archived: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """A finished delivery that a replay looks at."""

    id: DeliveryId
    finished_at: datetime
    event_id: EventId
    event_at: datetime
    ordered: bool
    fate: Fate | None
    """Null: the filters leave it out."""

    @property
    def place(self) -> Place:
        """Where a replay stands that has looked at it."""
        return Place(self.finished_at, self.id)


async def insert(
    connection: asyncpg.Connection,
    endpoint_id: EndpointId,
    wanted: Wanted,
    *,
    rate: float | None,
    expected: int,
    expected_exact: bool,
    now: datetime | None,
) -> ReplayId:
    """Create a replay; it runs from now on."""
    return ReplayId(
        await connection.fetchval(
            SQL.insert,
            endpoint_id,
            list(wanted.states),
            wanted.since,
            wanted.until,
            _list_or_none(wanted.patterns),
            _list_or_none(wanted.causes),
            rate,
            expected,
            now,
            expected_exact,
        )
    )


async def page(
    connection: asyncpg.Connection,
    endpoint_id: EndpointId,
    wanted: Wanted,
    *,
    behind: Place,
    until: datetime | None,
    limit: int,
    now: datetime | None,
) -> list[Ended]:
    """Return the next finished deliveries behind a place, fewer than `limit` at the end. Needs a transaction.

    `until`: of those that ended no later; null: by now.
    """
    await connection.execute(SQL.prefer_keys)
    rows = await connection.fetch(
        SQL.page,
        endpoint_id,
        list(wanted.states),
        behind.finished_at,
        behind.id,
        until,
        limit,
        wanted.since,
        wanted.until,
        _list_or_none(wanted.patterns),
        _list_or_none(wanted.causes),
        now,
    )
    return [
        Ended(
            DeliveryId(row["id"]),
            row["finished_at"],
            EventId(row["event_id"]),
            row["event_at"],
            bool(row["ordered"]),
            None if row["fate"] is None else Fate(row["fate"]),
        )
        for row in rows
    ]


async def soonest(connection: asyncpg.Connection, shards: Sequence[Shard], *, now: datetime | None) -> float | None:
    """Tell in how many seconds the next batch of a replay of some shards is due; None if none runs."""
    seconds: float | None = await connection.fetchval(SQL.soonest, list(shards), now)
    return seconds


async def claim(connection: asyncpg.Connection, shards: Sequence[Shard], *, now: datetime | None) -> Claimed | None:
    """Take a replay of some shards that may go on, until the transaction ends; None if there is none."""
    row = await connection.fetchrow(SQL.claim, list(shards), now)
    if row is None:
        return None
    return Claimed(
        id=ReplayId(row["id"]),
        shard=Shard(row["shard"]),
        endpoint_id=EndpointId(row["endpoint_id"]),
        wanted=_wanted(row),
        rate=row["rate"],
        created_at=row["created_at"],
        place=Place(row["read_at"], DeliveryId(row["read_id"])),
        endpoint_state=EndpointState(row["endpoint_state"]),
        archived=row["archived"],
    )


async def make(
    connection: asyncpg.Connection, endpoint_id: EndpointId, chosen: Sequence[Ended], *, now: datetime | None
) -> list[float]:
    """Make pending deliveries of the events of finished ones, in the order of the events; returns when each is due.

    Unix seconds; infinity for what waits for an earlier one of its ordering key. Needs `outbox.lock_ordering` if there
    are such keys.
    """
    await connection.execute(SQL.prefer_keys)
    rows = await connection.fetch(
        SQL.make, endpoint_id, [ended.event_id for ended in chosen], [ended.event_at for ended in chosen], now
    )
    return [row["due_at"] for row in rows]


async def advance(
    connection: asyncpg.Connection,
    replay_id: ReplayId,
    place: Place,
    fates: Mapping[Fate, int],
    *,
    seconds: float,
    slack: float,
    done: bool,
    now: datetime | None,
) -> None:
    """Write down how far a replay has come. `seconds` are what this took of its rate, `slack` what it may catch up on."""
    await connection.execute(
        SQL.advance,
        replay_id,
        place.finished_at,
        place.id,
        *(fates.get(fate, 0) for fate in (Fate.REPLAYED, Fate.PAST_RETENTION, Fate.EXPIRED, Fate.SUPERSEDED)),
        seconds,
        slack,
        done,
        now,
    )


async def postpone(
    connection: asyncpg.Connection, replay_id: ReplayId, seconds: float, *, now: datetime | None
) -> None:
    """Let a replay rest."""
    await connection.execute(SQL.postpone, replay_id, seconds, now)


async def cancel(connection: asyncpg.Connection, replay_id: ReplayId, reason: str, *, now: datetime | None) -> bool:
    """End a replay; False if it did not run any more."""
    return await connection.fetchval(SQL.cancel, replay_id, reason, now) is not None


async def one(connection: asyncpg.Connection, replay_id: ReplayId) -> ReplayRow | None:
    """Return a replay, or None if there is none."""
    row = await connection.fetchrow(SQL.one, replay_id)
    return None if row is None else _replay(row)


async def several(
    connection: asyncpg.Connection, *, endpoint_id: EndpointId | None, tenant: str | None, limit: int
) -> list[ReplayRow]:
    """Return replays of an endpoint, of a tenant or of all, the latest first."""
    return [_replay(row) for row in await connection.fetch(SQL.several, endpoint_id, tenant, limit)]


async def listed(
    connection: asyncpg.Connection,
    *,
    below: ReplayId,
    endpoint_id: EndpointId | None,
    tenant: str | None,
    state: ReplayState | None,
    limit: int,
) -> list[tuple[ReplayRow, str]]:
    """Return replays with ids below one, the latest first, each with its endpoint's URL."""
    rows = await connection.fetch(SQL.listed, below, endpoint_id, tenant, state, limit)
    return [(_replay(row), row["url"]) for row in rows]


async def forget(connection: asyncpg.Connection, *, older_than: float, limit: int, now: datetime | None) -> int:
    """Drop replays that ended more than `older_than` seconds ago; returns how many."""
    return int((await connection.execute(SQL.forget, older_than, limit, now)).split()[-1])


def _replay(row: asyncpg.Record) -> ReplayRow:
    return ReplayRow(
        id=ReplayId(row["id"]),
        tenant=row["tenant"],
        endpoint_id=EndpointId(row["endpoint_id"]),
        wanted=_wanted(row),
        rate=row["rate"],
        state=ReplayState(row["state"]),
        reason=row["reason"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
        expected=row["expected"],
        expected_exact=row["expected_exact"],
        fates={fate: row[fate] for fate in Fate},
    )


def _wanted(row: asyncpg.Record) -> Wanted:
    return Wanted(
        states=tuple(DeliveryState(state) for state in row["states"]),
        since=row["since"],
        until=row["until"],
        patterns=None if row["patterns"] is None else tuple(row["patterns"]),
        causes=None if row["causes"] is None else tuple(row["causes"]),
    )


def _list_or_none(texts: Sequence[str] | None) -> list[str] | None:
    return None if texts is None else list(texts)
