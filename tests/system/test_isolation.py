"""One slow receiver hurts nobody else: latency beside an endpoint that hangs, one that refuses, and one with a backlog."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import asyncpg
import pytest
import structlog

from dispatcher.lanes import Lanes
from dispatcher.worker import Worker
from support.latency import measure
from support.receiver import Behaviour, Exchange, Receiver, answer, hang
from support.world import insert_events, make_endpoint, until, working

logger = structlog.get_logger()

BACKLOG = 100_000

TROUBLED = 200
"""Deliveries that wait for the endpoint that hangs, and for the one that refuses."""

HELD_PER_LANE = 2000
"""What `Lanes` holds of one endpoint at most."""

OWN_FLOOD = 30.0
"""Seconds that an event inserted behind 100,000 others of its own tenant may wait at most: events of one tenant are fanned
out in the order of their inserts, here at 10,000 to 25,000 a second. Once that is done, it is as any other."""


def slowly(over: asyncio.Event, *, seconds: float = 0.25) -> Behaviour:
    """Take a quarter of a second for each answer, until the play is over."""

    async def behave(exchange: Exchange) -> None:
        if not over.is_set():
            await exchange.pause(seconds)
        await answer(204)(exchange)

    return behave


def lanes_of(worker: Worker) -> Lanes:
    """The lanes of a worker."""
    assert worker._engine is not None
    return worker._engine._lanes


async def closed_port() -> int:
    """A port that nobody listens on."""
    async with Receiver() as receiver:
        return receiver.port


async def make_trouble(connection: Any, receiver: Receiver) -> None:
    """Let one endpoint hang and one refuse, with deliveries waiting for both, and wait until both are known."""
    receiver.on("/hang", hang)
    for name, url in {
        "hanging": f"{receiver.url}/hang",
        "refusing": f"http://127.0.0.1:{await closed_port()}/hook",
    }.items():
        await make_endpoint(connection, url, tenant=name, retry_schedule=[1.0] * 30)
        await insert_events(connection, TROUBLED, tenant=name)
    await until(
        lambda: connection.fetchval(
            "select count(*) = 2 from dispatcher.endpoint_health where failing_since is not null"
        )
    )
    await until(lambda: receiver.in_flight["/hang"] <= 1)
    receiver.most_in_flight.clear()


async def waiting(connection: Any, tenant: str) -> int:
    """How many deliveries of a tenant's bulk wait."""
    count: int = await connection.fetchval(
        "select count(*) from dispatcher.deliveries join dispatcher.endpoints on endpoints.id = endpoint_id "
        "where tenant = $1 and url like '%/slow'",
        tenant,
    )
    return count


@pytest.mark.system
@pytest.mark.quiet
@pytest.mark.parametrize("tenant", ["another", "big"], ids=["another tenant", "the same tenant"])
async def test_a_hanging_a_refusing_and_a_flooded_endpoint_slow_nobody_down(
    database: str, connection: Any, tenant: str
) -> None:
    """Single events arrive as on an idle service, while the 100,000 come in and while they wait."""
    over = asyncio.Event()
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(Receiver())
        producer = await asyncpg.connect(database)
        stack.push_async_callback(producer.close)
        worker = await stack.enter_async_context(working(database, roles=("deliver",), egress__timeout="1s"))
        stack.callback(over.set)
        lanes = lanes_of(worker)

        def memory_is_bounded() -> None:
            assert lanes.held <= 4 * HELD_PER_LANE

        timed = partial(measure, connection, receiver, tenant=tenant, check=memory_is_bounded)
        receiver.on("/slow", slowly(over))
        await make_endpoint(connection, f"{receiver.url}/good", tenant=tenant, subscriptions=["single"])
        await make_endpoint(connection, f"{receiver.url}/slow", tenant="big", subscriptions=["bulk"], timeout=60.0)
        await timed(count=5)  # connections are opened, statements planned

        idle = await timed()
        await make_trouble(connection, receiver)
        troubled = await timed()
        flood = asyncio.ensure_future(insert_events(producer, BACKLOG, "bulk", tenant="big"))
        flooding = await timed(also=[flood])
        spread = asyncio.ensure_future(
            until(lambda: producer.fetchval("select count(*) < 100 from dispatcher.outbox_unread"), timeout=120)
        )
        spreading = await timed(count=2, also=[spread])
        flooded = await timed()
        still_waiting = await waiting(connection, "big")

    figures = {"idle": idle, "troubled": troubled, "flooding": flooding, "spreading": spreading, "flooded": flooded}
    logger.info("latencies.measured", **{name: str(latencies) for name, latencies in figures.items()})
    said = "; ".join(f"{name}: {latencies}" for name, latencies in figures.items())
    assert still_waiting > 0.9 * BACKLOG
    assert receiver.most_in_flight["/hang"] == 1
    if tenant == "big":
        del figures["spreading"]
        assert max(spreading.seconds) < OWN_FLOOD, said
    assert all(latencies.unhurt(idle) for latencies in figures.values()), said
