"""The part of an internal system: writes events with plain SQL, in one transaction, at a steady rate, or some at a time."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any, Final

import asyncpg

from benchmarks import events
from benchmarks.children import play, requests, say

BATCH: Final = 500
"""Events a statement, when there is no hurry."""

INSERT: Final = """
insert into dispatcher.outbox (tenant, event_type, payload)
select tenant, event_type, payload from unnest($1::text[], $2::text[], $3::json[]) as new (tenant, event_type, payload)
returning id::text
"""


async def insert(connection: Any, numbers: range, wanted: dict[str, Any]) -> list[str]:
    """Write some events in one statement, endpoint by endpoint in turn; returns their ids in order."""
    endpoints, size, first = wanted["endpoints"], wanted["size"], wanted.get("first", 0)
    rows = await connection.fetch(
        INSERT,
        [events.tenant(first + number % endpoints) for number in numbers],
        [events.EVENT_TYPE] * len(numbers),
        [events.payload(number, size) for number in numbers],
    )
    return [row["id"] for row in rows]


async def stage(connection: Any, wanted: dict[str, Any]) -> Any:
    """Write events that nobody sees before the transaction is committed; returns it."""
    transaction = connection.transaction()
    await transaction.start()
    await insert_all(connection, wanted)
    return transaction


async def insert_all(connection: Any, wanted: dict[str, Any]) -> None:
    """Write as many as wanted, from the number on that comes next."""
    begin, end = wanted.get("from", 0), wanted.get("from", 0) + wanted["events"]
    for first in range(begin, end, BATCH):
        await insert(connection, range(first, min(first + BATCH, end)), wanted)


async def stream(connection: Any, wanted: dict[str, Any]) -> float:
    """Write events at a steady rate, a transaction every `beat` seconds, whatever becomes of them.

    Notes of each event when its commit began and when that had returned. A producer that falls behind catches up, and
    leaves nothing out. Returns how far it fell behind at most, in seconds.
    """
    count, rate, beat = wanted["events"], wanted["rate"], wanted["beat"]
    started, written, late = time.monotonic(), 0, 0.0
    notes: list[str] = []
    while written < count:
        due = min(count, int((time.monotonic() - started) * rate) + 1)
        numbers = range(written, due)
        if numbers:
            async with connection.transaction():
                ids = await insert(connection, numbers, wanted)
                begun = time.monotonic()
            done = time.monotonic()
            notes += [f"{id_} {begun:.6f} {done:.6f}\n" for id_ in ids]
            late = max(late, begun - started - written / rate)
            written = due
        await asyncio.sleep(max(0.0, beat - (time.monotonic() - started) % beat))
    Path(wanted["notes"]).write_text("".join(notes))  # noqa: ASYNC240 - there is nothing else to do
    return late


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
                at = time.monotonic()
                await staged.commit()
                say(at=at)
            case {"insert": wanted}:
                await insert_all(connection, wanted)
                say(written=wanted["events"])
            case {"stream": wanted}:
                say(late=await stream(connection, wanted))
    await connection.close()


if __name__ == "__main__":
    play(serve)
