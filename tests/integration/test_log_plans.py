"""A webhook's log is read by index however long it is: proven by EXPLAIN on a grown history."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from dispatcher.admin import LogFilter
from dispatcher.model import DeliveryId, EndpointId, Shard
from dispatcher.store import history
from dispatcher.store import log as store
from dispatcher.store.history import DAWN, DUSK, LAST_ID
from dispatcher.store.log import Mark, Walk
from support.admin import open_admin
from support.plans import rows_touched
from support.world import make_endpoint

ROWS = 40_000
"""Of one endpoint's finished deliveries, over five days; enough for a walk from end to end to be the dearer plan by far."""

PENDING = 20_000
"""Of that endpoint's pending deliveries, created over five days as well, the history's between them."""

DAYS = 5

FEW = 1000
"""Rows of a table that may as well be read whole: the first and the last day have few, depending on the hour."""

LIMIT = 11


@dataclass(frozen=True, slots=True)
class Grown:
    """A database with one long log, and a short one beside it."""

    connection: Any
    long: Walk
    now: datetime

    async def touched(self, statement: str, *arguments: Any) -> float:
        """How many rows a statement read; no table that holds more than some was read from end to end."""
        count, sequential = await rows_touched(self.connection, statement, *arguments)
        filled = await self.connection.fetch("select relname from pg_class where reltuples > $1", FEW)
        assert not sequential & {row["relname"] for row in filled}
        return count


@pytest.fixture(params=["analysed", "generic plans"])
async def grown(database: str, request: pytest.FixtureRequest) -> AsyncIterator[Grown]:
    """One in a thousand is dead; every delivery has an attempt and its event."""
    connection = await asyncpg.connect(database)
    await connection.execute(
        "select dispatcher.create_partitions(parent, current_date - 6, 6) "
        "from unnest(array['outbox', 'finished_deliveries', 'attempts']) as parent"
    )
    await connection.execute("alter table dispatcher.outbox disable trigger user")
    long = await make_endpoint(connection, "https://long.example/")
    for endpoint_id, rows in ((long, ROWS), (await make_endpoint(connection, "https://short.example/"), 500)):
        await connection.execute(HISTORY, endpoint_id, rows, DAYS)
    await connection.execute("alter table dispatcher.outbox enable trigger user")
    await connection.execute(QUEUE, long, PENDING, DAYS)
    await connection.execute("analyze")
    if request.param == "generic plans":
        await connection.execute("set plan_cache_mode = force_generic_plan")
    shard = await connection.fetchval("select shard from dispatcher.endpoints where id = $1", long)
    yield Grown(connection, Walk(endpoint_id=EndpointId(long), shard=Shard(shard)), datetime.now(UTC))
    await connection.close()


HISTORY = """
with made as materialized (
  select
    n,
    dispatcher.uuid_v7() as event_id,
    now() - make_interval(secs => n * $3 * 86400.0 / $2) as at
  from generate_series(1, $2::integer) as n
), events as (
  insert into dispatcher.outbox (id, tenant, event_type, payload, inserted_at, shard)
  select event_id, 'acme', 'A.b', '{}', at, 0 from made
), tries as (
  insert into dispatcher.attempts
    (delivery_id, endpoint_id, event_id, started_at, milliseconds, number, shard, outcome, status, verdict)
  select n + $2 * 1000000::bigint, $1, event_id, at, 1, 1, 0, 'answered', 200, 'done' from made
)
insert into dispatcher.finished_deliveries
  (id, endpoint_id, event_id, event_at, created_at, finished_at, shard, attempts, manual, state, status)
select
  n + $2 * 1000000::bigint, $1, event_id, at, at, at, 0, 1, false, case n % 1000 when 0 then 'dead' else 'delivered' end, 200
from made
"""


QUEUE = """
insert into dispatcher.deliveries (endpoint_id, event_id, event_at, created_at, due_at, shard, attempts)
select
  $1, dispatcher.uuid_v7(), at, at,
  case n % 100 when 0 then now() + interval '1 hour' when 1 then now() when 2 then 'infinity' else at end,
  endpoints.shard, case when n % 100 < 2 then 1 else 0 end
from (
  select n, now() - make_interval(secs => (n + 0.5) * $3 * 86400.0 / $2) as at from generate_series(1, $2::integer) as n
) as made
join dispatcher.endpoints on endpoints.id = $1
"""
"""One in a hundred is to be retried in an hour, one is due again now, and one waits for its turn."""


async def test_a_page_of_a_long_queue_reads_no_more_than_it_shows(grown: Grown) -> None:
    """What is pending, too, in both orders, wherever it begins."""
    touched = []

    for days in (0.0, 2.5, 4.9):
        lane = (grown.long.endpoint_id, grown.long.shard, grown.now - timedelta(days=days))
        touched += [
            await grown.touched(store.SQL.fresh_latest, *lane, LAST_ID, DAWN, LIMIT, None),
            await grown.touched(store.SQL.fresh_earliest, *lane, 0, DUSK, LIMIT, None),
            await grown.touched(store.SQL.moved_latest, *lane, LAST_ID, DAWN, LIMIT),
            await grown.touched(store.SQL.moved_earliest, *lane, 0, DUSK, LIMIT),
        ]

    # of what is due at another time, only what has become due meanwhile is met on the way
    assert max(touched) <= LIMIT + PENDING / 100


async def test_a_page_reads_no_more_than_it_shows(grown: Grown) -> None:
    """In every order, wherever it begins: at the newest, in the middle, at the oldest."""
    endpoint = grown.long.endpoint_id
    touched = []

    for days in (0.0, 2.5, 4.9):
        at = grown.now - timedelta(days=days)
        touched += [
            await grown.touched(store.SQL.finished_latest, endpoint, at, LAST_ID, DAWN, DAWN, DUSK, False, LIMIT),
            await grown.touched(store.SQL.finished_earliest, endpoint, at, 0, DUSK, DAWN, DUSK, False, LIMIT),
            await grown.touched(store.SQL.undelivered_latest, endpoint, at, LAST_ID, DAWN, LIMIT),
            await grown.touched(store.SQL.undelivered_earliest, endpoint, at, 0, DUSK, LIMIT),
            await grown.touched(store.SQL.delivered_latest, endpoint, at, LAST_ID, DAWN, DAWN, DUSK, LIMIT),
            await grown.touched(store.SQL.delivered_earliest, endpoint, at, 0, DUSK, DAWN, DUSK, LIMIT),
        ]

    # each of the days offers its first row or two, before the page is merged from them
    assert max(touched) <= LIMIT + 4 * (DAYS + 2)


async def test_what_is_shown_of_a_page_is_looked_up_by_key(grown: Grown) -> None:
    """Deliveries, their last attempts and payloads: some rows for each, whatever the history holds."""
    # of a whole day: of the running one there are few in the first hour, which may as well be read whole
    edge = Mark(grown.now - timedelta(days=2), DeliveryId(1))
    marks = await store.marks(grown.connection, grown.long, after=edge, limit=100)
    entries = await store.entries(grown.connection, grown.long.shard, marks)
    ids, events = [mark.id for mark in marks], [entry.event_id for entry in entries]

    finished = [mark.finished_at for mark in marks]
    rows = await grown.touched(store.SQL.entries, ids, finished, grown.long.shard)
    sifted = await grown.touched(store.SQL.sift, ids, finished, grown.long.shard, "A.b", 200, None)
    attempts = await grown.touched(store.SQL.last_attempts, ids, min(entry.created_at for entry in entries))
    payloads = await grown.touched(store.SQL.payloads, events, [entry.event_at for entry in entries])

    assert len(entries) == 100
    assert max(rows, sifted, attempts, payloads) <= 300


async def test_one_delivery_is_looked_up_by_key(grown: Grown) -> None:
    """A single look-up does not feel how much there is."""
    (mark,) = await store.marks(grown.connection, grown.long, after=None, limit=1)

    finished = await grown.touched(history.SQL.finished, mark.id)
    attempts = await grown.touched(history.SQL.attempts, [mark.id])

    assert max(finished, attempts) <= FEW


async def test_every_page_of_a_long_log_is_found(grown: Grown) -> None:
    """Page after page, by cursor: each delivery once, pending or finished, in order, in both directions."""
    for ascending in (False, True):
        walk = replace(grown.long, ascending=ascending)
        after: Mark | None = None
        marked: list[tuple[datetime, int]] = []
        while marks := await store.marks(grown.connection, walk, after=after, limit=5000):
            marked += [(mark.at, mark.id) for mark in marks]
            after = marks[-1]

        assert marked == sorted(marked, reverse=not ascending)
        assert len(set(marked)) == len(marked) == ROWS + PENDING


async def test_a_filter_that_matches_nothing_looks_at_so_many_and_no_more(grown: Grown, database: str) -> None:
    """The page is empty, and its cursor goes on."""
    async with open_admin(database) as admin:
        page = await admin.log(EndpointId(UUID(str(grown.long.endpoint_id))), LogFilter(event_type="none"))

    assert page.deliveries == ()
    assert page.next_cursor is not None
