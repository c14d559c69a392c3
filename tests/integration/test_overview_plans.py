"""What the overview is made of is read by index, however much there is: proven by EXPLAIN on a grown database."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from dispatcher.store import figures as store
from support.plans import rows_touched
from support.world import make_tenant

ENDPOINTS = 2000
"""Half of them one tenant's."""

QUARTERS = 60
"""Of each endpoint: some 15 hours, over two days' partitions; enough for a scan to be the dearer plan by far."""

PENDING = 50_000
"""Of one endpoint."""

PAGE = 50

LARGE = 10 * ENDPOINTS
"""Rows of a table: a day has fewer in its first two hours, and may as well be read whole."""


@dataclass(frozen=True, slots=True)
class Grown:
    """A database with many endpoints, and how much is read of it."""

    connection: Any
    newest: list[UUID]
    """Endpoints, as a page shows them; the first has all that is pending."""
    now: datetime

    async def touched(self, statement: str, *arguments: Any) -> float:
        """How many rows a statement read; no large table was read from end to end.

        The service's own counters are not large: what is kept of them comes to some ten thousand rows.
        """
        count, sequential = await rows_touched(self.connection, statement, *arguments)
        large = await self.connection.fetch(
            "select relname from pg_class where reltuples > $1 and relname <> 'service_statistics'", float(LARGE)
        )
        assert not sequential & {row["relname"] for row in large}
        return count

    def back(self, **length: float) -> datetime:
        """An instant so long ago."""
        return self.now - timedelta(**length)


@pytest.fixture(params=["analysed", "generic plans"])
async def grown(database: str, request: pytest.FixtureRequest) -> AsyncIterator[Grown]:
    """Counters of a month, and one endpoint with a long queue."""
    connection = await asyncpg.connect(database)
    await make_tenant(connection, "acme")
    await make_tenant(connection, "other")
    await connection.execute(
        "select dispatcher.create_partitions(parent, current_date - 2, 3) "
        "from unnest(array['endpoint_statistics', 'tenant_statistics']) as parent"
    )
    for statement in BUILD:
        await connection.execute(statement)
    newest = await connection.fetch("select id from dispatcher.endpoints order by id desc limit $1", PAGE)
    await connection.execute(QUEUE, newest[0]["id"], PENDING)
    await connection.execute("analyze")
    if request.param == "generic plans":
        await connection.execute("set plan_cache_mode = force_generic_plan")
    yield Grown(connection, [row["id"] for row in newest], datetime.now(UTC))
    await connection.close()


BUILD = (
    f"""
    insert into dispatcher.endpoints (tenant, shard, url)
    select tenant.name, tenant.shard, 'https://example.com/' || n
    from generate_series(1, {ENDPOINTS} / 2) as n
    cross join dispatcher.tenants as tenant
    """,
    """
    insert into dispatcher.service_statistics
    select
      step.resolution,
      date_bin(make_interval(secs => step.resolution), now(), 'epoch') - make_interval(secs => n * step.resolution),
      1, 1, 1, 1, 1, 1, 1, 1, 0, array_fill(1, array[28]), 1, 1, 1
    from (values (60, 2880), (900, 8640)) as step (resolution, count)
    cross join lateral generate_series(0, step.count) as n
    """,
    f"""
    insert into dispatcher.endpoint_statistics
    select endpoints.id, date_bin('15 minutes', now(), 'epoch') - n * interval '15 minutes', 1, 1, 1, 1, 1, 1, 1
    from dispatcher.endpoints
    cross join generate_series(0, {QUARTERS - 1}) as n
    """,
    """
    insert into dispatcher.tenant_statistics
    select endpoints.tenant, counted.start_at, count(*), 1, 1, 1, 1, 1, 1
    from dispatcher.endpoint_statistics as counted
    join dispatcher.endpoints on endpoints.id = counted.endpoint_id
    group by 1, 2
    """,
)

QUEUE = """
insert into dispatcher.deliveries (endpoint_id, event_id, event_at, created_at, due_at, shard)
select endpoints.id, gen_random_uuid(), now(), now(), now() - make_interval(secs => n), endpoints.shard
from dispatcher.endpoints
cross join generate_series(1, $2::integer) as n
where endpoints.id = $1
"""


async def test_a_series_reads_its_range_and_no_more(grown: Grown) -> None:
    """A row for each minute or quarter of an hour."""
    hour = await grown.touched(store.SQL.service_series, 60, grown.back(hours=1), grown.now, 60.0)
    month = await grown.touched(store.SQL.service_series, 900, grown.back(days=30), grown.now, 21600.0)
    tenant = await grown.touched(store.SQL.tenant_series, "acme", grown.back(days=1), grown.now, 900.0)
    endpoint = await grown.touched(store.SQL.endpoint_series, grown.newest[0], grown.back(days=1), grown.now, 900.0)

    assert hour <= 61
    assert month <= 2881 + 8641
    assert endpoint <= 97 + QUARTERS
    assert tenant <= 97 + 2 * QUARTERS  # two tenants' rows fit on a page or two


async def test_a_page_of_endpoints_reads_what_it_shows(grown: Grown) -> None:
    """A day of each, and no more of its queue than is counted."""
    shards = await grown.connection.fetch(
        "select shard from dispatcher.endpoints where id = any ($1) order by id desc", grown.newest
    )
    lanes = grown.newest, [row["shard"] for row in shards]

    hours = await grown.touched(store.SQL.hours, grown.newest, grown.back(hours=24), grown.now)
    waiting = await grown.touched(store.SQL.waiting, *lanes, 1000)

    assert hours <= LARGE
    assert waiting <= 1000 + 1


async def test_a_search_looks_at_no_more_than_its_bound(grown: Grown) -> None:
    """The whole of its bound if it finds nothing, and no more than a page where all match."""
    (place,) = await grown.connection.fetch(store.SQL.place, store.LAST, None, 500)
    nothing = await grown.touched(store.SQL.find, store.LAST, place["id"], None, None, None, "nothing", PAGE)
    everything = await grown.touched(store.SQL.find, store.LAST, place["id"], None, None, None, "example", PAGE)
    skipped = await grown.touched(store.SQL.place, store.LAST, None, 500)

    assert max(nothing, skipped) <= 501
    assert everything <= PAGE


async def test_a_tenants_backlog_is_counted_up_to_a_bound(grown: Grown) -> None:
    """Each of its endpoints is looked at, none of its queues read to its end."""
    touched = await grown.touched(store.SQL.due, "acme", 1000, None)

    assert touched <= 1000 + 2 * ENDPOINTS
