"""The log of one webhook: its deliveries with what their last attempt came to, filtered, page by page.

Filters that no index answers (event type, last status, last error) are applied to what an ordered walk finds, a window at a
time and up to a bound: a page may then be short, and its cursor reads on.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from dispatcher.admin.bodies import with_bodies
from dispatcher.admin.deliveries import DeliveriesAdmin
from dispatcher.admin.inputs import LogFilter
from dispatcher.admin.results import LoggedDelivery, LogPage
from dispatcher.errors import InvalidInput
from dispatcher.model import DeliveryId, EndpointId, Shard
from dispatcher.store import history
from dispatcher.store import log as store
from dispatcher.store.history import DAWN, DUSK, AttemptRow
from dispatcher.store.log import Entry, LastAttempt, Mark, Walk

MOST_LOGGED = 250
"""On one page: each comes with its event's payload."""

MOST_SKIPPED = 10_000
"""By an offset, which has to read all that it passes over; a cursor does not."""

WINDOW = 500
"""Deliveries that are looked at in one go for a filter without an index: some milliseconds."""

MOST_EXAMINED = 20_000
"""Deliveries that are looked at for one page: some tenths of a second."""

BAD_CURSOR = "The cursor is not one of this list. Take it from the page before, or leave it out to begin."


class LogAdmin(DeliveriesAdmin):
    """Browse the log."""

    async def log(
        self,
        webhook_id: EndpointId,
        chosen: LogFilter,
        *,
        tenant: str | None = None,
        limit: int = 10,
        offset: int = 0,
        cursor: str | None = None,
    ) -> LogPage:
        """Return a page of a webhook's deliveries: `limit` of them (1 to 250), behind `offset` others or behind a cursor."""
        if not 1 <= limit <= MOST_LOGGED:
            raise InvalidInput(f"A limit is 1 to {MOST_LOGGED}.", field="limit")
        if not 0 <= offset <= MOST_SKIPPED:
            raise InvalidInput(f"An offset is 0 to {MOST_SKIPPED}. Read on with `cursor`.", field="offset")
        after = _read(cursor, chosen)
        async with self._reading() as connection:
            endpoint = await self._endpoint(connection, webhook_id, tenant)
            walk = replace(_walk(endpoint.id, endpoint.shard, chosen), now=self._now())
            search = _Search(connection, walk, chosen)
            found = await search.run(after, limit=limit, offset=offset)
            page = found.entries
            last = await store.last_attempts(connection, page)
            payloads = await store.payloads(connection, page)
        return LogPage(
            tuple(_logged(entry, last.get(entry.id), payloads.get(entry.event_id)) for entry in page),
            None if found.read_on is None else _written(found.read_on, chosen),
        )

    async def logged(self, delivery_id: DeliveryId, *, tenant: str | None = None) -> LoggedDelivery:
        """Return one delivery of the log, with all its attempts."""
        async with self._reading() as connection:
            delivery = await self._delivery(connection, delivery_id, tenant)
            mark = Mark(delivery.created_at, delivery.id, delivery.finished_at)
            (entry,) = await store.entries(connection, delivery.shard, [mark])
            payloads = await store.payloads(connection, [entry])
            event = await history.event(connection, delivery.event_id)
            attempts = await with_bodies(connection, await history.attempts(connection, [delivery.id]), event)
        return _logged(entry, _last(attempts), payloads.get(entry.event_id), attempts=attempts)


@dataclass(frozen=True, slots=True)
class _Found:
    """What a search found."""

    entries: Sequence[Entry]
    read_on: Mark | None
    """Behind it there may be more; null: there is no more."""


class _Search:
    """One search in the log."""

    def __init__(self, connection: Any, walk: Walk, chosen: LogFilter) -> None:
        self._connection = connection
        self._walk = walk
        self._chosen = chosen

    async def run(self, after: Mark | None, *, limit: int, offset: int) -> _Found:
        if self._chosen.asks_for_failure and self._chosen.is_delivered:
            return _Found([], None)
        if self._chosen.is_walk_only:
            marks = await self._marks(after, offset + limit + 1)
            page = marks[offset : offset + limit]
            more = len(marks) > offset + limit
            return _Found(await self._entries(page), page[-1] if more else None)
        return await self._sift(after, limit=limit, offset=offset)

    async def _sift(self, after: Mark | None, *, limit: int, offset: int) -> _Found:
        """Look at one window after the other until there are enough."""
        found: list[Mark] = []
        place, examined = after, 0
        while True:
            marks = await self._marks(place, WINDOW)
            found += await self._matching(marks)
            examined += len(marks)
            page = found[offset : offset + limit]
            if len(found) > offset + limit:
                return _Found(await self._entries(page), page[-1])
            place = marks[-1] if marks else place
            if len(marks) < WINDOW or examined >= MOST_EXAMINED:
                return _Found(await self._entries(page), place if len(marks) == WINDOW else None)

    async def _matching(self, marks: Sequence[Mark]) -> list[Mark]:
        return await store.sift(
            self._connection,
            self._walk.shard,
            marks,
            event_type=self._chosen.event_type,
            status=self._chosen.last_status,
            error=self._chosen.last_error,
        )

    async def _marks(self, after: Mark | None, limit: int) -> list[Mark]:
        return await store.marks(self._connection, self._walk, after=after, limit=limit)

    async def _entries(self, marks: Sequence[Mark]) -> list[Entry]:
        return await store.entries(self._connection, self._walk.shard, marks)


def _walk(endpoint_id: EndpointId, shard: Shard, chosen: LogFilter) -> Walk:
    return Walk(
        endpoint_id=endpoint_id,
        shard=shard,
        created_from=chosen.created_after or DAWN,
        created_before=chosen.created_before or DUSK,
        delivered_from=chosen.delivered_after or DAWN,
        delivered_before=chosen.delivered_before or DUSK,
        # few are not delivered as a rule, and they have an index of their own
        delivered=False if chosen.asks_for_failure else chosen.is_delivered,
        by_delivery=chosen.by_delivery,
        ascending=chosen.ascending,
    )


def _logged(
    entry: Entry, last: LastAttempt | None, payload: str | None, *, attempts: tuple[AttemptRow, ...] = ()
) -> LoggedDelivery:
    return LoggedDelivery(
        entry=entry,
        payload=payload,
        last_attempt_at=None if last is None else last.started_at,
        last_status=entry.status if last is None else last.status,
        last_error=entry.error if last is None else last.error,
        attempts=attempts,
    )


def _last(attempts: Sequence[AttemptRow]) -> LastAttempt | None:
    return LastAttempt(attempts[-1].started_at, attempts[-1].status, attempts[-1].error) if attempts else None


def _order(chosen: LogFilter) -> list[bool]:
    return [chosen.by_delivery, chosen.ascending]


def _written(mark: Mark, chosen: LogFilter) -> str:
    """Write a cursor: it goes on in the order in which it was made, and in no other."""
    return base64.urlsafe_b64encode(orjson.dumps([*_order(chosen), mark.at.isoformat(), mark.id])).decode().rstrip("=")


def _read(cursor: str | None, chosen: LogFilter) -> Mark | None:
    if cursor is None:
        return None
    try:
        *order, instant, delivery_id = orjson.loads(base64.urlsafe_b64decode(cursor.encode("ascii") + b"=="))
        mark = Mark(datetime.fromisoformat(instant).astimezone(UTC), DeliveryId(int(delivery_id)))
    except (ValueError, TypeError, OverflowError):
        raise InvalidInput(BAD_CURSOR, field="cursor") from None
    if order != _order(chosen) or not 0 < mark.id <= history.LAST_ID:
        raise InvalidInput(f"{BAD_CURSOR} It goes on in the order in which it was made.", field="cursor")
    return mark
