"""Isolation: what good endpoints feel of one that hangs, one that drips, one that refuses and one with a million waiting.

An open stream of events to the good ones, again and again: alone, then beside the bad ones, which are paused in between. So
both are measured within a minute of each other, and a change of the machine's mood weighs on both.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks import events
from benchmarks.act import accounted, post_bare
from benchmarks.errors import BenchmarkError
from benchmarks.playing import Play, play
from benchmarks.plot import Chart, Series
from benchmarks.preload import announce, fill, set_state
from benchmarks.receiver import DRIP, HANG
from benchmarks.result import Case, Figures, Result, Wish
from benchmarks.stage import Arrival, Note, Setting, Stage, open_stage
from benchmarks.throughput import warm_up
from benchmarks.waiting import commit_time, percentile, tell, waits

BEAT: Final = 0.005
"""Seconds between the producer's transactions."""

TROUBLED: Final = 200
"""Events for each of those that hang, drip and refuse, whenever the bad ones come back."""

SETTLE: Final = 2.0
"""Seconds after the bad ones are paused: the service follows within one, and what is in flight ends."""

LOOK_EVERY: Final = 0.1
"""Seconds between looks whether the good ones have got all."""

WISHED: Final = 2.0
"""Times the p99 alone, at most."""

BARE: Final = 5000
"""Posts of the bare loop, before and again after."""

WAITING: Final = """
select exists (select from dispatcher.outbox_unread where tenant = any ($1::text[])) or exists (
  select from dispatcher.endpoints
  cross join lateral (
    select from dispatcher.deliveries
    where (deliveries.shard, deliveries.endpoint_id) >= (endpoints.shard, endpoints.id)
      and (deliveries.shard, deliveries.endpoint_id) <= (endpoints.shard, endpoints.id)
    limit 1
  ) as pending
  where endpoints.tenant = any ($1::text[])
)
"""
"""Whether anything waits for the endpoints of tenants ($1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is measured."""

    good: int
    """Endpoints that answer at once."""
    rate: float
    """Events a second for all of them together."""
    seconds: float
    """Of each stream."""
    waiting: int
    """Deliveries that wait for the one with a backlog."""
    pace: float
    """Seconds that this one takes for each answer."""
    size: int
    runs: int
    deadline: float
    postgres: str


@dataclass(frozen=True, slots=True)
class Stream:
    """What one stream told, but for the arrivals, which come in the end."""

    figures: Figures
    notes: Mapping[bytes, Note]
    late: float


async def run(options: Options) -> Result:
    """Measure; raises BenchmarkError, above all when a delivery is lost, doubled or badly signed."""
    setting = Setting(
        postgres=options.postgres,
        endpoints=options.good + 3,
        refusing=1,
        size=options.size,
        deadline=options.deadline,
    )
    found: dict[str, list[Stream]] = {"alone": [], "beside the bad ones": []}
    async with play("isolation", options, steps=2 * options.runs) as shown, open_stage(setting) as stage:
        shown.postgres = stage.database.server
        bare = await post_bare(stage, BARE)
        shown.say(f"making {options.waiting:,} pending deliveries")
        async with stage.serving():
            await warm_up(stage)
            await _prepare(stage, options)
            await stage.expect(0, samples_of=int(options.rate * options.seconds * options.runs * 2))
            await _stream_in_turn(options, stage, shown, found)
        arrivals, verified = await stage.arrivals()
        shown.checked += await stage.check_recorded(arrivals, verified=verified)
        bare += await post_bare(stage, BARE)
    cases = [
        Case(name=name, runs=tuple(bare.beside(_figures(stream, arrivals)) for stream in streams))
        for name, streams in found.items()
    ]
    return shown.result(
        f"isolation: {options.good} good endpoints, {options.rate:g} events/s, {options.seconds:g} s a stream, "
        f"{options.size} bytes",
        cases,
        wishes=_wishes(cases),
        remarks=_remarks(options, arrivals),
        charts=[_chart(found, arrivals)],
    )


async def _stream_in_turn(options: Options, stage: Stage, shown: Play, found: Mapping[str, list[Stream]]) -> None:
    """Stream alone and beside the bad ones, again and again; in the end all are good."""
    for number in range(options.runs):
        for name, streams in found.items():
            shown.say(f"{name}, run {number + 1} of {options.runs}")
            streams.append(await _stream(stage, options, bad=name != "alone"))
            shown.step()
    await stage.receiver.ask(options.deadline, behave={})


def _remarks(options: Options, arrivals: Sequence[Arrival]) -> list[str]:
    path = events.path(options.good + 2).encode() + b" "
    drained = sum(arrival.key.startswith(path) for arrival in arrivals)
    return [
        f"of the {options.waiting:,} that waited {drained:,} were delivered, at {1e3 * options.pace:g} ms an answer",
        "processor time, WAL and statements are those of the whole service, a delivery to a good endpoint",
    ]


def _bad(options: Options) -> list[str]:
    """Name the tenants of the bad endpoints: hanging, dripping, flooded, refusing."""
    return [events.tenant(options.good + number) for number in range(4)]


async def _prepare(stage: Stage, options: Options) -> None:
    """Pause the bad ones, tell the receiver how they behave, and let the backlog wait."""
    await set_state(stage.connection, _bad(options), "paused")
    behaviours: dict[str, str | float] = {
        events.path(options.good): HANG,
        events.path(options.good + 1): DRIP,
        events.path(options.good + 2): options.pace,
    }
    await stage.receiver.ask(options.deadline, behave=behaviours)
    await fill(stage.connection, options.waiting, tenants=[events.tenant(options.good + 2)], size=options.size)
    await announce(stage.connection, _bad(options))


async def _stream(stage: Stage, options: Options, *, bad: bool) -> Stream:
    """Stream to the good ones; with `bad`, the others come back as it begins, and are paused again in the end."""
    count = int(options.rate * options.seconds)
    if bad:
        await set_state(stage.connection, _bad(options), "active")
        for number in (options.good, options.good + 1, options.good + 3):
            await stage.insert(TROUBLED, endpoints=range(number, number + 1))
    async with accounted(stage, count) as figures:
        notes = await stage.stream(count, rate=options.rate, beat=BEAT, endpoints=options.good)
        await _await_good(stage, options)
    if bad:
        await set_state(stage.connection, _bad(options), "paused")
        await asyncio.sleep(SETTLE)
    return Stream(figures, notes.of, notes.late)


async def _await_good(stage: Stage, options: Options) -> None:
    """Wait until nothing waits for the good ones."""
    good = [events.tenant(number) for number in range(options.good)]
    try:
        async with asyncio.timeout(options.deadline):
            while await stage.connection.fetchval(WAITING, good):  # noqa: ASYNC110 - the database tells no one
                await asyncio.sleep(LOOK_EVERY)
    except TimeoutError:
        raise BenchmarkError(f"The good endpoints had not got all within {options.deadline:g} s.") from None


def _waits(stream: Stream, arrivals: Sequence[Arrival]) -> list[float]:
    """List how long the events of a stream waited; raises BenchmarkError if one did not arrive."""
    mine = [arrival for arrival in arrivals if arrival.key.rpartition(b" ")[2] in stream.notes]
    if len(mine) != len(stream.notes):
        raise BenchmarkError(f"Of {len(stream.notes)} events for good endpoints {len(mine)} arrived.")
    return waits(mine, stream.notes)


def _figures(stream: Stream, arrivals: Sequence[Arrival]) -> Figures:
    return {
        **stream.figures,
        **tell(_waits(stream, arrivals)),
        "per_second": None,
        "producer_late": 1e3 * stream.late,
        "commit": commit_time(stream.notes),
    }


def _wishes(cases: Sequence[Case]) -> list[Wish]:
    alone, beside = (case.median("p99") or 0.0 for case in cases)
    return [
        Wish(
            what="p99 beside the bad ones, of that alone, at most 2",
            figure=beside / alone,
            holds=beside <= WISHED * alone,
        )
    ]


def _chart(found: Mapping[str, Sequence[Stream]], arrivals: Sequence[Arrival]) -> Chart:
    series = []
    for name, streams in found.items():
        ordered = sorted(wait for stream in streams for wait in _waits(stream, arrivals))
        points = tuple((percent / 10, percentile(ordered, percent / 10)) for percent in range(10, 1000, 5))
        series.append(Series(name, (*points, (99.9, percentile(ordered, 99.9)))))
    return Chart(
        title="Commit to arrival at good endpoints, milliseconds", across="percent of all events", series=tuple(series)
    )
