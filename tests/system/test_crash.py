"""Killed workers and a crashed database: nothing is lost, and only what was in flight comes twice."""

import asyncio
import signal
from typing import Any

import asyncpg
import pytest

from dispatcher.embedded import EmbeddedPostgres
from support import postgres
from support.receiver import ANY, Receiver, hang
from support.serving import serving
from support.tally import arrivals, delayed, expected, quiet, recorded, repeated, settled
from support.world import insert_event, insert_events, make_endpoint, until

pytestmark = pytest.mark.system

EVENTS = 5000
PATHS = ("/a", "/b", "/c")
DELIVERIES = EVENTS * len(PATHS)
IN_FLIGHT = 128
"""`[delivery] in_flight` of the workers that die here: requests begun whose result is not written down yet. Less than
three lanes could have (64 each)."""


async def make_world(connection: Any, receiver: Receiver, *, events: int = EVENTS) -> int:
    """Make three endpoints that take their time, and the events; return how many deliveries that makes."""
    receiver.on(ANY, delayed(0.03))
    for path in PATHS:
        await make_endpoint(connection, receiver.url + path)
    await insert_events(connection, events)
    return events * len(PATHS)


async def test_a_killed_worker_loses_nothing_and_repeats_only_what_was_in_flight(
    database: str, connection: Any
) -> None:
    """`kill -9` in the middle: what was answered and recorded never comes again, all the rest comes after a restart."""
    async with Receiver() as receiver:
        await make_world(connection, receiver)
        async with serving(database, delivery__in_flight=str(IN_FLIGHT)) as doomed:
            await receiver.wait_for(DELIVERIES // 3, timeout=60)
            doomed.kill()
            assert await doomed.ended() == -signal.SIGKILL
        await quiet(receiver)
        unrecorded = set(arrivals(receiver)) - await recorded(connection)

        async with serving(database, delivery__in_flight=str(IN_FLIGHT)):
            await settled(connection, DELIVERIES)

        counted = arrivals(receiver)
        assert set(counted) == await expected(connection, PATHS) == await recorded(connection)
        assert repeated(counted) == unrecorded
        assert 0 < len(unrecorded) <= IN_FLIGHT
        assert max(counted.values()) == 2


async def test_a_crashed_database_loses_nothing_and_the_worker_survives(pytestconfig: pytest.Config) -> None:
    """Immediate shutdown in the middle: the same process waits, reconnects, writes down what it knew, sends each once."""
    programs = postgres.choose_bin_directory(pytestconfig.getoption("--postgres"))
    with postgres.data_directory() as folder:
        server = EmbeddedPostgres(folder, bin_directory=programs, settings=postgres.FAST)
        async with server, Receiver() as receiver, serving(server.url) as process:
            before = await asyncpg.connect(server.url)
            await make_world(before, receiver)
            await receiver.wait_for(DELIVERIES // 3, timeout=60)

            await server.crash()
            await process.says("database.lost")
            await server.start()

            connection = await asyncpg.connect(server.url)
            await settled(connection, DELIVERIES)
            counted = arrivals(receiver)
            assert set(counted) == await expected(connection, PATHS) == await recorded(connection)
            assert repeated(counted) == set()
            assert len(process.logged("database.lost")) == len(process.logged("database.returned")) == 1
            assert process.logged("step.failed") == []
            # the crash emptied the unlogged table that wake-ups are spaced out by
            await until(lambda: connection.fetchval("select count(*) = 1 from dispatcher.wakeups"))
            assert await process.terminate() == 0
            await connection.close()


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_worker_that_is_told_to_stop_leaves_no_duplicate(database: str, connection: Any, workers: int) -> None:
    """SIGTERM in the middle: what is in flight ends and is recorded, exit code 0; the next process does the rest."""
    async with Receiver() as receiver:
        deliveries = await make_world(connection, receiver, events=2000)
        async with serving(database, workers=workers) as first:
            await receiver.wait_for(deliveries // 3, timeout=60)
            assert await first.terminate() == 0
        assert set(arrivals(receiver)) == await recorded(connection)
        assert len(receiver.received) < deliveries
        assert await connection.fetchval("select count(*) from dispatcher.shard_leases where owner is not null") == 0

        async with serving(database, workers=workers):
            await settled(connection, deliveries)

        counted = arrivals(receiver)
        assert set(counted) == await expected(connection, PATHS) == await recorded(connection)
        assert repeated(counted) == set()


async def test_requests_that_hang_are_cut_after_the_grace(database: str, connection: Any) -> None:
    """The end of a worker waits for `[delivery] grace`, no longer; what was cut goes out again after a restart."""
    async with Receiver() as receiver:
        receiver.on("/hook", hang)
        await make_endpoint(connection, f"{receiver.url}/hook")
        event_id = await insert_event(connection)
        async with serving(database, delivery__grace="1s") as first:
            await receiver.wait_for(1)
            started = asyncio.get_running_loop().time()
            assert await first.terminate() == 0
            took = asyncio.get_running_loop().time() - started
            assert first.logged("worker.drained", cut_short=1)
        assert 1 <= took < 5

        async with serving(database, delivery__grace="0s"):
            _, again = await receiver.wait_for(2)

        assert again.headers["webhook-id"] == str(event_id)


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_second_signal_forces(database: str, connection: Any, workers: int) -> None:
    """It ends at once, whatever hangs, and says by its exit code that it was not drained."""
    async with Receiver() as receiver, serving(database, workers=workers, delivery__grace="60s") as process:
        receiver.on("/hook", hang)
        await make_endpoint(connection, f"{receiver.url}/hook")
        await insert_event(connection)
        await receiver.wait_for(1)
        process.signal()
        await process.says("service.draining", count=workers + (workers > 1))

        assert await process.terminate(timeout=5) == 1

        assert process.logged("service.stopped", drained=False)
        await until(lambda: process.family() == [], why="the end of the workers")


async def test_workers_end_when_their_parent_was_killed(database: str, connection: Any) -> None:
    """They notice, drain and go: nobody could tell them to stop any more."""
    async with Receiver() as receiver, serving(database, workers=2) as process:
        receiver.on("/hook", delayed(0.2))
        await make_endpoint(connection, f"{receiver.url}/hook")
        await insert_event(connection)
        await receiver.wait_for(1)

        process.signal(signal.SIGKILL)

        await process.says("worker.orphaned", count=2)
        await process.says("worker.drained", count=2)
        assert await process.ended() == -signal.SIGKILL
        await until(lambda: process.family() == [], why="the end of the workers")
        assert len(await recorded(connection)) == 1
        assert await connection.fetchval("select count(*) from dispatcher.shard_leases where owner is not null") == 0


async def test_a_killed_child_is_replaced_and_its_shards_are_taken_over(database: str, connection: Any) -> None:
    """Its place is filled within seconds, its shards are owned again after the lease, and everything arrives."""
    async with Receiver() as receiver, serving(database, workers=2, delivery__in_flight=str(IN_FLIGHT)) as process:
        deliveries = await make_world(connection, receiver, events=2000)
        await receiver.wait_for(deliveries // 4, timeout=60)
        busy = await connection.fetchval(
            """
            select workers.pid from dispatcher.endpoints
            join dispatcher.shard_leases using (shard) join dispatcher.workers on workers.id = shard_leases.owner
            limit 1
            """
        )
        next(child for child in process.workers() if child.pid == busy).kill()

        died = await process.says("worker.died")
        await process.says("worker.started", count=3)
        await settled(connection, deliveries)

        assert (died["pid"], died["exit_code"]) == (busy, -signal.SIGKILL)
        counted = arrivals(receiver)
        assert set(counted) == await expected(connection, PATHS) == await recorded(connection)
        assert len(repeated(counted)) <= IN_FLIGHT
        assert max(counted.values()) <= 2
        assert await process.is_ready()
