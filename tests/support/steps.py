"""A worker's steps, run one by one by a test: nothing waits, nothing happens by itself.

async with stepping(database, clock) as worker:
    await worker.run("fanout", "pulling", "send")
    worker.answer(204)
    await worker.run("record")
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import uuid4

from dispatcher.clock import Clock
from dispatcher.egress import Request
from dispatcher.engine import Engine
from dispatcher.lanes import Lanes
from dispatcher.metrics import Metrics
from dispatcher.model import Answered, Outcome
from dispatcher.store.pool import Pool
from dispatcher.store.shards import Worker as Identity
from dispatcher.worker import open_worker_pool
from support.clock import FakeClock
from support.world import settings_for

MONTH = 30 * 86400.0


def early_clock() -> FakeClock:
    """A clock that begins a month ago: what the database stamps by its own is always later than what this one has shown."""
    return FakeClock(time.time() - MONTH)


def instant(clock: FakeClock, seconds: float = 0.0) -> datetime:
    """An instant so many seconds from the clock's now."""
    return datetime.fromtimestamp(clock.now() + seconds, UTC)


WAY = ("fanout", "pulling", "send")
"""The way of an event up to its request."""


def answered(status: int = 204, **headers: str) -> Answered:
    """An answer; `Retry_After="7"` gives it a header."""
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Answered(status, pairs, b"", False, 0.01, None)


def told(done: Callable[[Outcome | Exception], None]) -> asyncio.Future[Outcome]:
    """A future whose result, or failure, somebody is told, unless it is cancelled."""
    future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def tell(ended: asyncio.Future[Outcome]) -> None:
        if not ended.cancelled():
            failure = ended.exception()
            done(failure if isinstance(failure, Exception) else ended.result())

    future.add_done_callback(tell)
    return future


class HeldSender:
    """A sender whose requests wait until the test answers them."""

    def __init__(self) -> None:
        self.sent: list[Request] = []
        """All requests so far."""
        self.waiting: list[tuple[Request, asyncio.Future[Outcome]]] = []

    def begin(self, request: Request, done: Callable[[Outcome | Exception], None]) -> asyncio.Future[Outcome]:
        """Wait for an answer."""
        future = told(done)
        self.sent.append(request)
        self.waiting.append((request, future))
        return future

    async def close(self) -> None:
        """Nothing is open."""


class SteppedWorker:
    """An engine, its sender, and the steps by their names."""

    def __init__(self, engine: Engine, sender: HeldSender, metrics: Metrics, connection: Any) -> None:
        self.engine = engine
        self.sender = sender
        self.metrics = metrics
        self._connection = connection

    @property
    def lanes(self) -> Lanes:
        """What it holds in memory."""
        return self.engine._lanes

    async def run(self, *names: str) -> int:
        """Run steps once each, in this order; return how much they did."""
        done = 0
        for name in names:
            done += await getattr(self.engine, name).run_once()
            await turn()
        return done

    async def answer(self, outcome: Outcome, count: int | None = None) -> int:
        """Answer the requests that have waited longest, all of them or `count`; return how many there were."""
        due = self.sender.waiting[:count]
        del self.sender.waiting[:count]
        for _, future in due:
            if not future.done():
                future.set_result(outcome)
        await turn()
        return len(due)

    async def deliver_all(self, outcome: Outcome | None = None) -> None:
        """Go on until there is nothing to do, every request answered in the same way."""
        idle = 0
        while idle < 2:
            done = await self.run(*WAY)
            done += await self.answer(outcome or answered())
            done += await self.run("record", "reap")
            idle = 0 if done else idle + 1

    async def die(self) -> None:
        """Stop as a killed process does; its leases run out at once."""
        self.engine.send._stopped = True
        for _, flight in tuple(self.engine.send._flights.values()):
            flight.cancel()
        await turn()
        await self._connection.execute("delete from dispatcher.workers")
        await self._connection.execute("update dispatcher.shard_leases set expires_at = '-infinity'")

    def overtaken(self, table: str) -> float:
        """What was found that nobody had thought of."""
        return self.metrics.registry.get_sample_value("dispatcher_overtaken_rows_total", {"table": table}) or 0.0


@asynccontextmanager
async def stepping(database: str, clock: Clock, **variables: str) -> AsyncIterator[SteppedWorker]:
    """A worker that owns all shards and has looked at all endpoints once."""
    settings = settings_for(database, shards__lease="100000s", **variables)
    pool: Pool = await open_worker_pool(settings, database)
    sender, metrics = HeldSender(), Metrics()
    engine = Engine(
        settings,
        pool,
        identity=Identity(id=uuid4(), host="here", pid=1, roles=("deliver",), release="test"),
        sender=sender,
        wake=lambda _: None,
        clock=clock,
        random=Random(1),
        metrics=metrics,
    )
    try:
        async with pool.acquire() as connection:
            worker = SteppedWorker(engine, sender, metrics, connection)
            await worker.run("shards", "refresh")
            yield worker
            await worker.die()
    finally:
        pool.terminate()


async def turn() -> None:
    """Let tasks that can go on go on."""
    for _ in range(5):
        await asyncio.sleep(0)


def webhook_ids(requests: Sequence[Request]) -> list[str]:
    """The events that were sent, in order."""
    return [request.headers["webhook-id"] for request in requests]
