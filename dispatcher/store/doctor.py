"""Read the facts that `dispatcher doctor` judges, from the catalogue and from our tables; judges nothing itself."""

from dataclasses import dataclass
from datetime import date
from typing import Any

from dispatcher.store import queries

_queries = queries.load(__file__)

MOST_COUNTED = 100_000
"""Unread events: more than this is as bad, and counting them all would add to the load."""


@dataclass(frozen=True, slots=True)
class Server:
    """The database server as seen from one connection."""

    role: str
    version: int
    """Major version."""
    standby: bool
    now: float
    """Its clock, unix seconds."""


@dataclass(frozen=True, slots=True)
class Rights:
    """What the current role may do in the schema."""

    may_use: bool
    may_create: bool
    closed: tuple[str, ...]
    """Tables that it cannot read and write whole."""
    foreign_owned: tuple[str, ...]
    """Partitioned tables that it does not own."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A session that holds vacuum back."""

    pid: int
    application: str
    state: str
    seconds: float | None
    """Since its transaction began; null: the role may not see it."""
    transactions: int
    """How many transactions were begun since."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Things that wait, and for how long the oldest does."""

    count: int
    seconds: float
    example: str | None = None


@dataclass(frozen=True, slots=True)
class InUse:
    """A payload format or a signing profile that webhooks name which are not archived."""

    name: str
    webhooks: int
    definition: str | None = None
    """As it is stored, JSON; null if it is not."""
    deprecated: date | None = None
    is_over: bool | None = None
    """Whether that day has come."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A replication slot that holds WAL."""

    name: str
    active: bool
    bytes: int


@dataclass(frozen=True, slots=True)
class Horizon:
    """What keeps old row versions and WAL alive."""

    snapshot: Snapshot | None
    prepared: Waiting
    slots: tuple[Slot, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """How the service is doing, as far as its tables tell."""

    producer_present: bool
    producer_may_insert: bool
    partition_days: dict[str, int]
    """Days from today on that have a partition, per partitioned table."""
    default_partitions: tuple[str, ...]
    """Tables whose default partition holds rows."""
    workers: int
    shards_owned: int
    shards: int
    oldest_due: float | None
    """Seconds since the oldest sendable delivery was due."""
    unread: Waiting
    mails: Waiting
    sealing_keys: dict[str | None, int]
    """How many secrets are sealed under which main key; null: not sealed."""
    formats: tuple[InUse, ...]
    profiles: tuple[InUse, ...]


async def read_server(connection: Any) -> Server:
    """Read what needs no schema."""
    return Server(**await connection.fetchrow(_queries.server))


async def read_horizon(connection: Any) -> Horizon:
    """Read what holds vacuum and WAL back."""
    snapshot = await connection.fetchrow(_queries.oldest_snapshot)
    prepared = await connection.fetchrow(_queries.prepared_transactions)
    slots = await connection.fetch(_queries.replication_slots)
    return Horizon(
        snapshot=None if snapshot is None else Snapshot(**snapshot),
        prepared=Waiting(prepared["transactions"], prepared["seconds"] or 0.0, prepared["example"]),
        slots=tuple(Slot(**row) for row in slots),
    )


async def read_rights(connection: Any) -> Rights:
    """Read what the role may do; needs the schema."""
    row = await connection.fetchrow(_queries.rights)
    return Rights(row["may_use"], row["may_create"], tuple(row["closed"]), tuple(row["foreign_owned"]))


async def read_work(connection: Any) -> Work:
    """Read how the service is doing; needs an up-to-date schema, and the right to read it."""
    producer = await connection.fetchrow(_queries.producer)
    workers = await connection.fetchrow(_queries.workers)
    unread = await connection.fetchrow(_queries.unread, MOST_COUNTED)
    mails = await connection.fetchrow(_queries.mails)
    return Work(
        producer_present=producer["present"],
        producer_may_insert=producer["may_insert"],
        partition_days={row["parent"]: row["days"] for row in await connection.fetch(_queries.partitions)},
        default_partitions=tuple(row["parent"] for row in await connection.fetch(_queries.default_partitions)),
        workers=workers["workers"],
        shards_owned=workers["owned"],
        shards=workers["shards"],
        oldest_due=await connection.fetchval(_queries.backlog),
        unread=Waiting(unread["events"], unread["seconds"] or 0.0),
        mails=Waiting(mails["mails"], mails["seconds"] or 0.0),
        sealing_keys={row["sealing_key"]: row["secrets"] for row in await connection.fetch(_queries.sealing)},
        formats=tuple(InUse(**row) for row in await connection.fetch(_queries.formats_in_use)),
        profiles=tuple(InUse(**row) for row in await connection.fetch(_queries.profiles_in_use)),
    )
