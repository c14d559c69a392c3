"""Throughput: how many deliveries a second, at what cost, and how that compares with a bare aiohttp client loop.

A backlog (the default): the service is warm and idle, one transaction with all events commits, and the clock runs until
the last result is written down. A stream (`rate`): the events come while it works. Each run measures the bare loop too,
half of it before and half after, against the same receiver: the ratio of the two is what a machine's mood and neighbours
change least.
"""

from dataclasses import dataclass
from typing import Final

from benchmarks.act import accounted, in_flight_of, post_bare
from benchmarks.playing import Play, play
from benchmarks.plot import Chart, Series
from benchmarks.result import Case, Figures, Result, Wish
from benchmarks.stage import Setting, Stage, open_stage

WARM_UP_PER_ENDPOINT: Final = 100
MOST_WARM_UP: Final = 5000
"""Events before the first run: enough for lanes to reach their full pace, for connections and prepared statements."""

BEAT: Final = 0.02
"""Seconds between transactions of a steady stream."""

WISHED_RATIO: Final = 1.2
WISHED_RATIO_HTTPS: Final = 1.0
WISHED_POSTGRES_CPU: Final = 40.0
WISHED_STATEMENTS: Final = 0.1
WISHED_WAL_BYTES: Final = 1500.0
"""What the service is meant to keep to at its full rate, with ten endpoints."""


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
    https: bool
    deadline: float
    """Seconds for the delivery of all events of a run."""
    postgres: str


async def run(options: Options) -> Result:
    """Measure; raises BenchmarkError, above all when a delivery is lost, doubled or badly signed."""
    setting = Setting(
        postgres=options.postgres,
        endpoints=options.endpoints,
        size=options.size,
        deadline=options.deadline,
        https=options.https,
    )
    settings = "" if options.in_flight is None else f"[delivery]\nin_flight = {options.in_flight}\n"
    async with play("throughput", options, steps=options.runs) as shown, open_stage(setting) as stage:
        shown.postgres = stage.database.server
        runs = []
        async with stage.serving(settings=settings):
            shown.say("warming up")
            await warm_up(stage)
            for number in range(options.runs):
                shown.say(f"run {number + 1} of {options.runs}")
                runs.append(await _measure(options, stage, shown))
                shown.step()
        load = "a backlog" if options.rate is None else f"a stream of {options.rate} events/s"
        scheme = "https" if options.https else "http"
        case = Case(name=f"{options.endpoints} endpoints, {scheme}", runs=tuple(runs))
        in_flight = options.in_flight or in_flight_of(options.endpoints)
        return shown.result(
            f"throughput: {options.events} events, {load}, {options.size} bytes",
            [case],
            wishes=_wishes(case, options),
            remarks=[f"{in_flight} requests in flight at most, of the service and of the bare loop"],
            charts=[_chart(case)],
        )


async def warm_up(stage: Stage) -> None:
    """Bring the service to its full pace."""
    count = min(MOST_WARM_UP, WARM_UP_PER_ENDPOINT * stage.setting.endpoints)
    await stage.expect(count)
    await stage.prepare(count)
    await stage.commit()
    await stage.all_delivered()


async def deliver_backlog(stage: Stage, shown: Play, count: int) -> Figures:
    """Let the service deliver what one commit shows it, and check that; it is warm and idle."""
    await stage.expect(count)
    await stage.prepare(count)
    async with accounted(stage, count) as figures:
        await stage.commit()
        await stage.all_delivered()
    arrivals, verified = await stage.arrivals()
    shown.checked += await stage.check_written(arrivals, verified=verified)
    return figures


async def _deliver_stream(stage: Stage, shown: Play, count: int, *, rate: float) -> Figures:
    await stage.expect(count)
    async with accounted(stage, count) as figures:
        await stage.stream(count, rate=rate, beat=BEAT)
        await stage.all_delivered()
    arrivals, verified = await stage.arrivals()
    shown.checked += await stage.check_written(arrivals, verified=verified)
    return figures


async def _measure(options: Options, stage: Stage, shown: Play) -> Figures:
    """Measure the service between two halves of the bare loop, so that what changes meanwhile weighs on both."""
    half = (options.events + 1) // 2
    bare = await post_bare(stage, half, in_flight=options.in_flight)
    if options.rate is None:
        found = await deliver_backlog(stage, shown, options.events)
    else:
        found = await _deliver_stream(stage, shown, options.events, rate=options.rate)
    bare += await post_bare(stage, half, in_flight=options.in_flight)
    return bare.beside(found)


def _wishes(case: Case, options: Options) -> list[Wish]:
    if options.rate is not None:
        return []
    least = WISHED_RATIO_HTTPS if options.https else WISHED_RATIO
    wishes = [Wish(what=f"ratio at least {least}", figure=(ratio := case.median("ratio") or 0.0), holds=ratio >= least)]
    for figure, what, most in (
        ("postgres_cpu", "Postgres CPU at most 40 µs a delivery", WISHED_POSTGRES_CPU),
        ("statements", "statements at most 0.1 a delivery", WISHED_STATEMENTS),
        ("wal_bytes", "WAL at most 1,500 bytes a delivery", WISHED_WAL_BYTES),
    ):
        value = case.median(figure)
        if value is not None:
            wishes.append(Wish(what=what, figure=value, holds=value <= most))
    return wishes


def _chart(case: Case) -> Chart:
    names = {
        "dispatcher_cpu": "dispatcher",
        "postgres_cpu": "Postgres",
        "receiver_cpu": "receiver",
        "bare_cpu": "bare loop",
    }
    return Chart(
        title="CPU of each process group, microseconds a delivery or post",
        across="run",
        series=tuple(
            Series(name, tuple((float(number + 1), value) for number, value in enumerate(case.values(figure))))
            for figure, name in names.items()
            if case.values(figure)
        ),
    )
