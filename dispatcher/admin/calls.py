"""The log of all calls: deliveries of all endpoints, the newest first, filtered, page by page.

`Admin.calls(chosen: CallFilter, *, tenant=None, limit=50, cursor=None) -> CallPage(calls: tuple[Call, ...], next_cursor,
searched_to)`; `Call` is in store/calls.py. One call in detail is `Admin.delivery(id, tenant=…)`.

Each filter is answered by the narrowest index: an event's, an endpoint's, that of what was not delivered; for all endpoints
the primary key. What no index answers is sifted out on the way, up to a bound: a page may then be short, and its cursor
reads on. Pending and finished deliveries lie in two tables; two walks are merged.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dispatcher.admin import cursors
from dispatcher.admin.base import Base, shortened
from dispatcher.admin.inputs import DELIVERING
from dispatcher.admin.replays import BLOCKED
from dispatcher.admin.walks import WINDOW, Merge, Source
from dispatcher.errors import InvalidInput, NotFound
from dispatcher.model import DeliveryId, DeliveryState, EndpointId, EventId, UnreachableReason
from dispatcher.store import calls as store
from dispatcher.store.calls import Call, Haul, Place, Sieve
from dispatcher.store.history import DAWN, DUSK, LAST_ID, Lane

MOST_LISTED = 250
"""On one page: what a person can still look through."""

MOST_LANES = 200
"""Endpoints of a tenant that are walked one by one; of more the log of all is sifted."""

MOST_WALKED = 50_000
"""Deliveries looked at for one page where their own rows decide: some 30 ms."""

MOST_TRIED = 6000
"""The same where the last attempt decides, which has to be looked up for pending ones."""

MOST_LOOKED_UP = 4000
"""The same where the event has to be looked up for each."""

MARGIN = timedelta(seconds=10)
"""Ids and instants of creation agree so far: no transaction of ours stays open for longer (see store/pool.py)."""

_STATUS = re.compile(r"([1-5])([0-9]{2}|xx)")
UNRECORDABLE = "unrecordable"
"""The class of an answer that the database refused to store."""

_ERROR_CLASSES = (*UnreachableReason, BLOCKED, UNRECORDABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFilter:
    """Which deliveries of the log are asked for; null: no matter."""

    tenant: str | None = None
    """Whose endpoint it is; for operators."""
    webhook: EndpointId | None = None
    event_type: str | None = None
    """As it is written in the event; no pattern."""
    state: DeliveryState | None = None
    status: str | None = None
    """HTTP status of the last attempt, `503`, or a class of them, `5xx`."""
    error_class: str | None = None
    """What the last attempt failed with: an `UnreachableReason`, or `blocked`."""
    created_after: datetime | None = None
    """At or after it."""
    created_before: datetime | None = None
    """Strictly before it."""
    event: EventId | None = None


@dataclass(frozen=True, slots=True)
class CallPage:
    """A page of the log of all calls, the newest first."""

    calls: tuple[Call, ...]
    next_cursor: str | None
    """Hand it in, with the same filter, to read on; null at the end. A page can be short and have one."""
    searched_to: datetime | None
    """All that was created after this instant was searched; null where everything was."""


class CallsAdmin(Base):
    """Browse the log of all calls."""

    async def calls(
        self, chosen: CallFilter, *, tenant: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> CallPage:
        """Return a page of deliveries (`limit` is 1 to 250), the newest first: the latest created, or the highest id.

        Raises InvalidInput for a filter that cannot be meant, NotFound for a tenant or webhook that there is not.
        """
        if not 1 <= limit <= MOST_LISTED:
            raise InvalidInput(f"A limit is 1 to {MOST_LISTED}.", field="limit")
        statuses = statuses_of(chosen.status, chosen.error_class)
        async with self._reading() as connection:
            lanes = await self._lanes(connection, chosen.webhook, chosen.tenant, tenant)
            await store.prefer_order(connection)
            plan = await _plan(connection, chosen, statuses, lanes)
            return await _Search(connection, plan, cursor, limit=limit, now=self._now()).run()

    async def _lanes(
        self, connection: Any, webhook: EndpointId | None, asked: str | None, tenant: str | None
    ) -> list[Lane] | None:
        """Return the endpoints that a filter by webhook and tenant means, to who acts for `tenant`; null: all."""
        if tenant is not None and asked not in (None, tenant):
            raise NotFound(f"There is no tenant `{shortened(asked or '')}`.")
        owner = asked if tenant is None else tenant
        if webhook is not None:
            endpoint = await self._endpoint(connection, webhook, owner)
            return [Lane(endpoint.id, endpoint.shard)]
        if owner is None:
            return None
        await self._tenant(connection, owner)
        return await store.endpoints_of(connection, owner, limit=LAST_ID)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Which walks answer a question."""

    pending: str | None
    """Null: nothing pending can be meant."""
    finished: str | None
    sieve: Sieve
    by_creation: bool
    """Endpoint by endpoint, in the order of creation; else by id."""
    lanes: Sequence[Lane]
    event: EventId | None
    ids: tuple[int, int]
    """From and below, as far as instants bound them."""

    @property
    def kind(self) -> str:
        """Name the order: a cursor goes on in no other."""
        return "calls by creation" if self.by_creation else "calls by id"

    @property
    def most(self) -> int:
        """How many deliveries to look at."""
        if self.sieve.event_type is not None:
            return MOST_LOOKED_UP
        return MOST_TRIED if self.sieve.asks_for_attempt else MOST_WALKED

    def key(self, place: Place) -> tuple[Any, ...]:
        """Order places."""
        return tuple(place) if self.by_creation else (place.id,)

    def start(self, cursor: str | None) -> tuple[Place, Place]:
        """Return where the walks of pending and of finished ones begin."""
        if cursor is not None:
            at, delivery_id, finished_at, finished_id = cursors.read(cursor, self.kind, 4)
            return _place(at, delivery_id), _place(finished_at, finished_id)
        top = Place(DUSK, DeliveryId(self.ids[1]))
        if self.by_creation and self.sieve.created_before != DUSK:
            top = Place(self.sieve.created_before, DeliveryId(0))
        return top, top

    @property
    def widest(self) -> int:
        """How many to look at in one go, at most; that many of each endpoint, where these are walked."""
        return max(WINDOW, self.most // max(1, len(self.lanes))) if self.by_creation else self.most


async def _plan(
    connection: Any, chosen: CallFilter, statuses: tuple[int, int] | None, lanes: Sequence[Lane] | None
) -> _Plan:
    since, until = chosen.created_after or DAWN, chosen.created_before or DUSK
    by_lane = lanes is not None and len(lanes) <= MOST_LANES and chosen.event is None
    failed = _asks_for_failure(chosen, statuses)
    nothing = (
        (lanes is not None and not lanes) or since >= until or (failed and chosen.state is DeliveryState.DELIVERED)
    )
    return _Plan(
        # what was answered with a 2xx is not pending any more
        pending=None if nothing or (statuses and not failed) else _pending_walk(chosen, by_lane=by_lane),
        finished=None if nothing else _finished_walk(chosen, by_lane=by_lane, failed=failed),
        sieve=Sieve(
            state=chosen.state,
            statuses=statuses,
            error_class=chosen.error_class,
            event_type=chosen.event_type,
            endpoints=None if lanes is None or by_lane else tuple(lane.endpoint_id for lane in lanes),
            created_from=since,
            created_before=until,
        ),
        by_creation=by_lane,
        lanes=lanes or (),
        event=chosen.event,
        ids=(0, LAST_ID) if by_lane or chosen.event is not None else await _id_range(connection, since, until),
    )


def _pending_walk(chosen: CallFilter, *, by_lane: bool) -> str | None:
    if chosen.state not in (None, DeliveryState.PENDING):
        return None
    if chosen.event is not None:
        return "pending_of_event"
    return "pending_of_endpoints" if by_lane else "pending"


def _finished_walk(chosen: CallFilter, *, by_lane: bool, failed: bool) -> str | None:
    if chosen.state is DeliveryState.PENDING:
        return None
    if chosen.event is not None:
        return "finished_of_event"
    # few are not delivered as a rule, and they have an index of their own
    undelivered = failed or chosen.state in (DeliveryState.DEAD, DeliveryState.CANCELLED)
    name = "undelivered" if undelivered else "finished"
    return f"{name}_of_endpoints" if by_lane else name


async def _id_range(connection: Any, since: datetime, until: datetime) -> tuple[int, int]:
    """Turn instants of creation into ids, with a margin; what is too much is sifted out."""
    lowest: int = 0
    highest: int = LAST_ID
    if since > DAWN + MARGIN:
        lowest = await store.first_id_at(connection, since - MARGIN, finished_from=since - MARGIN) or lowest
    if until < DUSK - MARGIN:
        # what was finished before `since` was created before it, and is not asked for
        highest = await store.first_id_at(connection, until + MARGIN, finished_from=since) or highest
    return lowest, highest


class _Search:
    """One page's search."""

    def __init__(self, connection: Any, plan: _Plan, cursor: str | None, *, limit: int, now: datetime | None) -> None:
        self._connection = connection
        self._plan = plan
        self._limit = limit
        self._now = now
        pending, finished = plan.start(cursor)
        # one more than asked for tells whether there is a next page
        first = limit + 1 if plan.sieve.is_open else max(limit + 1, WINDOW)
        self._pending = Source(self._look_at_pending, pending, first, plan.widest)
        self._finished = Source(self._look_at_finished, finished, first, plan.widest)
        sources = [
            source
            for source, walk in ((self._pending, plan.pending), (self._finished, plan.finished))
            if walk is not None
        ]
        self._merge = Merge(sources, plan.key)

    async def run(self) -> CallPage:
        plan = self._plan
        rows = await self._merge.run(self._limit, most=plan.most)
        calls = await store.shown(self._connection, rows)
        reached = self._merge.reached
        if reached is None:
            return CallPage(calls, None, None)
        # what was pending on this page may have ended by the next one: it is not to be shown there again
        finished = min([self._finished.place, *(row.place for row in rows)], key=plan.key)
        return CallPage(calls, cursors.written(plan.kind, *self._pending.place, *finished), reached.at)

    async def _look_at_pending(self, behind: Place, size: int, limit: int) -> Haul:
        plan = self._plan
        assert plan.pending is not None
        arguments: list[Any]
        if plan.by_creation:
            ids, shards = [one.endpoint_id for one in plan.lanes], [one.shard for one in plan.lanes]
            arguments = [behind.at, behind.id, plan.sieve.created_from, size, ids, shards, self._now]
        else:
            arguments = [behind.id, plan.ids[0], size, *self._event]
        return await store.sift(self._connection, plan.pending, plan.sieve, *arguments, limit=limit)

    async def _look_at_finished(self, behind: Place, size: int, limit: int) -> Haul:
        plan = self._plan
        assert plan.finished is not None
        arguments: list[Any]
        if plan.by_creation:
            ids = [one.endpoint_id for one in plan.lanes]
            arguments = [behind.at, behind.id, plan.sieve.created_from, size, ids]
        else:
            arguments = [behind.id, plan.ids[0], plan.sieve.created_from, size, *self._event]
        return await store.sift(self._connection, plan.finished, plan.sieve, *arguments, limit=limit)

    @property
    def _event(self) -> list[EventId]:
        return [] if self._plan.event is None else [self._plan.event]


def statuses_of(status: str | None, error_class: str | None) -> tuple[int, int] | None:
    """Check the filters that are texts; return the statuses, from and to. Raises InvalidInput."""
    if error_class is not None and error_class not in _ERROR_CLASSES:
        raise InvalidInput(
            f"`{shortened(error_class)}` is no class of errors. There are: {', '.join(_ERROR_CLASSES)}.",
            field="error_class",
        )
    if status is None:
        return None
    found = _STATUS.fullmatch(status.lower())
    if found is None:
        raise InvalidInput(
            f"`{shortened(status)}` is no status. Write one as `503`, or a class of them as `5xx`.", field="status"
        )
    if found[2] == "xx":
        return int(found[1]) * 100, int(found[1]) * 100 + 99
    return int(found[0]), int(found[0])


def _asks_for_failure(chosen: CallFilter, statuses: tuple[int, int] | None) -> bool:
    """Whether nothing delivered can be meant: a delivery is delivered by a 2xx, and without an error."""
    return chosen.error_class is not None or (statuses is not None and statuses[0] not in DELIVERING)


def _place(at: Any, delivery_id: Any) -> Place:
    return Place(cursors.instant(at), DeliveryId(cursors.number(delivery_id, most=LAST_ID)))
