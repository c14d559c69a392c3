"""Mails to people: what was sent, what waits, what each one says. Nothing can be done with them here.

- `Admin.mails(*, tenant=None, webhook=None, kind=None, state=None, limit=50, cursor=None) -> MailPage(mails: tuple[MailRow, …],
  next_cursor)`
- `Admin.mail(id, *, tenant=None) -> MailDetails(mail: MailRow, text, html, notices: tuple[Notice, …])`
- `Admin.waiting_notices(*, tenant=None, webhook=None, limit=50) -> tuple[WaitingNotices, …]`: not in a mail yet

`MailRow`, `MailState`, `WaitingNotices` are in store/mails.py, `Notice` in store/notices.py.
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from dispatcher.admin import cursors
from dispatcher.admin.calls import CallsAdmin
from dispatcher.errors import InvalidInput, NotFound
from dispatcher.model import EndpointId, NoticeKind
from dispatcher.store import mails as store
from dispatcher.store.mails import TOP, MailRow, MailState, Place, WaitingNotices
from dispatcher.store.notices import Notice

MOST_LISTED: Final = 250
"""On one page."""

MOST_LOOKED_AT: Final = 5000
"""Mails looked at for one page: some 30 ms."""

WINDOW: Final = 500
"""Mails looked at in one go where not all of them are asked for."""

NOTICES_SHOWN: Final = 200
"""With one mail; it tells how many there are."""

COUNTED: Final = 1000
"""Where counting of waiting notices stops, for each endpoint and kind."""

_KIND = "mails"


@dataclass(frozen=True, slots=True)
class MailPage:
    """Some mails, the latest first."""

    mails: tuple[MailRow, ...]
    next_cursor: str | None
    """Hand it in, with the same filters, to read on; null at the end. A page can be short and have one."""


@dataclass(frozen=True, slots=True)
class MailDetails:
    """A mail with what it says."""

    mail: MailRow
    text: str
    html: str
    """As it was sent: a whole document, made from escaped text alone."""
    notices: tuple[Notice, ...]
    """The newest first, at most 200."""


class MailsAdmin(CallsAdmin):
    """Read mails."""

    async def mails(
        self,
        *,
        tenant: str | None = None,
        webhook: EndpointId | None = None,
        kind: NoticeKind | None = None,
        state: MailState | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> MailPage:
        """Return a page of mails (`limit` is 1 to 250), the latest first. Raises InvalidInput, NotFound."""
        if not 1 <= limit <= MOST_LISTED:
            raise InvalidInput(f"A limit is 1 to {MOST_LISTED}.", field="limit")
        place = TOP if cursor is None else _read(cursor)
        found: list[MailRow] = []
        examined = 0
        async with self._reading() as connection:
            lanes = await self._lanes(connection, webhook, None, tenant)
            size = limit + 1 if kind is None and state is None else max(limit + 1, WINDOW)
            while True:
                haul = await store.sift(
                    connection,
                    endpoints=None if lanes is None else [lane.endpoint_id for lane in lanes],
                    kind=kind,
                    state=state,
                    behind=place,
                    size=size,
                    limit=limit + 1 - len(found),
                )
                found += haul.mails
                examined += haul.walked
                if len(found) > limit:
                    last = found[limit - 1]
                    return MailPage(tuple(found[:limit]), cursors.written(_KIND, last.created_at, str(last.id)))
                if haul.walked < size or haul.edge is None:
                    return MailPage(tuple(found), None)
                place = haul.edge
                if examined >= MOST_LOOKED_AT:
                    return MailPage(tuple(found), cursors.written(_KIND, place.at, str(place.id)))

    async def mail(self, mail_id: UUID, *, tenant: str | None = None) -> MailDetails:
        """Return a mail. Raises NotFound."""
        async with self._reading() as connection:
            found = await store.one(connection, mail_id)
            if found is None or tenant not in (None, found[0].tenant):
                raise NotFound(f"There is no mail {mail_id}, or it is past retention.")
            notices = await store.notices_in(connection, mail_id, limit=NOTICES_SHOWN)
        mail, says = found
        return MailDetails(mail, says.text, says.html, notices)

    async def waiting_notices(
        self, *, tenant: str | None = None, webhook: EndpointId | None = None, limit: int = 50
    ) -> tuple[WaitingNotices, ...]:
        """Return what is not in a mail yet, by endpoint (at most `limit` of them) and kind; each count stops at 1000."""
        if not 1 <= limit <= MOST_LISTED:
            raise InvalidInput(f"A limit is 1 to {MOST_LISTED}.", field="limit")
        async with self._reading() as connection:
            lanes = await self._lanes(connection, webhook, None, tenant)
            return await store.waiting_notices(
                connection,
                endpoints=None if lanes is None else [lane.endpoint_id for lane in lanes],
                limit=limit,
                count_limit=COUNTED,
            )


def _read(cursor: str) -> Place:
    at, mail_id = cursors.read(cursor, _KIND, 2)
    try:
        return Place(cursors.instant(at), UUID(mail_id))
    except (ValueError, TypeError, AttributeError):
        raise cursors.bad() from None
