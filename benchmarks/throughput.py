"""Throughput: how many deliveries a second, at what cost, and how that compares with a bare aiohttp client loop.

A backlog (the default): the service is warm and idle, one transaction with all events commits, and the clock runs until
the last result is written down. A stream (`rate`): the events come while it works. Each run measures the bare loop too,
half of it before and half after, against the same receiver: the ratio of the two is what a machine's mood and neighbours
change least.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks import measure
from benchmarks.children import Child, child
from benchmarks.errors import BenchmarkError
from benchmarks.stage import Arrivals, Stage, open_stage

LANE_IN_FLIGHT: Final = 64
TOTAL_IN_FLIGHT: Final = 512
"""The service's own defaults for requests at once, to one endpoint and in all."""

WARM_UP_PER_ENDPOINT: Final = 100
MOST_WARM_UP: Final = 5000
"""Events before the first run: enough for lanes to reach their full pace, for connections and prepared statements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is measured."""

    events: int
    endpoints: int
    size: int
    """Bytes of a body."""
    runs: int
    in_flight: int | None
    """Requests at once; null: the service's default, and what of it these endpoints can get for the bare loop."""
    rate: int | None
    """Events a second; null: all at once."""
    deadline: float
    """Seconds for the delivery of all events of a run."""
    postgres: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The figures of one run; processor times are microseconds, all but the rates are per delivery or post."""

    deliveries_per_second: float
    dispatcher_cpu: float
    postgres_cpu: float | None
    """Null where the server's processes cannot be seen. In a stream it holds the inserts, too."""
    wal_bytes: float
    transactions: float
    statements: float | None
    """Null without pg_stat_statements."""
    results_per_record: float
    """Results that one transaction writes down, on average."""
    log_bytes: float
    bare_posts_per_second: float
    bare_cpu: float
    ratio: float
    """Deliveries per second of the service's processor time, over posts per second of the bare loop's."""
    delivered: int
    lost: int
    duplicates: int
    verified: int
    """Requests whose signature was checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The figures of all runs, and what they were measured on."""

    benchmark: str
    at: datetime
    options: Options
    machine: Mapping[str, str | int | float]
    postgres: str
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Bare:
    """What the bare loop did."""

    posts: int
    seconds: float
    cpu_seconds: float

    def __add__(self, other: "Bare") -> "Bare":
        return Bare(self.posts + other.posts, self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds)


@dataclass(frozen=True, slots=True)
class Clocks:
    """What is read off the moment the service begins, and the moment it is done."""

    at: float
    dispatcher_cpu: float
    postgres_cpu: float | None


@dataclass(frozen=True, slots=True)
class Books:
    """What is read off before and after, at leisure."""

    counts: measure.Counts
    results: float
    records: float
    log_bytes: int


@dataclass(frozen=True, slots=True)
class Served:
    """What the service did."""

    begun: Clocks
    done: Clocks
    before: Books
    after: Books
    arrivals: Arrivals


def bare_in_flight(options: Options) -> int:
    """Return how many requests the bare loop has in flight: as many as the service can have at once."""
    return options.in_flight or min(TOTAL_IN_FLIGHT, LANE_IN_FLIGHT * options.endpoints)


async def run(options: Options) -> Result:
    """Measure; raises BenchmarkError, above all when a delivery is lost, doubled or badly signed."""
    bar = Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=Console(stderr=True))
    machine = measure.machine()
    runs: list[Run] = []
    with bar:
        task = bar.add_task("setting the stage")
        async with (
            child("bare") as bare,
            open_stage(
                postgres=options.postgres,
                endpoints=options.endpoints,
                size=options.size,
                in_flight=options.in_flight,
                deadline=options.deadline,
            ) as stage,
        ):
            bar.update(task, description="warming up")
            await _warm_up(stage)
            for number in range(options.runs):
                bar.update(task, description=f"run {number + 1} of {options.runs}")
                runs.append(await _measure(options, stage, bare))
            if complaints := stage.service.complaints():
                raise BenchmarkError(f"The service complained: {', '.join(sorted(set(complaints)))}.")
            server = stage.database.server
    return Result(
        benchmark="throughput",
        at=datetime.now(UTC),
        options=options,
        machine=machine,
        postgres=server,
        runs=tuple(runs),
    )


async def _warm_up(stage: Stage) -> None:
    """Bring the service to its full pace."""
    count = min(MOST_WARM_UP, WARM_UP_PER_ENDPOINT * len(stage.urls))
    await stage.expect(count)
    await stage.prepare(count)
    await stage.commit()
    await stage.all_delivered()


async def _measure(options: Options, stage: Stage, bare: Child) -> Run:
    """Measure the service between two halves of the bare loop, so that what changes meanwhile weighs on both."""
    before = await _measure_bare(options, stage, bare, count=(options.events + 1) // 2)
    served = await _measure_service(options, stage)
    after = await _measure_bare(options, stage, bare, count=(options.events + 1) // 2)
    served.arrivals.demand()
    return _figures(served, before + after)


async def _measure_bare(options: Options, stage: Stage, bare: Child, *, count: int) -> Bare:
    in_flight = bare_in_flight(options)
    await stage.expect(0)
    answer = await bare.ask(
        options.deadline,
        urls=stage.urls,
        count=count,
        warm_up=2 * in_flight,
        size=options.size,
        in_flight=in_flight,
    )
    return Bare(count, answer["seconds"], answer["cpu"])


async def _measure_service(options: Options, stage: Stage) -> Served:
    await stage.expect(options.events)
    if options.rate is None:
        await stage.prepare(options.events)
    before = await _books(stage)
    begun = _clocks(stage)
    if options.rate is None:
        await stage.commit()
    else:
        await stage.stream(options.events, rate=options.rate)
    await stage.all_delivered()
    done = _clocks(stage)
    return Served(begun, done, before, await _books(stage), await stage.arrivals())


def _clocks(stage: Stage) -> Clocks:
    postgres = stage.database.pid
    return Clocks(
        at=time.perf_counter(),
        dispatcher_cpu=measure.cpu_seconds(stage.service.pid),
        postgres_cpu=None if postgres is None else measure.cpu_seconds(postgres),
    )


async def _books(stage: Stage) -> Books:
    await asyncio.sleep(measure.STATISTICS_DELAY)
    metrics = await stage.service.metrics()
    return Books(
        counts=await measure.read_counts(stage.connection),
        results=measure.metric(metrics, "dispatcher_record_batch_size_sum"),
        records=measure.metric(metrics, "dispatcher_record_batch_size_count"),
        log_bytes=stage.service.log.stat().st_size,
    )


def _figures(served: Served, bare: Bare) -> Run:
    count = served.arrivals.delivered
    begun, done, before, after = served.begun, served.done, served.before, served.after
    counts = after.counts.since(before.counts)
    bare_cpu = 1e6 * bare.cpu_seconds / bare.posts
    dispatcher_cpu = 1e6 * (done.dispatcher_cpu - begun.dispatcher_cpu) / count
    postgres_cpu = None
    if done.postgres_cpu is not None and begun.postgres_cpu is not None:
        postgres_cpu = 1e6 * (done.postgres_cpu - begun.postgres_cpu) / count
    return Run(
        deliveries_per_second=count / (done.at - begun.at),
        dispatcher_cpu=dispatcher_cpu,
        postgres_cpu=postgres_cpu,
        wal_bytes=counts.wal_bytes / count,
        transactions=counts.transactions / count,
        statements=None if counts.statements is None else counts.statements / count,
        results_per_record=(after.results - before.results) / max(1.0, after.records - before.records),
        log_bytes=(after.log_bytes - before.log_bytes) / count,
        bare_posts_per_second=bare.posts / bare.seconds,
        bare_cpu=bare_cpu,
        ratio=bare_cpu / dispatcher_cpu,
        delivered=count,
        lost=served.arrivals.lost,
        duplicates=served.arrivals.duplicates,
        verified=served.arrivals.verified,
    )
