"""What one act of a benchmark costs: every process group's time and Postgres' counts, beside a bare client loop's."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from benchmarks import measure
from benchmarks.result import Figures, ratio
from benchmarks.stage import Stage

LANE_IN_FLIGHT: Final = 64
TOTAL_IN_FLIGHT: Final = 512
"""The service's own defaults for requests at once, to one endpoint and in all."""


@dataclass(frozen=True, slots=True)
class Bare:
    """What the bare loop did."""

    posts: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def __add__(self, other: "Bare") -> "Bare":
        return Bare(self.posts + other.posts, self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds)

    def beside(self, figures: Figures) -> Figures:
        """Add what the loop took to the figures of some deliveries, and the ratio of the two."""
        cpu = 1e6 * self.cpu_seconds / self.posts
        return {
            **figures,
            "bare_per_second": self.posts / self.seconds,
            "bare_cpu": cpu,
            "ratio": ratio(cpu, figures["dispatcher_cpu"]),
        }


def in_flight_of(endpoints: int) -> int:
    """Return how many requests the bare loop has in flight: as many as the service can have at once."""
    return min(TOTAL_IN_FLIGHT, LANE_IN_FLIGHT * endpoints)


async def post_bare(stage: Stage, count: int, *, in_flight: int | None = None) -> Bare:
    """Let the bare loop post to the same receiver, which forgets what it got before and gets now."""
    urls = stage.urls[: stage.setting.endpoints]
    in_flight = in_flight or in_flight_of(len(urls))
    await stage.expect(0)
    answer = await stage.bare.ask(
        stage.setting.deadline,
        urls=urls,
        count=count,
        warm_up=2 * in_flight,
        size=stage.setting.size,
        in_flight=in_flight,
    )
    return Bare(count, answer["seconds"], answer["cpu"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """What is read off in an instant: seconds of processor time, of each group of processes."""

    at: float
    dispatcher: float
    postgres: float | None
    receiver: float
    producer: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What is read off before and after, at leisure."""

    counts: measure.Counts
    results: float
    records: float
    log_bytes: int


def read_clocks(stage: Stage) -> Clocks:
    """Read the processor time of all."""
    postgres = stage.database.pid
    return Clocks(
        at=time.monotonic(),
        dispatcher=measure.cpu_seconds(stage.service.pid),
        postgres=None if postgres is None else measure.cpu_seconds(postgres),
        receiver=measure.cpu_seconds(stage.receiver.pid),
        producer=measure.cpu_seconds(stage.producer.pid),
    )


async def read_books(stage: Stage, *, settle: float = measure.STATISTICS_DELAY) -> Books:
    """Read what is counted, `settle` seconds from now: by then every backend has reported."""
    await asyncio.sleep(settle)
    metrics = await stage.service.metrics()
    return Books(
        counts=await measure.read_counts(stage.connection, stage.database.log),
        results=measure.metric(metrics, "dispatcher_record_batch_size_sum"),
        records=measure.metric(metrics, "dispatcher_record_batch_size_count"),
        log_bytes=stage.service.log.stat().st_size,
    )


def costs(count: int, begun: Clocks, done: Clocks) -> Figures:
    """Tell what `count` deliveries took between two readings of the clocks: their rate, and microseconds of each."""

    def cpu(earlier: float | None, later: float | None) -> float | None:
        return None if earlier is None or later is None else 1e6 * (later - earlier) / count

    return {
        "per_second": count / (done.at - begun.at),
        "dispatcher_cpu": cpu(begun.dispatcher, done.dispatcher),
        "postgres_cpu": cpu(begun.postgres, done.postgres),
        "receiver_cpu": cpu(begun.receiver, done.receiver),
        "producer_cpu": cpu(begun.producer, done.producer),
    }


def entries(count: int, before: Books, after: Books) -> Figures:
    """Tell what each of `count` deliveries added to the books."""
    counts = after.counts.since(before.counts)
    return {
        "wal_bytes": counts.wal_bytes / count,
        "transactions": counts.transactions / count,
        "statements": None if counts.statements is None else counts.statements / count,
        "results_per_record": (after.results - before.results) / max(1.0, after.records - before.records),
        "log_bytes": (after.log_bytes - before.log_bytes) / count,
    }


@asynccontextmanager
async def accounted(stage: Stage, count: int) -> AsyncIterator[dict[str, float | None]]:
    """Fill in what `count` deliveries take while this is open, and what they add to the books."""
    figures: dict[str, float | None] = {}
    before, begun = await read_books(stage), read_clocks(stage)
    yield figures
    done, after = read_clocks(stage), await read_books(stage)
    figures |= {**costs(count, begun, done), **entries(count, before, after)}
