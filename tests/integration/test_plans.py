"""The hot statements read by index, whatever the tables hold: proven by EXPLAIN on a grown database."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from dispatcher.store import deliveries, outbox, shards
from dispatcher.store.deliveries import DAWN
from dispatcher.store.pool import BY_KEY
from support.world import make_endpoint

ROWS = 60_000
"""Enough for a sequential scan to be the dearer plan by far."""


@pytest.fixture(params=["fresh", "analysed", "generic plans", "emptied before"])
async def grown(database: str, request: pytest.FixtureRequest) -> AsyncIterator[tuple[Any, list[UUID]]]:
    """A connection to a database with one large lane, many small ones and many unread events.

    Fresh: without statistics, as after a first burst. Generic plans: made without a look at the arguments. Emptied before:
    vacuum saw the hot tables while they were empty, as between bursts, so that planners take them for empty; only the
    settings of a worker's session keep them to the right index.
    """
    settings = BY_KEY if request.param == "emptied before" else {}
    connection = await asyncpg.connect(database, server_settings=settings)
    if request.param == "emptied before":
        await empty_hot_tables(connection)
    large = await make_endpoint(connection, "https://large.example/", tenant="large")
    small = [await make_endpoint(connection, f"https://small{n}.example/", tenant=f"small{n}") for n in range(20)]
    await connection.execute("create temporary table noise as select generate_series(1, $1::integer) as n", ROWS)
    await connection.execute("alter table dispatcher.outbox disable trigger announce_outbox_rows")
    await connection.execute(
        "insert into dispatcher.outbox (tenant, event_type, payload) select 'large', 'x', '{}' from noise"
    )
    for endpoint_id, count in [(large, ROWS), *((endpoint_id, 10) for endpoint_id in small)]:
        await connection.execute(
            """
            insert into dispatcher.deliveries (endpoint_id, event_id, event_at, created_at, due_at, shard)
            select $1, outbox.id, outbox.inserted_at, now(), now() - interval '1 minute', endpoints.shard
            from (select * from dispatcher.outbox limit $2) as outbox
            join dispatcher.endpoints on endpoints.id = $1
            """,
            endpoint_id,
            count,
        )
    await connection.execute(
        "insert into dispatcher.outbox_unread (shard, event_id, event_at, tenant, event_type) "
        "select shard, id, inserted_at, tenant, event_type from dispatcher.outbox"
    )
    if request.param in {"analysed", "generic plans"}:
        await connection.execute("analyze")
    if request.param == "generic plans":
        await connection.execute("set plan_cache_mode = force_generic_plan")
    yield connection, [large, *small]
    await connection.close()


async def empty_hot_tables(connection: Any) -> None:
    """Let the hot tables have held some rows, and vacuum find them without any."""
    await connection.execute(
        """
        insert into dispatcher.deliveries (endpoint_id, event_id, event_at, created_at, due_at, shard)
        select dispatcher.uuid_v7(), dispatcher.uuid_v7(), now(), now(), now(), n % 256 from generate_series(1, 5000) as n
        """
    )
    await connection.execute(
        """
        insert into dispatcher.outbox_unread (shard, event_id, event_at, tenant, event_type)
        select n % 256, dispatcher.uuid_v7(), now(), 'gone', 'x' from generate_series(1, 5000) as n
        """
    )
    for table in ("deliveries", "outbox_unread"):
        await connection.execute(f"delete from dispatcher.{table}")
        await connection.execute(f"vacuum (truncate off) dispatcher.{table}")


async def rows_touched(connection: Any, statement: str, *arguments: Any) -> tuple[float, set[str]]:
    """Run a statement; return how many rows its scans read, and the tables it read from end to end."""
    await connection.execute("begin")
    if statement == deliveries.SQL.record:
        await connection.execute(deliveries.SQL.prefer_keys)
    try:
        text = await connection.fetchval(f"explain (analyze, timing off, format json)\n{statement}", *arguments)
    finally:
        await connection.execute("rollback")
    touched, sequential = 0.0, set()

    def walk(node: dict[str, Any]) -> None:
        nonlocal touched
        if "Relation Name" in node and node["Actual Loops"]:
            touched += (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            if node["Node Type"] == "Seq Scan":
                sequential.add(node["Relation Name"])
        for child in node.get("Plans", []):
            walk(child)

    walk(json.loads(text)[0]["Plan"])
    return touched, sequential


HOT = {"deliveries", "outbox_unread", "outbox"}


async def shards_of(connection: Any, endpoints: list[UUID]) -> list[int]:
    """The shard of each endpoint, in their order."""
    found = dict(await connection.fetch("select id, shard from dispatcher.endpoints"))
    return [found[endpoint_id] for endpoint_id in endpoints]


def hot(tables: set[str]) -> set[str]:
    """Those of the tables that grow; partitions count as their parent."""
    return {table for table in tables if table.split("_2")[0] in HOT}


async def test_pull_reads_no_more_than_it_returns(grown: tuple[Any, list[UUID]]) -> None:
    """A thousand waiting in one lane cost the others nothing."""
    connection, endpoints = grown
    where = await shards_of(connection, endpoints)
    count = len(endpoints)

    touched, sequential = await rows_touched(
        connection, deliveries.SQL.pull, where, endpoints, [DAWN] * count, [0] * count, [5] * count, None
    )

    assert touched < 20 * 5 * count
    assert hot(sequential) == set()


async def test_next_due_reads_one_row_per_lane(grown: tuple[Any, list[UUID]]) -> None:
    """The first row behind the place is found by index."""
    connection, endpoints = grown
    where = await shards_of(connection, endpoints)

    touched, sequential = await rows_touched(
        connection, deliveries.SQL.next_due, where, endpoints, [DAWN] * len(endpoints)
    )

    assert touched < 4 * len(endpoints)
    assert hot(sequential) == set()


async def test_lanes_with_work_jumps_from_lane_to_lane(grown: tuple[Any, list[UUID]]) -> None:
    """A lane with tens of thousands of rows costs as much as one with ten."""
    connection, endpoints = grown

    touched, sequential = await rows_touched(connection, deliveries.SQL.lanes_with_work, list(range(256)))

    assert touched < 1000 + 4 * len(endpoints)
    assert hot(sequential) == set()


async def test_reading_the_outbox_stops_at_its_limit(grown: tuple[Any, list[UUID]]) -> None:
    """Each shard is read past its cursor, and no further than asked."""
    connection, _ = grown

    touched, sequential = await rows_touched(connection, outbox.SQL.read, list(range(256)), [0] * 256, 100, 1000)

    assert touched < 4 * 100 + 256
    assert hot(sequential) == set()


async def judgement(connection: Any, rows: Any) -> tuple[list[Any], ...]:
    """What filters of the large endpoint would say of unread events: no to every second one."""
    large = await connection.fetchval("select id from dispatcher.endpoints where tenant = 'large'")
    positions = [row["position"] for row in rows]
    events = await connection.fetch(
        "select event_id from dispatcher.outbox_unread where position = any ($1) order by position", positions
    )
    filtered = [outbox.Filtered(large, row["event_id"], None) for row in events[::2]]
    return outbox.columns_of(outbox.Judged({large: "true"}, filtered))


async def test_fanning_out_reads_only_its_batch(grown: tuple[Any, list[UUID]]) -> None:
    """A batch of events costs its own rows, however many are unread."""
    connection, _ = grown
    rows = await connection.fetch("select shard, position from dispatcher.outbox_unread order by position limit 100")
    batch = [row["shard"] for row in rows], [row["position"] for row in rows]

    more = await judgement(connection, rows)
    for statement, arguments in ((outbox.SQL.fan_out, ()), (outbox.SQL.fan_out_ordered, more)):
        touched, sequential = await rows_touched(connection, statement, *batch, None, *arguments)

        assert touched < 50 * 100
        assert hot(sequential) == set()


async def test_recording_reads_only_its_batch(grown: tuple[Any, list[UUID]]) -> None:
    """A batch of results costs its own rows, under a plan made for any batch."""
    connection, _ = grown
    rows = await connection.fetch("select id, shard from dispatcher.deliveries limit 100")
    count = len(rows)
    columns: list[list[Any]] = [
        [row["id"] for row in rows],
        [row["shard"] for row in rows],
        [1] * count,
        ["done", "retry"] * (count // 2),
        [None, 5.0] * (count // 2),
        [None] * count,
        [0.1] * count,
        [12] * count,
        ["answered"] * count,
        [200] * count,
        *[[None] * count for _ in range(5)],
    ]

    seen: list[list[Any]] = [[None] * count for _ in range(10)]

    touched, sequential = await rows_touched(connection, deliveries.SQL.record, *columns, None, *seen, "a worker")

    assert touched < 20 * count
    assert hot(sequential) == set()


async def test_killing_reads_only_what_it_ends(grown: tuple[Any, list[UUID]]) -> None:
    """Ending a disabled endpoint's or expired deliveries goes batch by batch, by index."""
    connection, endpoints = grown
    where = await shards_of(connection, endpoints)
    await connection.execute(
        "update dispatcher.deliveries set expires_at = $1 where endpoint_id = $2",
        datetime.now(UTC) - timedelta(hours=1),
        endpoints[3],
    )

    ended, ended_scans = await rows_touched(
        connection, deliveries.SQL.kill_ended, where[:2], endpoints[:2], [False, True], 50, [], None
    )
    expired, expired_scans = await rows_touched(connection, deliveries.SQL.kill_expired, list(range(256)), 50, [], None)

    assert ended < 20 * 100
    assert expired < 20 * 50
    assert hot(ended_scans | expired_scans) == set()


async def test_renewing_all_leases_updates_in_place(connection: Any) -> None:
    """A heartbeat of 256 shards makes no new index entries: all its updates are HOT."""
    worker = UUID(int=1)
    held = dict(await connection.fetch(shards.SQL.acquire, worker, 10.0, 256))
    for _ in range(5):
        await connection.fetch(shards.SQL.renew, worker, 10.0, list(held), list(held.values()))
    await connection.execute("select pg_stat_force_next_flush()" if await _has_flush(connection) else "select 1")
    await connection.execute("select pg_stat_clear_snapshot()")

    row = await connection.fetchrow(
        "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relname = 'shard_leases'"
    )

    assert row["n_tup_hot_upd"] == row["n_tup_upd"]


async def _has_flush(connection: Any) -> bool:
    found: bool = await connection.fetchval(
        "select exists (select from pg_proc where proname = 'pg_stat_force_next_flush')"
    )
    return found
