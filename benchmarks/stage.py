"""The stage of a benchmark: a database, subscribers, a producer and the service itself, all real processes.

What is counted and compared is left to each benchmark.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from benchmarks import events, subscribers
from benchmarks.children import Child, child
from benchmarks.errors import BenchmarkError
from benchmarks.postgres import Database, open_database, open_folder
from benchmarks.service import Service, serve

SAMPLES: Final = 50
"""Requests whose signature is checked, of all that are expected at a time."""

LOOK_EVERY: Final = 0.02
"""Seconds between looks whether all results are written down."""

START_SECONDS: Final = 30.0
"""For a part to begin."""

ALL_WRITTEN: Final = """
select not exists (select from dispatcher.outbox_unread) and not exists (select from dispatcher.deliveries)
"""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What arrived of what was written; each number but the first and the last ought to be 0."""

    delivered: int
    lost: int
    duplicates: int
    strangers: int
    """Requests for events that nobody wrote, or to the wrong endpoint."""
    verified: int
    """Requests whose signature was checked, and is good."""

    def demand(self) -> None:
        """Raise BenchmarkError unless each delivery arrived once."""
        if self.lost or self.duplicates or self.strangers:
            raise BenchmarkError(
                f"Of {self.delivered + self.lost} deliveries {self.lost} were lost; {self.duplicates} duplicates and "
                f"{self.strangers} requests that nobody wrote arrived."
            )


@dataclass(slots=True)
class Stage:
    """All who play a part."""

    database: Database
    connection: Any
    """To the database, for looks at it; in no transaction."""
    urls: list[str]
    size: int
    deadline: float
    receiver: Child
    producer: Child
    service: Service
    _since: datetime | None = None

    async def expect(self, count: int) -> None:
        """Begin anew: let the receiver forget what came, and wait for `count` requests."""
        self._since = await self.connection.fetchval("select clock_timestamp()")
        sample_every = max(1, count // SAMPLES) if count else 0
        await self.receiver.ask(START_SECONDS, expect=count, sample_every=sample_every)

    async def prepare(self, count: int) -> None:
        """Write events in a transaction that `commit` will end."""
        await self.producer.ask(self.deadline, stage=self._wanted(count))

    async def commit(self) -> None:
        """Let everyone see the prepared events."""
        await self.producer.ask(self.deadline, commit=True)

    async def stream(self, count: int, *, rate: float) -> None:
        """Write events at a steady rate; returns when the last one is committed."""
        await self.producer.ask(self.deadline, stream={**self._wanted(count), "rate": rate})

    def _wanted(self, count: int) -> dict[str, Any]:
        return {"events": count, "endpoints": len(self.urls), "size": self.size}

    async def all_delivered(self) -> None:
        """Wait until all that is expected has arrived and is written down."""
        await self.receiver.hear(self.deadline)
        try:
            async with asyncio.timeout(self.deadline):
                while not await self.connection.fetchval(ALL_WRITTEN):  # noqa: ASYNC110 - the database tells no one
                    await asyncio.sleep(LOOK_EVERY)
        except TimeoutError:
            raise BenchmarkError("All arrived, but not all results were written down in time.") from None

    async def arrivals(self) -> Arrivals:
        """Compare what arrived with what was written since `expect`."""
        with open_folder() as folder:
            report = await self.receiver.ask(START_SECONDS, report=str(folder / "arrived"))
            arrived = (folder / "arrived").read_bytes().splitlines()
        rows = await self.connection.fetch(
            "select tenant, id::text from dispatcher.outbox where inserted_at >= $1", self._since
        )
        paths = {events.tenant(endpoint): events.path(endpoint) for endpoint in range(len(self.urls))}
        written = {f"{paths[row['tenant']]} {row['id']}".encode() for row in rows}
        distinct = set(arrived)
        return Arrivals(
            delivered=len(distinct & written),
            lost=len(written - distinct),
            duplicates=len(arrived) - len(distinct),
            strangers=len(distinct - written),
            verified=subscribers.verify(report["samples"], size=self.size),
        )


@asynccontextmanager
async def open_stage(
    *, postgres: str, endpoints: int, size: int, deadline: float, in_flight: int | None = None
) -> AsyncIterator[Stage]:
    """Set the stage: `endpoints` subscribers at one receiver, bodies of `size` bytes, `deadline` seconds for each act.

    `in_flight`: the service's requests at once, where it shall not be the default.
    """
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(postgres))
        folder = stack.enter_context(open_folder())
        connection = await asyncpg.connect(database.url, server_settings={"application_name": "benchmark"})
        stack.push_async_callback(connection.close)
        receiver = await stack.enter_async_context(child("receiver"))
        urls = subscribers.urls((await receiver.hear(START_SECONDS))["port"], endpoints)
        await subscribers.create(connection, urls)
        producer = await stack.enter_async_context(child("producer", database.url))
        await producer.hear(START_SECONDS)
        service = await stack.enter_async_context(serve(database.url, folder, in_flight=in_flight))
        yield Stage(database, connection, urls, size, deadline, receiver, producer, service)
