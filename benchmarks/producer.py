"""The part of an internal system: writes events with plain SQL, all in one transaction or at a steady rate."""

import asyncio
import sys
import time
from typing import Any, Final

import asyncpg

from benchmarks import events
from benchmarks.children import play, requests, say

BATCH: Final = 500
"""Events a statement, when there is no hurry."""

BEAT: Final = 0.02
"""Seconds between transactions of a steady stream."""

INSERT: Final = """
insert into dispatcher.outbox (tenant, event_type, payload)
select tenant, event_type, payload from unnest($1::text[], $2::text[], $3::json[]) as new (tenant, event_type, payload)
"""


async def insert(connection: Any, numbers: range, *, endpoints: int, size: int) -> None:
    """Write some events in one statement."""
    await connection.execute(
        INSERT,
        [events.tenant(number % endpoints) for number in numbers],
        [events.EVENT_TYPE] * len(numbers),
        [events.payload(number, size) for number in numbers],
    )


async def stage(connection: Any, request: dict[str, Any]) -> Any:
    """Write events that nobody sees before the transaction is committed; returns it."""
    transaction = connection.transaction()
    await transaction.start()
    count = request["events"]
    for first in range(0, count, BATCH):
        numbers = range(first, min(first + BATCH, count))
        await insert(connection, numbers, endpoints=request["endpoints"], size=request["size"])
    return transaction


async def stream(connection: Any, request: dict[str, Any]) -> None:
    """Write events at a steady rate, a transaction every `BEAT`."""
    count, rate = request["events"], request["rate"]
    started, written = time.monotonic(), 0
    while written < count:
        due = min(count, int((time.monotonic() - started + BEAT) * rate))
        if due > written:
            await insert(connection, range(written, due), endpoints=request["endpoints"], size=request["size"])
            written = due
        await asyncio.sleep(BEAT)


async def serve() -> None:
    """Write when told to."""
    connection = await asyncpg.connect(sys.argv[1], server_settings={"application_name": "benchmark producer"})
    staged: Any = None
    say(ready=True)
    async for request in requests():
        match request:
            case {"stage": wanted}:
                staged = await stage(connection, wanted)
                say(staged=wanted["events"])
            case {"commit": True}:
                await staged.commit()
                say(committed=True)
            case {"stream": wanted}:
                await stream(connection, wanted)
                say(written=wanted["events"])
    await connection.close()


if __name__ == "__main__":
    play(serve)
