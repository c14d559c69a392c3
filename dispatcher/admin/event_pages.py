"""The list of events: the latest inserted first, with what became of each, page by page.

`Admin.event_page(*, tenant=None, event_type=None, since=None, until=None, refused=False, limit=50, cursor=None) ->
EventPage(events: tuple[ListedEvent, …], next_cursor, searched_to)`; `ListedEvent` is in store/events.py. One event in detail is
`Admin.event(id, tenant=…)`, its way `Admin.explain(id, tenant=…)`, its deliveries `Admin.calls(CallFilter(event=id))`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from dispatcher.admin import cursors
from dispatcher.admin.base import Base
from dispatcher.errors import InvalidInput
from dispatcher.store import calls as call_store
from dispatcher.store import events as store
from dispatcher.store.events import TOP, EventHaul, ListedEvent, Place
from dispatcher.store.history import DAWN, DUSK, LAST_ID

MOST_LISTED: Final = 250
"""On one page."""

FIRST: Final = timedelta(seconds=4)
"""The first window: a busy service has a page in it."""

GROWTH: Final = 4
"""Each further window is so many times as long: from 4 s to a year in twelve."""

LONGEST: Final = timedelta(days=400)
"""A longer window is all there is."""

WIDEST: Final = 10_000
"""Events in one window; with more it is halved. Some 5 ms."""

MOST_LOOKED_AT: Final = 20_000
"""Events looked at for one page: some tens of milliseconds."""

NARROWEST: Final = timedelta(microseconds=1)
"""An instant as Postgres has them: events of one are read whole, however many."""

_KIND = "events"


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some events, the latest inserted first."""

    events: tuple[ListedEvent, ...]
    next_cursor: str | None
    """Hand it in, with the same filters, to read on; null at the end. A page can be short and have one."""
    searched_to: datetime | None
    """All that was inserted after this instant was searched; null where everything was."""


class EventPagesAdmin(Base):
    """List events."""

    async def event_page(
        self,
        *,
        tenant: str | None = None,
        event_type: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        refused: bool = False,
        limit: int = 50,
        cursor: str | None = None,
    ) -> EventPage:
        """Return a page of events (`limit` is 1 to 250), or of those alone that the catalogue refused.

        `since` and `until` are instants of insertion: from, and strictly before. The tenant need not be registered. What became
        of an event is counted over all endpoints, for a tenant over its own. Raises InvalidInput.
        """
        if not 1 <= limit <= MOST_LISTED:
            raise InvalidInput(f"A limit is 1 to {MOST_LISTED}.", field="limit")
        place = TOP if cursor is None else _read(cursor)
        now = self._now() or datetime.fromtimestamp(self._clock.now(), UTC)
        wanted = _Wanted(
            tenant=tenant, event_type=event_type, refused=refused, since=since or DAWN, until=until or DUSK
        )
        async with self._reading() as connection:
            search = _Search(connection, wanted)
            reached = await search.run(place, now=now, limit=limit)
            own = None if tenant is None else await call_store.endpoints_of(connection, tenant, limit=LAST_ID)
            ids = None if own is None else [lane.endpoint_id for lane in own]
            events = await store.with_fates(connection, search.rows, endpoints=ids)
        if reached is None:
            return EventPage(events, None, None)
        return EventPage(events, cursors.written(_KIND, reached.at, str(reached.id)), reached.at)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """Which events are meant."""

    tenant: str | None
    event_type: str | None
    refused: bool
    since: datetime
    until: datetime


class _Search:
    """One page's search: back in time, window by window."""

    def __init__(self, connection: Any, wanted: _Wanted) -> None:
        self._connection = connection
        self._wanted = wanted
        self.rows: list[Any] = []

    async def run(self, place: Place, *, now: datetime, limit: int) -> Place | None:
        """Fill `rows`; return where it stopped, or null: there is no more."""
        since = self._wanted.since
        end = min(self._wanted.until, place.at + NARROWEST if place.at < DUSK else DUSK)
        length, examined = FIRST, 0
        while end > since:
            # a clock that went back may have left events of later than now: they are in the first window
            span = min(end, now) - since
            start = since if length > LONGEST or span <= length else min(end, now) - length
            haul = await self._window(start, end, place, limit=limit + 1 - len(self.rows))
            if haul is None:
                length = (min(end, now) - start) / 2
                continue
            self.rows += haul.rows
            examined += haul.walked
            if len(self.rows) > limit:
                del self.rows[limit:]
                return Place(self.rows[-1]["inserted_at"], self.rows[-1]["id"])
            if start > since and examined >= MOST_LOOKED_AT:
                return Place(start, UUID(int=0))
            end = start
            if haul.walked * GROWTH < WIDEST:
                length *= GROWTH
        return None

    async def _window(self, start: datetime, end: datetime, place: Place, *, limit: int) -> EventHaul | None:
        """Read a window; null: it holds too many."""
        narrow = end - start <= NARROWEST
        haul = await store.window(
            self._connection,
            since=start,
            until=end,
            behind=place,
            tenant=self._wanted.tenant,
            event_type=self._wanted.event_type,
            refused=self._wanted.refused,
            limit=limit,
            widest=LAST_ID if narrow else WIDEST,
        )
        return None if haul.walked == WIDEST and not narrow else haul


def _read(cursor: str) -> Place:
    at, event_id = cursors.read(cursor, _KIND, 2)
    try:
        return Place(cursors.instant(at), UUID(event_id))
    except (ValueError, TypeError, AttributeError):
        raise cursors.bad() from None
