"""Lists over all endpoints are read by index with a million deliveries and attempts: proven by EXPLAIN."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from dispatcher.admin import Admin, CallFilter
from dispatcher.embedded import EmbeddedPostgres
from dispatcher.model import DeliveryState
from dispatcher.store import calls, events, mails, tail
from dispatcher.store.history import DAWN, DUSK, LAST_ID
from support import million, postgres
from support.admin import open_admin
from support.plans import rows_touched

LIMIT = 51

pytestmark = pytest.mark.xdist_group("million")  # made once, in one process


@pytest.fixture(scope="module")
def filled(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a database with a million of each."""

    async def fill(url: str) -> None:
        connection = await asyncpg.connect(url)
        await million.fill(connection)
        await connection.close()

    with postgres.shared_clone(postgres_server) as url:
        asyncio.run(fill(url))
        yield url


@dataclass(frozen=True, slots=True)
class Grown:
    """A connection to it."""

    connection: Any

    async def touched(self, statement: str, *arguments: Any) -> float:
        """How many rows a statement read; no table that holds any was read from end to end."""
        count, sequential = await rows_touched(self.connection, statement, *arguments)
        large = await self.connection.fetch("select relname from pg_class where reltuples > 10000")
        assert not sequential & {row["relname"] for row in large}
        return count

    async def sifted(self, walk: str, *arguments: Any, event_type: str | None = None) -> float:
        """The same of a walk, for a page without filters, or with one that nothing passes."""
        filters = (None, None, None, None, event_type, None, DAWN, DUSK, LIMIT)
        async with self.connection.transaction():
            await calls.prefer_order(self.connection)
            return await self.touched(calls.STATEMENTS[walk], *filters, *arguments)

    async def endpoints(self, tenant: str) -> list[UUID]:
        """The endpoints of a tenant."""
        rows = await self.connection.fetch("select id from dispatcher.endpoints where tenant = $1", tenant)
        return [row["id"] for row in rows]


@pytest.fixture(params=["fitting plans", "generic plans"])
async def grown(filled: str, request: pytest.FixtureRequest) -> AsyncIterator[Grown]:
    """Both ways in which a statement can be planned."""
    connection = await asyncpg.connect(filled, server_settings={"jit": "off"})
    if request.param == "generic plans":
        await connection.execute("set plan_cache_mode = force_generic_plan")
    yield Grown(connection)
    await connection.close()


STRETCH = 128 * 8192 // 80
"""Rows at most in the stretch of pages that one note of instants is for."""

PARTITIONS = 12
"""Each day's may offer its first row before the page is merged from them."""


async def test_all_deliveries_are_walked_by_id(grown: Grown) -> None:
    """A page reads no more than it shows, wherever it begins."""
    for start in (LAST_ID, million.ROWS, million.ROWS // 2, 100):
        assert await grown.sifted("pending", start, 0, LIMIT) <= 2 * LIMIT
        assert await grown.sifted("finished", start, 0, DAWN, LIMIT) <= LIMIT + PARTITIONS
        assert await grown.sifted("undelivered", start, 0, DAWN, LIMIT) <= LIMIT + PARTITIONS


async def test_those_of_endpoints_are_walked_one_by_one(grown: Grown) -> None:
    """No more than a page of each, in a long queue, too."""
    busy, some = await grown.endpoints("busy"), (await grown.endpoints("wide"))[:10]
    shards = [await grown.connection.fetchval("select shard from dispatcher.endpoints where id = $1", busy[0])]

    pending = await grown.sifted("pending_of_endpoints", DUSK, LAST_ID, DAWN, LIMIT, busy, shards, None)
    finished = await grown.sifted("finished_of_endpoints", DUSK, LAST_ID, DAWN, LIMIT, some)
    undelivered = await grown.sifted("undelivered_of_endpoints", DUSK, LAST_ID, DAWN, LIMIT, busy)

    assert pending <= 4 * LIMIT
    assert finished <= 10 * (LIMIT + PARTITIONS)
    assert undelivered <= LIMIT + PARTITIONS


async def test_those_of_an_event_are_looked_up(grown: Grown) -> None:
    """By the event's index."""
    event_id = await grown.connection.fetchval(
        "select event_id from dispatcher.finished_deliveries where id = $1", million.RARE_ID
    )

    assert await grown.sifted("pending_of_event", LAST_ID, 0, LIMIT, event_id) <= LIMIT
    assert await grown.sifted("finished_of_event", LAST_ID, 0, DAWN, LIMIT, event_id) <= LIMIT


async def test_a_filter_looks_up_one_event_for_each_that_it_looks_at(grown: Grown) -> None:
    """And one attempt for each pending one."""
    size = 500

    by_type = await grown.sifted("finished", LAST_ID, 0, DAWN, size, event_type="none")
    by_status = await grown.touched(
        calls.STATEMENTS["pending"], None, 400, 499, None, None, None, DAWN, DUSK, LIMIT, LAST_ID, 0, size
    )

    assert by_type <= 3 * size + 2 * PARTITIONS
    assert by_status <= 3 * size


async def test_an_instant_is_found_by_halving(grown: Grown) -> None:
    """Some rows for each of twenty steps; and the one that is meant."""
    at = await grown.connection.fetchval(
        "select created_at from dispatcher.finished_deliveries where id = $1", million.ROWS // 3
    )

    assert await grown.touched(calls.SQL.first_id_at, at, DAWN) <= 25 * (2 * PARTITIONS + 2)
    assert await calls.first_id_at(grown.connection, at, finished_from=DAWN) == million.ROWS // 3


async def test_what_is_shown_beside_is_looked_up(grown: Grown) -> None:
    """Endpoint, event and attempt of each of a page."""
    haul = await calls.sift(grown.connection, "finished", calls.Sieve(), LAST_ID, 0, DAWN, LIMIT, limit=LIMIT)
    columns = ("id", "endpoint_id", "event_id", "event_at", "attempts", "created_at", "finished_at")
    arguments = [[getattr(row, column) for row in haul.rows] for column in columns]

    assert len(haul.rows) == LIMIT
    assert await grown.touched(calls.SQL.shown, *arguments) <= 5 * LIMIT + million.WIDE + 3


async def test_events_are_found_by_their_instant(grown: Grown) -> None:
    """A window of a minute reads some stretches of pages, not the day."""
    day = await grown.connection.fetchval("select date_trunc('day', now(), 'UTC') - interval '2 days 1 hour'")
    window = (day, day + timedelta(minutes=1), *events.TOP, None, None, LIMIT, 10_000)

    rows = await grown.touched(events.SQL.window, *window)
    listed = await grown.connection.fetch(events.SQL.window, *window)
    fates = await grown.touched(
        events.SQL.fates, [row["id"] for row in listed], [row["inserted_at"] for row in listed], None, 1000
    )

    assert rows <= 2 * STRETCH + 2 * LIMIT
    assert len(listed) == LIMIT
    assert fates <= 3 * LIMIT


async def test_the_tail_reads_the_last_stretch_alone(grown: Grown) -> None:
    """Over all endpoints by instant, for one by its index."""
    behind = (await tail.mark(grown.connection, now=None)).snapshot
    since = (await tail.mark(grown.connection, now=None)).at - timedelta(minutes=1)
    filters = (behind, since, None, None, None, None, None, 100, 100)
    lonely = await grown.endpoints("lonely")

    everywhere = await grown.touched(tail.STATEMENTS["everywhere"], *filters)
    alone = await grown.touched(tail.STATEMENTS["of_endpoints"], *filters, lonely)
    yesterday = await grown.connection.fetchval("select date_trunc('day', now(), 'UTC') - interval '1 minute'")
    further = await grown.touched(tail.STATEMENTS["everywhere"], None, yesterday, *filters[2:])

    # a stretch is 128 pages
    assert everywhere <= 2 * million.FRESH
    assert further <= 2 * million.FRESH + 2 * STRETCH
    assert alone <= million.FRESH + 10


async def test_mails_are_walked_by_age(grown: Grown) -> None:
    """Of all, and of some endpoints kind by kind."""
    some = (await grown.endpoints("wide"))[:10]

    every = await grown.touched(mails.STATEMENTS["all"], None, None, LIMIT, *mails.TOP, LIMIT)
    few = await grown.touched(
        mails.STATEMENTS["of_endpoints"],
        None,
        None,
        LIMIT,
        *mails.TOP,
        LIMIT,
        some,
        ["deliveries_dead", "endpoint_failing"],
    )

    assert every <= 2 * LIMIT + million.WIDE + 3 + 200
    assert few <= 11 * LIMIT + million.WIDE + 3


@pytest.fixture
async def admin(filled: str) -> AsyncIterator[Admin]:
    """An `Admin` on it."""
    async with open_admin(filled) as admin:
        yield admin


async def test_a_million_is_searched_from_both_sides_of_an_instant(admin: Admin) -> None:
    """What was created from one instant on and before another, in the middle of it all."""
    (middle,) = (await admin.calls(CallFilter(event_type="rare", tenant="lonely"))).calls
    minute = timedelta(minutes=1)

    page = await admin.calls(
        CallFilter(created_after=middle.created_at - minute, created_before=middle.created_at + minute), limit=250
    )
    dead = await admin.calls(CallFilter(state=DeliveryState.DEAD), limit=250)
    wide = await admin.calls(CallFilter(tenant="wide"))

    assert middle.id == million.RARE_ID
    assert middle in page.calls
    assert all(abs(call.created_at - middle.created_at) <= minute for call in page.calls)
    assert [call.id for call in dead.calls] == [million.ROWS - million.DEAD + 1 - million.DEAD * n for n in range(250)]
    assert {call.tenant for call in wide.calls} == {"wide"}
    assert len(wide.calls) == 50
