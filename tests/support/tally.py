"""Count what arrived where, for tests of many deliveries: nothing lost, nothing twice."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from support.receiver import Behaviour, Exchange, Receiver, head
from support.world import until

Arrival = tuple[UUID, str]
"""An event's id and the path of the endpoint that it came to."""


def delayed(seconds: float, status: int = 204) -> Behaviour:
    """Answer after a while, as subscribers do who work before they answer: many requests are in flight then."""

    async def behave(exchange: Exchange) -> None:
        await exchange.pause(seconds)
        await exchange.send(head(status, {} if status == 204 else {"Content-Length": "0"}))

    return behave


def arrivals(receiver: Receiver, *, since: float = 0.0) -> Counter[Arrival]:
    """How often each event came to each path."""
    return Counter(
        (UUID(request.headers["webhook-id"]), request.path) for request in receiver.received if request.at >= since
    )


def repeated(counted: Counter[Arrival]) -> set[Arrival]:
    """What came more than once."""
    return {arrival for arrival, times in counted.items() if times > 1}


async def recorded(connection: Any) -> set[Arrival]:
    """The deliveries that are written down as delivered, as events and paths."""
    rows = await connection.fetch(
        """
        select finished.event_id, regexp_replace(endpoints.url, '^https?://[^/]+', '') as path
        from dispatcher.finished_deliveries as finished
        join dispatcher.endpoints on endpoints.id = finished.endpoint_id
        where finished.state = 'delivered'
        """
    )
    return {(row["event_id"], row["path"]) for row in rows}


async def expected(connection: Any, paths: Iterable[str]) -> set[Arrival]:
    """All events of the outbox, at each of these paths."""
    events = await connection.fetch("select id from dispatcher.outbox")
    return {(row["id"], path) for path in paths for row in events}


async def settled(connection: Any, count: int, *, timeout: float = 60.0) -> None:
    """Wait until `count` deliveries have ended and none is pending."""
    counts = None
    try:
        async with asyncio.timeout(timeout):
            while counts is None or counts["ended"] < count or counts["pending"] > 0:
                await asyncio.sleep(0.1)  # counting costs the server that delivers: not too often
                counts = await connection.fetchrow(
                    """
                    select
                      (select count(*) from dispatcher.finished_deliveries) as ended,
                      (select count(*) from dispatcher.deliveries) as pending
                    """
                )
    except TimeoutError:
        raise AssertionError(f"{count} deliveries did not end within {timeout} s: {dict(counts or {})}") from None


async def quiet(receiver: Receiver, *, timeout: float = 10.0) -> None:
    """Wait until nothing is in flight at the receiver."""
    await until(lambda: sum(receiver.in_flight.values()) == 0, timeout=timeout, why="the end of the last request")
    await asyncio.sleep(0)
