"""One slow receiver hurts nobody else: latency beside an endpoint that hangs, one that refuses, and one with a backlog."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

import asyncpg
import pytest

from dispatcher.lanes import Lanes
from dispatcher.worker import Worker
from support.receiver import Behaviour, Exchange, Receiver, answer, hang
from support.world import insert_event, insert_events, make_endpoint, until, working

EVENTS = 40
"""Single events a measurement: enough for a median and a ninth decile that mean something."""

BACKLOG = 100_000

TROUBLED = 200
"""Deliveries that wait for the endpoint that hangs, and for the one that refuses."""

HELD_PER_LANE = 200
"""What `Lanes` holds of one endpoint at most."""

OWN_FLOOD = 30.0
"""Seconds that an event inserted behind 100,000 others of its own tenant may wait at most: events of one tenant are fanned
out in the order of their inserts, here at 20,000 to 25,000 a second."""

SLOWER, SLACK = 3.0, 0.020
"""How much slower a single event may be beside the others: three times, and a batch of fan-out (about 250 rows, 15 ms)
that it may have to wait for. The bound is wide because the receiver, the producer and the worker share one core here."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """Seconds from the insert to the arrival, one event after the other."""

    seconds: Sequence[float]

    @property
    def median(self) -> float:
        """Half of them are below it."""
        return median(self.seconds)

    @property
    def p90(self) -> float:
        """Nine in ten are below it."""
        return quantiles(self.seconds, n=10)[-1]

    def __str__(self) -> str:
        return (
            f"median {self.median * 1000:.1f} ms, p90 {self.p90 * 1000:.1f} ms, "
            f"most {max(self.seconds) * 1000:.1f} ms, n {len(self.seconds)}"
        )


@dataclass(frozen=True, slots=True)
class Scene:
    """A worker, its receiver, and a good endpoint whose events are timed."""

    connection: Any
    receiver: Receiver
    lanes: Lanes
    tenant: str

    async def measure(self, count: int = EVENTS, *, also: Sequence["asyncio.Future[Any]"] = ()) -> Latencies:
        """Insert single events, each after the one before was answered and recorded; at least `count`, and until `also` is done."""
        clock = asyncio.get_running_loop().time
        seconds: list[float] = []
        while len(seconds) < count or not all(work.done() for work in also):
            came = len(self.receiver.at("/good"))
            inserted_at = clock()
            await insert_event(self.connection, "single", tenant=self.tenant)
            *_, request = await self.receiver.wait_for(came + 1, timeout=60, path="/good")
            seconds.append(request.at - inserted_at)
            assert self.lanes.held <= 4 * HELD_PER_LANE
        return Latencies(seconds)


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
@pytest.mark.parametrize("tenant", ["another", "big"], ids=["another tenant", "the same tenant"])
async def test_a_hanging_a_refusing_and_a_flooded_endpoint_slow_nobody_down(
    database: str, connection: Any, tenant: str, record_property: Any
) -> None:
    """Single events arrive as on an idle service, while the 100,000 come in and while they wait."""
    over = asyncio.Event()
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(Receiver())
        producer = await asyncpg.connect(database)
        stack.push_async_callback(producer.close)
        worker = await stack.enter_async_context(working(database, roles=("deliver",), egress__timeout="1s"))
        stack.callback(over.set)
        scene = Scene(connection, receiver, lanes_of(worker), tenant)
        receiver.on("/slow", slowly(over))
        await make_endpoint(connection, f"{receiver.url}/good", tenant=tenant, subscriptions=["single"])
        await make_endpoint(connection, f"{receiver.url}/slow", tenant="big", subscriptions=["bulk"], timeout=60.0)
        await scene.measure(5)  # connections are opened, statements planned

        idle = await scene.measure()
        await make_trouble(connection, receiver)
        troubled = await scene.measure()
        flood = asyncio.ensure_future(insert_events(producer, BACKLOG, "bulk", tenant="big"))
        flooding = await scene.measure(also=[flood])
        spread = asyncio.ensure_future(
            until(lambda: producer.fetchval("select count(*) < 100 from dispatcher.outbox_unread"), timeout=120)
        )
        spreading = await scene.measure(1, also=[spread])
        flooded = await scene.measure()
        still_waiting = await waiting(connection, "big")

    figures = {"idle": idle, "troubled": troubled, "flooding": flooding, "spreading": spreading, "flooded": flooded}
    for name, latencies in figures.items():
        record_property(name, str(latencies))
    said = "; ".join(f"{name}: {latencies}" for name, latencies in figures.items())
    assert still_waiting > 0.9 * BACKLOG
    assert receiver.most_in_flight["/hang"] == 1
    assert all(latencies.median <= SLOWER * idle.median + SLACK for latencies in figures.values()), said
    assert all(latencies.p90 <= SLOWER * idle.p90 + 5 * SLACK for latencies in figures.values()), said
    assert max(spreading.seconds) < (OWN_FLOOD if tenant == "big" else 2.0), said
