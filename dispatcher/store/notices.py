"""Notices and mails: write down what somebody must be told, fold it into mails, keep account of their sending.

Opens no transaction, and sends nothing: `deliver` writes notices in the transaction of the change they tell of, `notify`
folds and sends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from dispatcher.model import DeliveryId, EndpointId, EventId, NoticeKind, Shard
from dispatcher.store import queries

SQL = queries.load(__file__)

ANSWER_LIMIT: Final = 300
"""Characters of an answer's text: enough for an error message, too few to carry much of somebody's data."""

TEXT_LIMIT: Final = 500
"""Characters of any other text: it is meant to be one line."""

COUNT_LIMIT: Final = 100_000
"""Where counting for people stops: beyond it the exact number helps nobody and costs seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewNotice:
    """A fact that the person at the endpoint's notification address must be told. Instants are unix seconds."""

    kind: NoticeKind
    endpoint_id: EndpointId
    delivery_id: DeliveryId | None = None
    event_id: EventId | None = None
    event_type: str | None = None
    attempts: int | None = None
    first_attempt_at: float | None = None
    last_attempt_at: float | None = None
    reason: str | None = None
    """A `DeathReason` for a death; for a disabled endpoint a `DeathReason` or words."""
    status: int | None = None
    """Of the last answer."""
    error: str | None = None
    """Of the last attempt, one line; null if it was answered."""
    answer: str | None = None
    """The start of the last answer's text; cut and cleaned by `write`."""
    deadline: float | None = None
    """For a failing endpoint: when it will be disabled."""
    deliveries: int | None = None
    """For a disabled endpoint: how many pending deliveries died; null: counted when the mail is made."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice as it was written."""

    id: int
    endpoint_id: EndpointId
    kind: NoticeKind
    delivery_id: DeliveryId | None
    event_id: EventId | None
    event_type: str | None
    attempts: int | None
    first_attempt_at: datetime | None
    last_attempt_at: datetime | None
    reason: str | None
    status: int | None
    error: str | None
    answer: str | None
    deadline: datetime | None
    deliveries: int | None
    created_at: datetime
    mail_id: UUID | None
    """Null: not yet folded into a mail."""


@dataclass(frozen=True, slots=True)
class Group:
    """Notices of one kind for one endpoint that wait for a mail, and whom it goes to."""

    mail_id: UUID
    """Of the mail that will tell of them."""
    kind: NoticeKind
    endpoint_id: EndpointId
    shard: Shard
    tenant: str
    url: str
    description: str | None
    disabled_at: datetime | None
    recipients: tuple[str, ...]
    """The notification address first; nobody twice."""


@dataclass(frozen=True, slots=True)
class TypeCount:
    """How many notices of a mail are about events of one type."""

    event_type: str | None
    count: int


@dataclass(frozen=True, slots=True)
class Folded:
    """What a mail tells of."""

    group: Group
    count: int
    first_attempt_at: datetime | None
    last_attempt_at: datetime | None
    first_at: datetime
    """When the first of the notices was written."""
    last_at: datetime
    types: tuple[TypeCount, ...]
    """The most frequent first, not all if they are many."""
    type_count: int
    newest: tuple[Notice, ...]
    """The newest first, not all if they are many."""
    deliveries: int | None = None
    """For a disabled endpoint: how many deliveries died with it."""


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail with the state of its sending."""

    id: UUID
    endpoint_id: EndpointId
    kind: NoticeKind
    message_id: str
    recipients: tuple[str, ...]
    waiting: tuple[str, ...]
    """Recipients that the mail server has neither accepted nor refused yet."""
    refused: tuple[str, ...]
    subject: str
    text_body: str
    html_body: str
    notices: int
    """How many notices it tells of."""
    created_at: datetime
    due_at: datetime
    attempts: int
    claimed_until: datetime | None
    sent_at: datetime | None
    given_up_at: datetime | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class Figures:
    """What waits, for metrics and the console; counts stop at `COUNT_LIMIT`."""

    notices_waiting: int
    """Not yet folded into a mail: in a cool-down, or without a mail server."""
    mails_waiting: int
    oldest_unsent_age: float
    """Seconds since the oldest unfinished mail was made; 0 if there is none."""


def plain(text: str, limit: int) -> str:
    """Return `text` as one printable line of at most `limit` characters.

    What is not printable becomes a space: line ends and other control characters, which structure headers, texts and
    terminals; marks that turn the direction of writing; NUL and lone surrogates, which Postgres refuses.
    """
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


async def write(connection: asyncpg.Connection, notices: Sequence[NewNotice], *, now: datetime | None) -> None:
    """Write notices, all in one statement, in the transaction of the change they tell of.

    An endpoint without a notification address gets none (its deaths stand in history all the same), and a recovery is
    written only if the endpoint's last health notice told of trouble.
    """
    if not notices:
        return
    await connection.execute(
        SQL.write,
        [notice.kind for notice in notices],
        [notice.endpoint_id for notice in notices],
        [notice.delivery_id for notice in notices],
        [notice.event_id for notice in notices],
        [_plain(notice.event_type) for notice in notices],
        [notice.attempts for notice in notices],
        [notice.first_attempt_at for notice in notices],
        [notice.last_attempt_at for notice in notices],
        [_plain(notice.reason) for notice in notices],
        [notice.status for notice in notices],
        [_plain(notice.error) for notice in notices],
        [_plain(notice.answer, limit=ANSWER_LIMIT) for notice in notices],
        [notice.deadline for notice in notices],
        [notice.deliveries for notice in notices],
        now,
    )


async def lock_folding(connection: asyncpg.Connection) -> bool:
    """Return whether this transaction may fold. Until it ends no other one may, in any process."""
    return bool(await connection.fetchval(SQL.lock_folding))


async def foldable(
    connection: asyncpg.Connection, *, digest_every: float, limit: int, now: datetime | None
) -> list[Group]:
    """Return what is to be folded now, at most `limit` groups. Needs `lock_folding`.

    Deaths wait until `digest_every` seconds have passed since the endpoint's last mail about deaths was made, and until
    that mail reached the notification address; other kinds never wait.
    """
    rows = await connection.fetch(SQL.foldable, digest_every, limit, now)
    return [
        Group(
            mail_id=row["mail_id"],
            kind=NoticeKind(row["kind"]),
            endpoint_id=EndpointId(row["endpoint_id"]),
            shard=Shard(row["shard"]),
            tenant=row["tenant"],
            url=row["url"],
            description=row["description"],
            disabled_at=row["disabled_at"],
            recipients=_once(row["recipients"]),
        )
        for row in rows
    ]


async def fold(connection: asyncpg.Connection, group: Group, *, at_most: int, types: int, listed: int) -> Folded:
    """Give the oldest `at_most` notices of a group to its mail; return what it has to tell. Needs `lock_folding`.

    `types` and `listed` limit how many event types and single notices are read. The mail itself must be added in the
    same transaction.
    """
    summary = await connection.fetchrow(SQL.fold, group.mail_id, group.endpoint_id, group.kind, at_most)
    frequent = await connection.fetch(SQL.types_in, group.mail_id, types)
    newest = tuple(_notice(row) for row in await connection.fetch(SQL.newest_in, group.mail_id, listed))
    return Folded(
        group=group,
        **summary,
        types=tuple(TypeCount(row["event_type"], row["count"]) for row in frequent),
        type_count=frequent[0]["types"] if frequent else 0,
        newest=newest,
        deliveries=await _died_with(connection, group, newest),
    )


async def _died_with(connection: asyncpg.Connection, group: Group, newest: Sequence[Notice]) -> int | None:
    if group.kind is not NoticeKind.ENDPOINT_DISABLED or not newest:
        return None
    notice = newest[0]
    if notice.deliveries is not None:
        return notice.deliveries
    since = min(notice.created_at, group.disabled_at or notice.created_at)
    return int(await connection.fetchval(SQL.died_with, group.endpoint_id, group.shard, since, COUNT_LIMIT))


async def add_mail(
    connection: asyncpg.Connection,
    folded: Folded,
    *,
    message_id: str,
    subject: str,
    text: str,
    html: str,
    now: datetime | None,
) -> None:
    """Queue the mail that tells of what was folded."""
    group = folded.group
    await connection.execute(
        SQL.add_mail,
        group.mail_id,
        group.endpoint_id,
        group.kind,
        message_id,
        group.recipients,
        subject,
        text,
        html,
        folded.count,
        now,
    )


async def claim_mails(
    connection: asyncpg.Connection, *, limit: int, seconds: float, now: datetime | None
) -> list[Mail]:
    """Take mails that are due, for `seconds`; nobody else gets them until then."""
    return [_mail(row) for row in await connection.fetch(SQL.claim_mails, limit, seconds, now)]


async def renew_mails(
    connection: asyncpg.Connection, mail_ids: Sequence[UUID], *, seconds: float, now: datetime | None
) -> None:
    """Keep claimed mails for `seconds` from now; those that are settled, or whose claim has ended, stay as they are."""
    await connection.execute(SQL.renew_mails, mail_ids, seconds, now)


async def settle_mail(
    connection: asyncpg.Connection,
    mail_id: UUID,
    *,
    accepted: Sequence[str],
    refused: Sequence[str],
    error: str | None,
    delay: float,
    now: datetime | None,
) -> None:
    """Write down what came of trying to send a mail; whoever is left over is tried again after `delay` seconds."""
    await connection.execute(
        SQL.settle_mail, mail_id, accepted, refused, error and plain(error, TEXT_LIMIT), delay, now
    )


async def release_mails(connection: asyncpg.Connection, mail_ids: Sequence[UUID]) -> None:
    """Give back claimed mails that were not tried."""
    await connection.execute(SQL.release_mails, mail_ids)


async def list_mails(
    connection: asyncpg.Connection,
    *,
    endpoint_id: EndpointId | None = None,
    unfinished: bool = False,
    before: datetime | None = None,
    limit: int = 100,
) -> list[Mail]:
    """Return mails, the newest first."""
    return [_mail(row) for row in await connection.fetch(SQL.list_mails, endpoint_id, unfinished, before, limit)]


async def list_notices(
    connection: asyncpg.Connection,
    *,
    endpoint_id: EndpointId | None = None,
    mail_id: UUID | None = None,
    unfolded: bool = False,
    before: int | None = None,
    limit: int = 100,
) -> list[Notice]:
    """Return notices, the newest first; `before` is the id of the last one seen."""
    rows = await connection.fetch(SQL.list_notices, endpoint_id, mail_id, unfolded, before, limit)
    return [_notice(row) for row in rows]


async def figures(connection: asyncpg.Connection, *, now: datetime | None) -> Figures:
    """Count what waits."""
    row = await connection.fetchrow(SQL.figures, COUNT_LIMIT, now)
    return Figures(**row)


async def forget(connection: asyncpg.Connection, *, older_than: float, limit: int, now: datetime | None) -> int:
    """Remove notices and mails made more than `older_than` seconds ago, at most `limit` of each; return how many.

    Also what was never sent: what it tells of is forgotten by then as well.
    """
    removed_notices: int = await connection.fetchval(SQL.forget_notices, older_than, limit, now)
    removed_mails: int = await connection.fetchval(SQL.forget_mails, older_than, limit, now)
    return removed_notices + removed_mails


def _once(addresses: Sequence[str]) -> tuple[str, ...]:
    """Leave out repetitions; the first spelling stays, in its place."""
    seen: dict[str, str] = {}
    for address in addresses:
        seen.setdefault(address.lower(), address)
    return tuple(seen.values())


def _plain(text: str | None, *, limit: int = TEXT_LIMIT) -> str | None:
    return None if text is None else plain(text, limit)


def _notice(row: asyncpg.Record) -> Notice:
    return Notice(**{**row, "kind": NoticeKind(row["kind"])})


def _mail(row: asyncpg.Record) -> Mail:
    lists = {name: tuple(row[name]) for name in ("recipients", "waiting", "refused")}
    return Mail(**{**row, **lists, "kind": NoticeKind(row["kind"])})
