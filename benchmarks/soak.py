"""Soak: ten minutes at the full rate, with a transaction held open elsewhere for half of them.

Such a transaction (a report, a backup) keeps vacuum from taking dead rows away, which is what makes queues in tables
collapse. A number of deliveries is kept pending, so that the rate is always what the service can do; memory, file
descriptors and dead rows are looked at every few seconds.
"""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Final

import asyncpg

from benchmarks.act import entries, post_bare, read_books
from benchmarks.holding import Look, between, hold
from benchmarks.playing import Play, play
from benchmarks.plot import Chart, Series
from benchmarks.result import Case, Figures, Result, Wish
from benchmarks.stage import Setting, Stage, open_stage
from benchmarks.throughput import warm_up

SLICES: Final = 60
"""Looks in the whole time."""

BEFORE, HELD = 0.25, 0.5
"""Shares of the time before the transaction is opened, and while it is open."""

HOLDING: Final = "a transaction held open"

RECOVERY_SECONDS: Final = 60.0
"""After which all is as before."""

WISHED_RATE: Final = 0.5
WISHED_RECOVERED: Final = 0.9
WISHED_GROWTH: Final = 1.1
"""Of the normal rate in every slice of the held time, and after the recovery; of memory and files, from the first to the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is measured."""

    seconds: float
    pending: int
    """Deliveries that wait at any time."""
    rate: int | None
    """Events a second; null: as many as are delivered."""
    endpoints: int
    size: int
    bare: int
    """Posts of the bare loop, before and again after."""
    deadline: float
    postgres: str


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the time, and what was seen in it."""

    name: str
    looks: tuple[Look, ...]


async def run(options: Options) -> Result:
    """Measure; raises BenchmarkError, above all when a delivery is lost, doubled or badly signed."""
    setting = Setting(
        postgres=options.postgres, endpoints=options.endpoints, size=options.size, deadline=options.deadline
    )
    async with play("soak", options, steps=SLICES) as shown, open_stage(setting) as stage:
        shown.postgres = stage.database.server
        shown.say("measuring the bare loop")
        bare = await post_bare(stage, options.bare)
        async with stage.serving():
            shown.say("warming up")
            await warm_up(stage)
            await stage.expect(0, samples_of=options.bare)
            before = await read_books(stage)
            await stage.insert(options.pending, first=0)
            phases = await _soak(options, stage, shown)
            after = await read_books(stage, settle=0)
        arrivals, verified = await stage.arrivals()
        shown.checked += await stage.check_recorded(arrivals, verified=verified)
        bare += await post_bare(stage, options.bare)
        counted = entries(len(arrivals), before, after)
        cases = [Case(name=phase.name, runs=(bare.beside({**between(phase.looks), **counted}),)) for phase in phases]
        return shown.result(
            f"soak: {options.seconds:g} s, {options.endpoints} endpoints, {options.size} bytes",
            cases,
            wishes=_wishes(phases),
            remarks=[
                "memory, file descriptors and dead tuples: the most of each phase; WAL, statements, log: of all phases"
            ],
            charts=_charts(phases),
        )


async def _soak(options: Options, stage: Stage, shown: Play) -> list[Phase]:
    phases = []
    for name, share in (("before", BEFORE), (HOLDING, HELD), ("after", 1 - BEFORE - HELD)):
        shown.say(name)
        async with AsyncExitStack() as stack:
            if name == HOLDING:
                await stack.enter_async_context(_open_transaction(stage))
            end = time.monotonic() + share * options.seconds
            looks = await hold(
                stage,
                every=options.seconds / SLICES,
                enough=lambda look, end=end: look.clocks.at >= end,  # type: ignore[misc]
                shown=lambda _: shown.step(),
                limit=options.rate,
            )
        phases.append(Phase(name, tuple(looks)))
    return phases


@asynccontextmanager
async def _open_transaction(stage: Stage) -> AsyncIterator[None]:
    """Hold a transaction open that has a number and sees the database as it is now: vacuum must keep all that it could see."""
    connection = await asyncpg.connect(stage.database.url, server_settings={"application_name": "benchmark report"})
    try:
        async with connection.transaction(isolation="repeatable_read"):
            await connection.fetchval("select txid_current()")
            yield
    finally:
        await connection.close()


def _slices(looks: Sequence[Look]) -> list[tuple[float, Figures]]:
    """Sum up each time between two looks; the instant is its end."""
    return [(later.clocks.at, between((earlier, later))) for earlier, later in pairwise(looks)]


def _rates(looks: Sequence[Look]) -> list[float]:
    return [figures["per_second"] or 0.0 for _, figures in _slices(looks)]


def _wishes(phases: Sequence[Phase]) -> list[Wish]:
    before, held, after = (phase.looks for phase in phases)
    normal = median(_rates(before))
    least = min(_rates(held)) / normal
    since = after[0].clocks.at + min(RECOVERY_SECONDS, (after[-1].clocks.at - after[0].clocks.at) / 2)
    recovered = median(_rates([look for look in after if look.clocks.at >= since])) / normal
    dearer = _dearer(held, before)
    return [
        Wish(what="rate of the slowest slice while held, of normal", figure=least, holds=least >= WISHED_RATE),
        Wish(what="rate a minute after, of normal", figure=recovered, holds=recovered >= WISHED_RECOVERED),
        Wish(
            what="all processor time a delivery while held, of normal", figure=dearer, holds=dearer <= 1 / WISHED_RATE
        ),
        _flat("memory", [look.footprint.memory for look in (before[-1], after[-1])]),
        _flat("file descriptors", [look.footprint.files for look in (before[-1], after[-1])]),
        _flat("dead tuples", [max(look.dead_tuples for look in looks[-4:]) for looks in (before, after)], by=2.0),
    ]


def _dearer(held: Sequence[Look], before: Sequence[Look]) -> float:
    """Compare what a delivery takes of dispatcher and Postgres together; a neighbour's load weighs less on that."""
    sums = [
        (figures["dispatcher_cpu"] or 0.0) + (figures["postgres_cpu"] or 0.0)
        for figures in (between(held), between(before))
    ]
    return sums[0] / sums[1]


def _flat(what: str, values: Sequence[float], *, by: float = WISHED_GROWTH) -> Wish:
    growth = values[1] / max(1.0, values[0])
    return Wish(what=f"{what} at the end, of those before", figure=growth, holds=growth <= by)


def _charts(phases: Sequence[Phase]) -> list[Chart]:
    looks = [look for phase in phases for look in phase.looks]
    start = looks[0].clocks.at
    slices = [(at - start, figures) for phase in phases for at, figures in _slices(phase.looks)]
    marks = tuple((phase.looks[0].clocks.at - start, phase.name) for phase in phases)

    def lines(names: Mapping[str, str]) -> tuple[Series, ...]:
        return tuple(
            Series(name, tuple((at, figures[figure] or 0.0) for at, figures in slices))
            for figure, name in names.items()
        )

    return [
        Chart(title=title, across="seconds", series=lines(names), marks=marks)
        for title, names in (
            ("Deliveries a second", {"per_second": "delivered"}),
            ("CPU, microseconds a delivery", {"dispatcher_cpu": "dispatcher", "postgres_cpu": "Postgres"}),
            ("Memory of the worker, MB; file descriptors", {"memory": "memory", "files": "file descriptors"}),
            ("Dead tuples of hot tables", {"dead_tuples": "dead tuples"}),
        )
    ]
