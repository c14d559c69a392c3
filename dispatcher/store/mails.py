"""Reads mails and what waits to be put into one, for people; `notices` writes, folds and keeps account of the sending."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from dispatcher.model import EndpointId, NoticeKind
from dispatcher.store import queries
from dispatcher.store.history import DUSK
from dispatcher.store.notices import Notice

SQL = queries.load(__file__)

STATEMENTS: Mapping[str, str] = MappingProxyType(
    {name: f"-- mails.{name}\n{SQL.sift.replace('/* walk */', SQL[name])}" for name in ("all", "of_endpoints")}
)
"""What each walk finds, sifted."""


class Place(NamedTuple):
    """Where a walk stands: behind a mail."""

    at: datetime
    id: UUID


TOP: Final = Place(DUSK, UUID(int=2**128 - 1))
"""Before the latest."""


class MailState(StrEnum):
    """What became of a mail."""

    WAITING = "waiting"
    """Somebody is still to get it: not tried yet, or tried in vain and to be tried again."""
    SENT = "sent"
    """The mail server took it for one recipient at least, and nobody waits."""
    GIVEN_UP = "given_up"
    """The mail server refused every recipient for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailRow:
    """A mail without its text."""

    id: UUID
    tenant: str
    endpoint_id: EndpointId
    url: str
    kind: NoticeKind
    state: MailState
    message_id: str
    recipients: tuple[str, ...]
    """The endpoint's notification address first."""
    waiting: tuple[str, ...]
    """Recipients that the mail server has neither accepted nor refused yet."""
    refused: tuple[str, ...]
    """Recipients that the mail server refused for good."""
    subject: str
    notices: int
    """How many notices it tells of."""
    created_at: datetime
    due_at: datetime
    """Of a waiting one: when it is tried next."""
    attempts: int
    """How often it was tried."""
    sent_at: datetime | None
    given_up_at: datetime | None
    last_error: str | None
    """What the mail server, or the way to it, said at the last failure."""


@dataclass(frozen=True, slots=True)
class MailHaul:
    """What one sift brought."""

    mails: tuple[MailRow, ...]
    walked: int
    """How many were looked at."""
    edge: Place | None
    """The last one that was looked at; null: none was."""


@dataclass(frozen=True, slots=True)
class MailText:
    """What a mail says."""

    text: str
    html: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingNotices:
    """Notices of one kind for one endpoint that wait for a mail: in the pause between two digests."""

    tenant: str
    endpoint_id: EndpointId
    url: str
    kind: NoticeKind
    count: int
    """Up to a bound, see `Admin.waiting_notices`."""
    oldest_at: datetime
    newest_at: datetime
    """Of those counted."""


async def sift(
    connection: asyncpg.Connection,
    *,
    endpoints: Sequence[EndpointId] | None,
    kind: NoticeKind | None,
    state: MailState | None,
    behind: Place,
    size: int,
    limit: int,
) -> MailHaul:
    """Look at `size` mails behind a place, of some endpoints or of all, and return at most `limit` of what passes."""
    kinds = list(NoticeKind) if kind is None else [kind]
    rows = await connection.fetch(
        STATEMENTS["all" if endpoints is None else "of_endpoints"],
        kind,
        state,
        limit,
        *behind,
        size,
        *([] if endpoints is None else [list(endpoints), kinds]),
    )
    if not rows:
        return MailHaul((), 0, None)
    found = tuple(_mail(row) for row in rows if row["id"] is not None)
    return MailHaul(found, rows[0]["walked"], Place(rows[0]["edge_at"], rows[0]["edge_id"]))


async def one(connection: asyncpg.Connection, mail_id: UUID) -> tuple[MailRow, MailText] | None:
    """Return a mail with its text, or None if there is none."""
    row = await connection.fetchrow(SQL.one, mail_id)
    return None if row is None else (_mail(row), MailText(row["text_body"], row["html_body"]))


async def notices_in(connection: asyncpg.Connection, mail_id: UUID, *, limit: int) -> tuple[Notice, ...]:
    """Return the notices that a mail tells of, the newest first."""
    rows = await connection.fetch(SQL.notices_in, mail_id, limit)
    return tuple(Notice(**{**row, "kind": NoticeKind(row["kind"])}) for row in rows)


async def waiting_notices(
    connection: asyncpg.Connection,
    *,
    endpoints: Sequence[EndpointId] | None,
    limit: int,
    count_limit: int,
) -> tuple[WaitingNotices, ...]:
    """Count what is not in a mail yet, of some endpoints or of all; at most `limit` endpoints."""
    given = None if endpoints is None else list(endpoints)
    rows = await connection.fetch(SQL.waiting_notices, given, limit, count_limit, list(NoticeKind))
    return tuple(WaitingNotices(**{**row, "kind": NoticeKind(row["kind"])}) for row in rows)


def _mail(row: asyncpg.Record) -> MailRow:
    state = MailState.WAITING
    if row["sent_at"] is not None:
        state = MailState.SENT
    elif row["given_up_at"] is not None:
        state = MailState.GIVEN_UP
    return MailRow(
        id=row["id"],
        tenant=row["tenant"],
        endpoint_id=EndpointId(row["endpoint_id"]),
        url=row["url"],
        kind=NoticeKind(row["kind"]),
        state=state,
        message_id=row["message_id"],
        recipients=tuple(row["recipients"]),
        waiting=tuple(row["waiting"]),
        refused=tuple(row["refused"]),
        subject=row["subject"],
        notices=row["notices"],
        created_at=row["created_at"],
        due_at=row["due_at"],
        attempts=row["attempts"],
        sent_at=row["sent_at"],
        given_up_at=row["given_up_at"],
        last_error=row["last_error"],
    )
