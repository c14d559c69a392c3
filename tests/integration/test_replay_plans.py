"""Replays read by index, whatever the tables hold and whatever the planner believes of them."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from dispatcher.store import replays
from support.plans import rows_touched
from support.world import make_endpoint

ROWS = 6_000
"""Finished and pending deliveries, each: enough for a wrong plan to show."""


@pytest.fixture(params=["fresh", "analysed when empty", "analysed", "generic plans"])
async def grown(database: str, request: pytest.FixtureRequest) -> AsyncIterator[tuple[Any, UUID]]:
    """A connection to a database in which one endpoint has many dead, delivered and pending deliveries."""
    connection = await asyncpg.connect(database)
    endpoint_id = await make_endpoint(connection, "https://large.example/")
    if request.param == "analysed when empty":
        await connection.execute("analyze")
    await connection.execute("alter table dispatcher.outbox disable trigger announce_outbox_rows")
    await connection.execute(
        "insert into dispatcher.outbox (tenant, event_type, payload) "
        "select 'acme', 'x', '{}' from generate_series(1, $1::integer)",
        3 * ROWS,
    )
    await connection.execute(
        """
        with events as (select *, row_number() over () as n from dispatcher.outbox), pending as (
          insert into dispatcher.deliveries (endpoint_id, event_id, event_at, created_at, due_at, shard)
          select $1, id, inserted_at, now(), now() + interval '1 hour', shard from events where n <= $2
        )
        insert into dispatcher.finished_deliveries
          (id, endpoint_id, event_id, event_at, created_at, finished_at, shard, attempts, manual, state)
        select
          1000000 + n, $1, id, inserted_at, inserted_at, clock_timestamp(), shard, 1, false,
          case when n % 2 = 0 then 'dead' else 'delivered' end
        from events where n > $2
        """,
        endpoint_id,
        ROWS,
    )
    if request.param in {"analysed", "generic plans"}:
        await connection.execute("analyze")
    if request.param == "generic plans":
        await connection.execute("set plan_cache_mode = force_generic_plan")
    yield connection, endpoint_id
    await connection.close()


@pytest.mark.parametrize("states", [["dead"], ["dead", "cancelled"], ["delivered"]])
async def test_a_page_reads_no_more_than_it_returns(grown: tuple[Any, UUID], states: list[str]) -> None:
    """A hundred finished deliveries cost some look-ups each, however many there are and wait."""
    connection, endpoint_id = grown
    async with connection.transaction():
        await connection.execute(replays.SQL.prefer_keys)
        middle = await connection.fetchval(
            "select finished_at from dispatcher.finished_deliveries order by finished_at offset 500 limit 1"
        )

        touched, sequential = await rows_touched(
            connection, replays.SQL.page, endpoint_id, states, middle, 0, None, 100, None, None, ["x"], None, None
        )

    assert touched < 20 * 100
    assert sequential == set()


async def test_making_deliveries_reads_only_its_events(grown: tuple[Any, UUID]) -> None:
    """A batch costs its own rows."""
    connection, endpoint_id = grown
    rows = await connection.fetch("select id, inserted_at from dispatcher.outbox order by inserted_at desc limit 100")
    async with connection.transaction():
        await connection.execute(replays.SQL.prefer_keys)

        touched, sequential = await rows_touched(
            connection, replays.SQL.make, endpoint_id, *([row[n] for row in rows] for n in range(2)), None
        )

    assert touched < 10 * 100
    assert sequential == set()
