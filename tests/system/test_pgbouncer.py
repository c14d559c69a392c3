"""All works through PgBouncer in transaction mode: no LISTEN, no prepared statements, no session."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest

from dispatcher.embedded import EmbeddedPostgres
from support.command_line import command_line
from support.latency import measure
from support.pgbouncer import pooling, program
from support.receiver import Receiver, answer
from support.serving import Serving, serving
from support.world import finished, insert_event, insert_events, make_endpoint, working

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(program() is None, reason="no PgBouncer on this machine (Debian: apt-get install pgbouncer)"),
]

EVENTS = 2000
"""Shared by two processes, so that many statements of many clients meet in a few server connections."""


@pytest.fixture
async def pooled(postgres_server: EmbeddedPostgres, database: str) -> AsyncIterator[str]:
    """The URL of `database` through PgBouncer."""
    async with pooling(postgres_server, urlsplit(database).path.removeprefix("/")) as url:
        yield url


def faults(services: Sequence[Serving]) -> list[Any]:
    """What the processes said that they should not have."""
    wrong = ("step.failed", "database.lost", "results.refused", "result.dropped", "shards.lost", "deliveries.overtaken")
    return [line for service in services for line in service.lines if line["event"] in wrong]


async def test_two_processes_share_the_work(pooled: str, connection: Any) -> None:
    """Each event is delivered once; nobody stumbles over somebody else's statement."""
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(Receiver())
        for number in range(40):
            await make_endpoint(connection, f"{receiver.url}/{number}", tenant=f"tenant-{number}")
        services = [
            await stack.enter_async_context(serving(pooled, database__pgbouncer="true", workers=2)) for _ in range(2)
        ]
        for number in range(40):
            await insert_events(connection, EVENTS // 40, tenant=f"tenant-{number}")

        deliveries = await finished(connection, EVENTS, timeout=60)
        codes = [await service.terminate() for service in services]

    assert faults(services) == []
    assert codes == [0, 0]
    assert {row["state"] for row in deliveries} == {"delivered"}
    assert len(receiver.received) == len({request.headers["webhook-id"] for request in receiver.received}) == EVENTS


async def test_retries_and_order_hold(pooled: str, connection: Any) -> None:
    """What fails is retried by its schedule; deliveries with one ordering key go one after the other."""
    async with Receiver() as receiver, working(pooled, database__pgbouncer="true", retry__schedule="50ms,50ms"):
        receiver.on("/hook", answer(500), answer(204), answer(400), answer(204))
        await make_endpoint(connection, f"{receiver.url}/hook")
        ids = [str(await insert_event(connection, ordering_key="k")) for _ in range(5)]

        deliveries = await finished(connection, 5)

    came = [request.headers["webhook-id"] for request in receiver.received]
    assert came == [ids[0], ids[0], ids[1], ids[1], *ids[2:]]
    assert [(row["state"], row["attempts"]) for row in deliveries] == [("delivered", n) for n in (2, 2, 1, 1, 1)]


async def test_an_idle_service_posts_within_tens_of_milliseconds(pooled: str, connection: Any) -> None:
    """Polling alone is fast enough for one event now and then."""
    async with Receiver() as receiver, working(pooled, database__pgbouncer="true"):
        await make_endpoint(connection, f"{receiver.url}/good")
        await measure(connection, receiver, tenant="acme", count=3)

        latencies = await measure(connection, receiver, tenant="acme", count=20)

    assert latencies.median < 0.15, str(latencies)


async def test_the_command_line_works(pooled: str, connection: Any) -> None:
    """Migrating, registering, sending and looking go through PgBouncer, too."""
    dispatcher = command_line(
        pooled, DATABASE__PGBOUNCER="true", EGRESS__HTTPS_ONLY="false", EGRESS__ALLOW_SUBNETS="127.0.0.0/8"
    )

    async def run(*arguments: str) -> Any:
        return (await asyncio.to_thread(dispatcher.process, *arguments, "--json")).json

    async with Receiver() as receiver, working(pooled, database__pgbouncer="true"):
        assert (await asyncio.to_thread(dispatcher.process, "migrate")).code == 0
        await run("tenant", "create", "acme")
        webhook = await run(
            "webhook", "create", "--tenant", "acme", "--url", f"{receiver.url}/hook", "--subscriptions", "a.b"
        )
        event = await run("event", "send", "--tenant", "acme", "--type", "a.b", "--payload", json.dumps({"n": 1}))
        await finished(connection)
        listed = await run("delivery", "list", "--webhook", webhook["id"])

    assert [request.headers["webhook-id"] for request in receiver.received] == [event["id"]]
    assert "delivered" in json.dumps(listed)
