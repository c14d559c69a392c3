"""Several processes on one database: they share the shards fairly, and each event is delivered once by one of them."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest

from support.receiver import ANY, Receiver, answer
from support.serving import Serving, serving
from support.tally import Arrival, arrivals, delayed, recorded, settled
from support.world import make_endpoint, until

pytestmark = pytest.mark.system

TENANTS = [f"tenant-{number}" for number in range(128)]
"""Of 256 shards they meet about a hundred: every worker gets some."""
EVENTS = 5000
SHARDS = 256


async def make_endpoints(connection: Any, receiver: Receiver) -> None:
    """One endpoint for each tenant, whose path is the tenant's name."""
    for tenant in TENANTS:
        await make_endpoint(connection, f"{receiver.url}/{tenant}", tenant=tenant)


async def insert_for_all(connection: Any, count: int) -> None:
    """Insert so many events, to each tenant in turn, as a producer does with many tenants."""
    await connection.execute(
        """
        insert into dispatcher.outbox (tenant, event_type, payload)
        select ($1::text[])[1 + n % cardinality($1::text[])], 'appointment.created', json_build_object('n', n)
        from generate_series(1, $2::integer) as n
        """,
        TENANTS,
        count,
    )


async def wanted(connection: Any) -> set[Arrival]:
    """Every event at the path of its tenant."""
    rows = await connection.fetch("select id, tenant from dispatcher.outbox")
    return {(row["id"], f"/{row['tenant']}") for row in rows}


async def shares(connection: Any) -> list[int]:
    """How many shards each worker holds, all leases running; the smallest first."""
    rows = await connection.fetch(
        "select count(*) as held from dispatcher.shard_leases where expires_at > now() group by owner order by held"
    )
    return [row["held"] for row in rows]


async def shared_by(connection: Any, workers: int) -> None:
    """Wait until so many workers hold all shards, none more than its share."""

    async def fair() -> bool:
        held = await shares(connection)
        return len(held) == workers and sum(held) == SHARDS and max(held) <= -(-SHARDS // workers)

    await until(fair, timeout=20, why=f"a fair share for {workers} workers")


async def assert_delivered_once(connection: Any, receiver: Receiver) -> None:
    """Each event arrived once, and is written down as delivered."""
    counted = arrivals(receiver)
    assert set(counted) == await wanted(connection) == await recorded(connection)
    assert set(counted.values()) == {1}


def assert_nothing_slept(processes: Sequence[Serving]) -> None:
    """No sweep had to find what nobody thought of, and no lease was lost."""
    for process in processes:
        assert process.logged("deliveries.overtaken") == []
        assert process.logged("shards.lost") == []
        assert process.logged("step.failed") == []


async def test_two_processes_of_two_workers_share_the_work(database: str, connection: Any) -> None:
    """Each event is delivered exactly once, and each of the four workers delivers some."""
    async with (
        Receiver() as receiver,
        serving(database, workers=2, shards__lease="6s") as one,
        serving(database, workers=2, shards__lease="6s") as other,
    ):
        await make_endpoints(connection, receiver)
        await shared_by(connection, 4)

        await insert_for_all(connection, EVENTS)
        await settled(connection, EVENTS)

        assert await shares(connection) == [64, 64, 64, 64]
        assert (await one.terminate(), await other.terminate()) == (0, 0)
        await assert_delivered_once(connection, receiver)
        assert_nothing_slept([one, other])
        for process in (one, other):
            attempts = process.logged("delivery.attempted")
            assert {line["worker"] for line in attempts} == {0, 1}
            assert all(line["status"] == 204 for line in attempts)
        assert len(one.logged("delivery.attempted")) + len(other.logged("delivery.attempted")) == EVENTS


async def test_workers_that_join_and_leave_under_load_cause_no_duplicate(database: str, connection: Any) -> None:
    """A third process comes and a first one goes in the middle: shards change hands only once they are drained."""
    async with Receiver() as receiver, AsyncExitStack() as stack:
        receiver.on(ANY, delayed(0.05))
        await make_endpoints(connection, receiver)
        first = await stack.enter_async_context(serving(database, shards__lease="10s"))
        second = await stack.enter_async_context(serving(database, shards__lease="10s"))
        await shared_by(connection, 2)
        # paced: the load lasts for as long as the workers come and go
        pacing = asyncio.create_task(insert_in_batches(connection, batches=25, every=0.4))

        third = await stack.enter_async_context(serving(database, shards__lease="10s"))
        await third.says("shards.taken")
        assert await first.terminate() == 0
        joined_and_left_before_the_end = not pacing.done()
        await pacing
        await settled(connection, EVENTS)
        await shared_by(connection, 2)

        assert joined_and_left_before_the_end
        assert await second.terminate() == await third.terminate() == 0
        await assert_delivered_once(connection, receiver)
        assert_nothing_slept([first, second, third])
        assert third.logged("delivery.attempted")


async def insert_in_batches(connection: Any, *, batches: int, every: float) -> None:
    """Insert all events, a batch now and then."""
    for _ in range(batches):
        await insert_for_all(connection, EVENTS // batches)
        await asyncio.sleep(every)


async def test_a_worker_keeps_what_it_was_about_to_give_back(database: str, connection: Any) -> None:
    """Another one came and went before the surplus was drained: its endpoints get what comes then."""
    async with Receiver() as receiver, serving(database, shards__lease="3s") as stays:
        answered = asyncio.Event()
        receiver.on(ANY, answer(204, after=answered))
        await make_endpoints(connection, receiver)
        await insert_for_all(connection, len(TENANTS))
        await receiver.wait_for(len(TENANTS), timeout=20)

        async with serving(database, shards__lease="3s") as goes:
            await goes.says("shards.taken")
            assert await goes.terminate() == 0
        await shared_by(connection, 1)
        answered.set()
        await settled(connection, len(TENANTS))
        await insert_for_all(connection, len(TENANTS))

        await settled(connection, 2 * len(TENANTS), timeout=10)
        await assert_delivered_once(connection, receiver)
        assert_nothing_slept([stays])
