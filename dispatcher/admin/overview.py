"""How things stand and have gone: the service or a tenant's part of it, endpoints at a glance, the system.

What pages are made from; every name below is of `dispatcher.admin`, and `figures` says what each field is.

    overview(since=, until=, tenant=None) -> Overview
        .now       Now: due, oldest_due_seconds, in_flight, endpoints, failing, disabled, paused, mails_waiting, …
        .series    Series: step, times and, one value a step (null: a gap), delivered and failed[class] a second, deaths,
                   cancelled, p50, p95, p99 (milliseconds), due, oldest_due, in_flight
        .totals    Totals: attempts, success, delivered, failed[class], deaths, cancelled, p50, p95, p99 of the whole range
    endpoint_page(search=None, state=None, failing=None, tenant=None, limit=50, cursor=None) -> EndpointPage
        .endpoints EndpointGlance: endpoint (an EndpointRow with health), ok, failed and deaths by the hour, pending,
                   next_attempt_at, is_failing
        .hours     when each of the 24 hours begins;  .next_cursor
    endpoint_glance(webhook_id, tenant=None) -> EndpointGlance of one
    endpoint_series(webhook_id, since=, until=, tenant=None) -> EndpointSeries
        .step, .times, .delivered, .failed[class], .deaths (counts in each step), .totals
    system() -> System
        .workers   WorkerRow …;  .shards  ShardRow, 256;  .tables  TableRow with its PartitionRow …;  .migrations
        .server_version, .database, .database_bytes, .database_now

Classes of failure are `FAILURES`: 3xx, 4xx, 5xx, unreachable, blocked. Instants are aware; a plot's are unix seconds. The
step grows with the range: an hour comes in minutes, a day in quarters of an hour, a week in hours, a month in quarters of a
day; a tenant's and an endpoint's are quarters of an hour at least. Numbers are about five seconds behind.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from dispatcher.admin.base import Base, shortened
from dispatcher.admin.figures import (
    EndpointGlance,
    EndpointPage,
    EndpointSeries,
    Now,
    Overview,
    System,
)
from dispatcher.admin.series import MINUTE, QUARTER, Span, endpoint_series_of, series_of, span_of, totals_of
from dispatcher.errors import InvalidInput
from dispatcher.model import EndpointId, EndpointState
from dispatcher.store import endpoints as endpoint_store
from dispatcher.store import figures as store
from dispatcher.store import inventory
from dispatcher.store.endpoints import EndpointRow
from dispatcher.store.figures import EndpointSearch, Hour, Waiting
from dispatcher.store.history import Lane

MOST_DUE = 10_000
"""Due deliveries of a tenant that are counted: some milliseconds."""

MOST_MAILS = 10_000
"""Waiting mails that are counted."""

MOST_PENDING = 1000
"""Pending deliveries that are counted of each endpoint on a page."""

MOST_LISTED = 250
"""Endpoints on one page."""

MOST_EXAMINED = 20_000
"""Endpoints that are looked at for one page of a search: some hundredths of a second."""

LONGEST = timedelta(days=366)
"""A range; more is not kept."""

HOURS = 24
"""In an endpoint's glance."""

ARCHIVED = "archived"
"""What the state of an archived endpoint is called when it is asked for."""


class OverviewAdmin(Base):
    """See how things stand and have gone."""

    async def overview(self, *, since: datetime, until: datetime, tenant: str | None = None) -> Overview:
        """Return how the service, or a tenant's part of it, stands now and has gone from `since` to `until`."""
        async with self._reading() as connection:
            now = await store.now(connection, self._now())
            if tenant is not None:
                await self._tenant(connection, tenant)
            span = _span(since, until, now=now, finest=MINUTE if tenant is None else QUARTER)
            return Overview(
                await self._stand(connection, now, tenant),
                *await self._past(connection, span, tenant),
            )

    async def _stand(self, connection: Any, now: datetime, tenant: str | None) -> Now:
        counts = await store.endpoint_counts(connection, tenant=tenant)
        if tenant is not None:
            due = await store.due(connection, tenant, most=MOST_DUE, now=self._now())
            return Now(
                at=now,
                endpoints=counts.endpoints,
                failing=counts.failing,
                disabled=counts.disabled,
                paused=counts.paused,
                due=due.count,
                oldest_due_seconds=due.seconds,
                in_flight=None,
                workers=None,
                mails_waiting=None,
                oldest_mail_seconds=None,
            )
        work = await store.work(connection)
        mails = await store.mails(connection, most=MOST_MAILS, now=self._now())
        return Now(
            at=now,
            endpoints=counts.endpoints,
            failing=counts.failing,
            disabled=counts.disabled,
            paused=counts.paused,
            due=work.due,
            oldest_due_seconds=work.oldest_due_seconds,
            in_flight=work.in_flight,
            workers=work.workers,
            mails_waiting=mails.count,
            oldest_mail_seconds=mails.seconds,
        )

    async def _past(self, connection: Any, span: Span, tenant: str | None) -> tuple[Any, Any]:
        since, until = _instant(span.times[0]), _instant(span.until)
        if tenant is None:
            steps = await store.service_series(
                connection, resolution=span.resolution, since=since, until=until, step=span.step
            )
        else:
            steps = await store.tenant_series(connection, tenant, since=since, until=until, step=span.step)
        return series_of(steps, span), totals_of(steps, whole=tenant is None)

    async def endpoint_series(
        self, webhook_id: EndpointId, *, since: datetime, until: datetime, tenant: str | None = None
    ) -> EndpointSeries:
        """Return what came of a webhook's deliveries from `since` to `until`."""
        async with self._reading() as connection:
            await self._endpoint(connection, webhook_id, tenant)
            span = _span(since, until, now=await store.now(connection, self._now()), finest=QUARTER)
            steps = await store.endpoint_series(
                connection, webhook_id, since=_instant(span.times[0]), until=_instant(span.until), step=span.step
            )
        return endpoint_series_of(steps, span)

    async def endpoint_page(
        self,
        *,
        search: str | None = None,
        state: str | None = None,
        failing: bool | None = None,
        tenant: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> EndpointPage:
        """Return a page of endpoints, the newest first, each with its last 24 hours.

        `search`: a part of URL, tenant or description, or the start of an id; `state`: `active`, `paused`, `disabled` or
        `archived`, and without it all but archived ones.
        """
        if not 1 <= limit <= MOST_LISTED:
            raise InvalidInput(f"A limit is 1 to {MOST_LISTED}.", field="limit")
        wanted = EndpointSearch(tenant=tenant, state=_state(state), failing=failing, text=_text(search))
        behind = _behind(cursor)
        async with self._reading() as connection:
            if tenant is not None:
                await self._tenant(connection, tenant)
            bound = await store.place(connection, behind=behind, tenant=tenant, count=MOST_EXAMINED - 1)
            lanes = await store.find(connection, wanted, behind=behind, down_to=bound or store.FIRST, limit=limit + 1)
            page = lanes[:limit]
            read_on = page[-1].endpoint_id if len(lanes) > limit else bound
            now = await store.now(connection, self._now())
            hours = _hours(now)
            ids = [lane.endpoint_id for lane in page]
            rows = {row.id: row for row in await endpoint_store.several(connection, ids)}
            waiting = await store.waiting(connection, page, most=MOST_PENDING)
            counted = await store.hours(connection, ids, since=_instant(hours[0]), until=now)
        found = {(hour.endpoint_id, hour.start): hour for hour in counted}
        return EndpointPage(
            tuple(_glance(rows[id_], [found.get((id_, start)) for start in hours], waiting[id_]) for id_ in ids),
            hours,
            None if read_on is None else str(read_on),
        )

    async def endpoint_glance(self, webhook_id: EndpointId, *, tenant: str | None = None) -> EndpointGlance:
        """Return a webhook, archived or not, with its last 24 hours."""
        async with self._reading() as connection:
            endpoint = await self._endpoint(connection, webhook_id, tenant)
            lane = Lane(endpoint.id, endpoint.shard)
            waiting = await store.waiting(connection, [lane], most=MOST_PENDING)
            now = await store.now(connection, self._now())
            hours = _hours(now)
            counted = await store.hours(connection, [endpoint.id], since=_instant(hours[0]), until=now)
        found = {hour.start: hour for hour in counted}
        return _glance(endpoint, [found.get(start) for start in hours], waiting[endpoint.id])

    async def system(self) -> System:
        """Return workers, shards, tables and the server, for operators."""
        async with self._reading() as connection:
            server = await inventory.server(connection)
            return System(
                workers=await inventory.workers(connection),
                shards=await inventory.shards(connection),
                tables=await inventory.tables(connection),
                migrations=await inventory.migrations(connection),
                server_version=server.version,
                database=server.database,
                database_bytes=server.bytes,
                database_now=server.now,
            )


def _span(since: datetime, until: datetime, *, now: datetime, finest: int) -> Span:
    if since >= until:
        raise InvalidInput("`since` must lie before `until`.", field="since")
    if since >= now:
        raise InvalidInput("`since` lies ahead. Nothing is known of that yet.", field="since")
    if until - since > LONGEST:
        raise InvalidInput(f"A range is {LONGEST.days} days at most.", field="since")
    return span_of(since.timestamp(), until.timestamp(), now=now.timestamp(), finest=finest)


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _hours(now: datetime) -> tuple[int, ...]:
    """When the last hours began, the running one last."""
    this = int(now.timestamp()) // 3600 * 3600
    return tuple(range(this - (HOURS - 1) * 3600, this + 1, 3600))


def _state(state: str | None) -> str | None:
    known = (*EndpointState, ARCHIVED)
    if state is not None and state not in known:
        raise InvalidInput(f"`{shortened(state)}` is no state. There are {', '.join(known)}.", field="state")
    return state


def _text(search: str | None) -> str | None:
    if search is not None and "\0" in search:  # the database takes none, and no text holds one
        raise InvalidInput("A search holds no NUL.", field="search")
    return (search or "").strip().lower() or None


def _behind(cursor: str | None) -> EndpointId:
    if cursor is None:
        return store.LAST
    try:
        return EndpointId(UUID(cursor))
    except ValueError:
        raise InvalidInput(
            "The cursor is not one of this list. Take it from the page before, or leave it out to begin.",
            field="cursor",
        ) from None


def _glance(endpoint: EndpointRow, hours: list[Hour | None], waiting: Waiting) -> EndpointGlance:
    next_attempt_at = waiting.first_due_at
    if endpoint.state is not EndpointState.ACTIVE or endpoint.archived_at is not None:
        next_attempt_at = None
    elif next_attempt_at is not None and endpoint.health.cool_until is not None:
        next_attempt_at = max(next_attempt_at, endpoint.health.cool_until)
    return EndpointGlance(
        endpoint=endpoint,
        ok=tuple(0 if hour is None else hour.ok for hour in hours),
        failed=tuple(0 if hour is None else hour.failed for hour in hours),
        deaths=tuple(0 if hour is None else hour.dead for hour in hours),
        pending=waiting.pending,
        next_attempt_at=next_attempt_at,
    )
