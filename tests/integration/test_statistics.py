"""What is counted over time, in memory and in the database."""

import time
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from dispatcher.model import EndpointId, Unreachable, UnreachableReason
from dispatcher.prune import Prune, Retention
from dispatcher.store import statistics as store
from dispatcher.store.pool import open_pool
from dispatcher.store.statistics import Load
from dispatcher.tally import LATENCIES, EndpointQuarter, Minute
from support.clock import FakeClock
from support.receiver import Receiver
from support.steps import WAY, answered, early_clock, stepping
from support.world import finished, insert_events, make_endpoint, working

NOON = 1_767_268_800
"""Unix seconds; the start of an hour."""


@pytest.fixture
def clock() -> FakeClock:
    """A clock that begins in the past."""
    return early_clock()


async def rows(connection: Any, resolution: int) -> list[Any]:
    """What is written of the service."""
    found: list[Any] = await connection.fetch(
        "select * from dispatcher.service_statistics where resolution = $1 order by start_at", resolution
    )
    return found


async def test_what_a_worker_does_is_written_down(database: str, connection: Any, clock: FakeClock) -> None:
    """Attempts by what they came to, ends, latencies; for the service and for the endpoint."""
    endpoint_id = await make_endpoint(connection, "https://example.com/", retry_schedule=[3600.0])
    await insert_events(connection, 3)
    async with stepping(database, clock) as worker:
        await worker.run(*WAY)
        await worker.answer(answered(204), 1)
        await worker.answer(answered(503), 1)
        await worker.answer(Unreachable(UnreachableReason.TIMEOUT, "", 15.0, None), 1)
        await worker.run("record", "statistics")

        for resolution in (60, 900):
            (row,) = await rows(connection, resolution)
            assert (row["answered_2xx"], row["answered_5xx"], row["unreachable"], row["delivered"]) == (1, 1, 1, 1)
            assert sum(row["latencies"]) == 3
            assert row["latencies"][LATENCIES.index(15.0)] == 1
        (row,) = await connection.fetch("select * from dispatcher.endpoint_statistics")
        assert row["endpoint_id"] == endpoint_id
        assert (row["answered_2xx"], row["answered_5xx"], row["unreachable"], row["dead"]) == (1, 1, 1, 0)


async def test_several_workers_add_to_the_same_row(connection: Any) -> None:
    """Counts add up, however they come: one after the other or at once."""
    endpoint_id = EndpointId(await make_endpoint(connection, "https://example.com/"))
    load = Load(due=5, oldest_due_seconds=2.0, in_flight=3, held=0, lanes=0)
    minute = Minute(NOON + 60, attempts=[4, 0, 0, 1, 0, 0], ended=[4, 1, 0])
    minute.latencies[3] = 5

    for _ in range(2):
        await store.write(connection, uuid4(), minute, load=load)
        await store.write_endpoints(connection, [EndpointQuarter(endpoint_id, NOON, [4, 0, 0, 1, 0, 0, 1])])

    (row,) = await rows(connection, 60)
    (quarter,) = await rows(connection, 900)
    assert row["start_at"].timestamp() == NOON + 60
    assert quarter["start_at"].timestamp() == NOON
    assert (row["answered_2xx"], row["answered_5xx"], row["delivered"], row["dead"]) == (8, 2, 8, 2)
    assert row["latencies"] == [0, 0, 0, 10] + [0] * (len(LATENCIES) - 3)
    assert (row["due"], row["oldest_due_seconds"], row["in_flight"]) == (5, 2.0, 3)
    counts = await connection.fetchrow("select answered_2xx, answered_5xx, dead from dispatcher.endpoint_statistics")
    assert tuple(counts) == (8, 2, 2)


async def test_what_waits_on_purpose_is_no_backlog(database: str, connection: Any, clock: FakeClock) -> None:
    """Neither a paused endpoint's deliveries nor those of one that asked for a pause; what fails does not count as late."""
    for name in ("well", "paused", "failing", "busy"):
        await make_endpoint(connection, f"https://{name}.example/", subscriptions=[name], retry_schedule=[1e7])
    async with stepping(database, clock, delivery__in_flight_start="1") as worker:
        for name in ("failing", "busy"):
            await insert_events(connection, 1, name)
        await worker.run(*WAY)
        for request, future in worker.sender.waiting:
            busy = "busy" in request.url
            future.set_result(answered(429, Retry_After="9999") if busy else answered(500))
        worker.sender.waiting.clear()
        await worker.run("send", "record")
        await connection.execute(
            "update dispatcher.endpoints set state = 'paused', changed_at = clock_timestamp() where url like '%paused%'"
        )
        for name in ("well", "paused", "failing", "busy"):
            await insert_events(connection, 5, name)
        await worker.run("refresh", "fanout", "pulling")
        clock.advance(30.0)
        await worker.run("sweep", "statistics")
        waiting = await connection.fetchval("select due from dispatcher.workers")
        age = await connection.fetchval("select oldest_due_seconds from dispatcher.workers")
        clock.advance(300.0)
        await connection.execute(
            "delete from dispatcher.deliveries using dispatcher.endpoints "
            "where endpoints.id = endpoint_id and url like '%well%'"
        )
        await worker.run("sweep", "statistics")

        assert (waiting, round(age)) == (10, 30)
        assert await connection.fetchval("select oldest_due_seconds from dispatcher.workers") == 0


async def test_deaths_without_an_attempt_are_counted(database: str, connection: Any, clock: FakeClock) -> None:
    """What ends with its endpoint: dead if that is disabled, cancelled if it is archived."""
    disabled = await make_endpoint(connection, "https://disabled.example/", state="paused")
    archived = await make_endpoint(connection, "https://archived.example/", state="paused")
    await insert_events(connection, 4)
    async with stepping(database, clock) as worker:
        await worker.run(*WAY)
        await connection.execute("update dispatcher.endpoints set state = 'disabled' where id = $1", disabled)
        await connection.execute("update dispatcher.endpoints set archived_at = now() where id = $1", archived)
        await connection.execute("update dispatcher.endpoints set changed_at = clock_timestamp()")
        await worker.run("refresh", "reap", "statistics")

        (row,) = await rows(connection, 60)
        assert (row["dead"], row["cancelled"], row["delivered"]) == (4, 4, 0)
        dead = await connection.fetch("select endpoint_id, dead from dispatcher.endpoint_statistics")
        assert [tuple(row) for row in dead] == [(disabled, 4)]


async def test_a_drained_worker_has_written_everything(database: str, connection: Any) -> None:
    """Also what came in since the last round."""
    async with Receiver() as receiver, working(database, roles=("deliver",)):
        await make_endpoint(connection, f"{receiver.url}/hook")
        await insert_events(connection, 20)
        await finished(connection, 20)

    delivered = await connection.fetchval(
        "select sum(delivered) from dispatcher.service_statistics where resolution = 60"
    )
    assert delivered == 20
    assert await connection.fetchval("select sum(answered_2xx) from dispatcher.endpoint_statistics") == 20


async def test_what_could_not_be_written_is_written_later(database: str, connection: Any, clock: FakeClock) -> None:
    """Nothing is lost, and nothing counts twice."""
    await make_endpoint(connection, "https://example.com/")
    async with stepping(database, clock) as worker:
        for round_ in range(2):
            await insert_events(connection, 5)
            await worker.deliver_all()
            if round_ == 0:
                for table in ("service", "endpoint"):
                    await connection.execute(f"alter table dispatcher.{table}_statistics rename to away_{table}")
                    with pytest.raises(asyncpg.UndefinedTableError):
                        await worker.run("statistics")
                    await connection.execute(f"alter table dispatcher.away_{table} rename to {table}_statistics")
                clock.advance(61)

        await worker.engine.statistics.write_all()

        assert [row["delivered"] for row in await rows(connection, 60)] == [5, 5]
        assert await connection.fetchval("select sum(answered_2xx) from dispatcher.endpoint_statistics") == 10


async def test_minutes_go_after_two_days_and_quarters_with_their_retention(database: str, connection: Any) -> None:
    """And endpoints' days with their partitions."""
    clock = FakeClock(time.time())
    endpoint_id = EndpointId(await make_endpoint(connection, "https://example.com/"))
    start = int(clock.now()) // 900 * 900
    await store.write(connection, uuid4(), Minute(start), load=None)
    await store.write_endpoints(connection, [EndpointQuarter(endpoint_id, start, [1] * 7)])
    pool = await open_pool(database)
    prune = Prune(pool, retention=Retention(events=9, deliveries=9, attempts=9, statistics=30), clock=clock)
    left = []

    for days in (1, 2, 29):
        clock.advance(days * 86400.0)
        await prune.run_once()
        quarters = await connection.fetchval("select count(*) from dispatcher.endpoint_statistics")
        left.append((len(await rows(connection, 60)), len(await rows(connection, 900)), quarters))

    assert left == [(1, 1, 1), (0, 1, 1), (0, 0, 0)]
    await pool.close()


async def test_busy_rows_are_updated_in_place(connection: Any) -> None:
    """The same thousand endpoints again and again: no index grows by it, because each update stays on its page."""
    start = int(time.time()) // 900 * 900
    quarters = [EndpointQuarter(EndpointId(uuid4()), start, [1] * 7) for _ in range(1000)]
    sizes = []

    for _ in range(20):
        await store.write_endpoints(connection, quarters)
        await store.write(connection, uuid4(), Minute(NOON), load=None)
        sizes.append(
            await connection.fetchval(
                "select sum(pg_relation_size(indexrelid)) from pg_index join pg_class on pg_class.oid = indrelid "
                "where relname ~ '^(endpoint|tenant|service)_statistics' and relkind = 'r'"
            )
        )

    assert sizes[0] == sizes[-1]
