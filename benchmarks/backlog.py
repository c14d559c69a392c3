"""Backlog: whether a delivery costs the same with a thousand, a million or ten million others waiting.

Each size has a database and a service of its own. So many deliveries wait when the service starts; from then on as many
events are written as arrive, so that the work is the same and only what waits differs. The service is stopped amidst it, and
what it says is delivered must be what arrived.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks import events
from benchmarks.act import entries, post_bare, read_books
from benchmarks.errors import BenchmarkError
from benchmarks.holding import hold, window
from benchmarks.playing import Play, play
from benchmarks.plot import Chart, Series
from benchmarks.preload import fill
from benchmarks.result import Case, Figures, Result, Wish
from benchmarks.stage import Setting, Stage, open_stage

SIZES: Final = (1000, 1_000_000, 10_000_000)

LOOK_EVERY: Final = 0.25
"""Seconds: short against a window, so that it ends near the number of arrivals that it is meant to have."""

WISHED_RATE: Final = 0.9
WISHED_MEMORY: Final = 200.0
"""Of the rate with the smallest backlog, and megabytes of a worker."""

ACCOUNT: Final = """
select
  (select count(*) from dispatcher.outbox),
  (select count(*) from dispatcher.outbox_unread) + (select count(*) from dispatcher.deliveries)
    + (select count(*) from dispatcher.finished_deliveries)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is measured."""

    pending: tuple[int, ...]
    """Deliveries that wait, in turn."""
    events: int
    """Deliveries of a run; as many before the first one are not counted."""
    endpoints: int
    size: int
    runs: int
    deadline: float
    postgres: str


async def run(options: Options) -> Result:
    """Measure; raises BenchmarkError, above all when a delivery is lost, doubled or badly signed."""
    cases = []
    async with play("backlog", options, steps=len(options.pending) * (options.runs + 1)) as shown:
        for pending in options.pending:
            cases.append(await _case(options, pending, shown))
        return shown.result(
            f"backlog: {options.events} deliveries a run, {options.endpoints} endpoints, {options.size} bytes",
            cases,
            wishes=_wishes(cases),
            remarks=["as many events are written as arrive, which is in Postgres' figures"],
            charts=_charts(cases),
        )


async def _case(options: Options, pending: int, shown: Play) -> Case:
    setting = Setting(
        postgres=options.postgres, endpoints=options.endpoints, size=options.size, deadline=options.deadline
    )
    name = f"{pending:,} pending"
    shown.say(f"{name}: making them")
    async with open_stage(setting) as stage:
        shown.postgres = stage.database.server
        tenants = [events.tenant(number) for number in range(options.endpoints)]
        await fill(stage.connection, pending, tenants=tenants, size=options.size)
        bare = await post_bare(stage, options.events // 2)
        shown.step()
        shown.say(f"{name}: delivering")
        await stage.expect(0, samples_of=options.events * (options.runs + 1))
        started = time.monotonic()
        async with stage.serving():
            runs = await _measure(options, stage)
        arrivals, verified = await stage.arrivals()
        shown.checked += await stage.check_recorded(arrivals, verified=verified)
        await _demand_all_there(stage, pending)
        bare += await post_bare(stage, options.events // 2)
        shown.step()
    first = arrivals[0].at - started
    return Case(name=name, runs=tuple({**bare.beside(run), "first_seconds": first} for run in runs))


async def _measure(options: Options, stage: Stage) -> list[Figures]:
    """Deliver a warm-up and the runs, without a pause between them."""
    before = await read_books(stage, settle=0)
    looks = await hold(stage, every=LOOK_EVERY, enough=lambda look: look.arrived >= options.events * (options.runs + 1))
    after = await read_books(stage, settle=0)
    counted = entries(looks[-1].arrived - looks[0].arrived, before, after)
    return [
        {**window(looks, options.events * number, options.events * (number + 1)), **counted}
        for number in range(1, options.runs + 1)
    ]


async def _demand_all_there(stage: Stage, preloaded: int) -> None:
    """Raise BenchmarkError unless each event is still waiting, pending or delivered."""
    events_, others = await stage.connection.fetchrow(ACCOUNT)
    if events_ != others:
        raise BenchmarkError(f"{events_} events were written, but {others} wait or are delivered.")
    assert events_ >= preloaded


def _wishes(cases: Sequence[Case]) -> list[Wish]:
    least = cases[0]
    wishes = []
    for case in cases[1:]:
        rate = (case.median("per_second") or 0.0) / (least.median("per_second") or 1.0)
        what = f"{case.name}: rate at least 0.9 of that with {least.name}"
        wishes.append(Wish(what=what, figure=rate, holds=rate >= WISHED_RATE))
        beside = _beside_bare(case) / _beside_bare(least)
        what = f"{case.name}: the same, each rate beside the bare loop's before and after it"
        wishes.append(Wish(what=what, figure=beside, holds=beside >= WISHED_RATE))
    for case in cases:
        most = max(case.values("memory"))
        what = f"{case.name}: a worker's memory at most 200 MB"
        wishes.append(Wish(what=what, figure=most, holds=most <= WISHED_MEMORY))
    return wishes


def _beside_bare(case: Case) -> float:
    """Compare the rate with the bare loop's, which knows nothing of backlogs but feels the machine's mood."""
    return (case.median("per_second") or 0.0) / (case.median("bare_per_second") or 1.0)


def _charts(cases: Sequence[Case]) -> list[Chart]:
    return [
        Chart(
            title=title,
            across="deliveries that wait",
            labels=tuple(case.name.removesuffix(" pending") for case in cases),
            series=tuple(
                Series(name, tuple((float(place), case.median(figure) or 0.0) for place, case in enumerate(cases)))
                for figure, name in lines.items()
            ),
        )
        for title, lines in (
            ("Deliveries a second", {"per_second": "delivered"}),
            (
                "CPU, microseconds a delivery or post",
                {"dispatcher_cpu": "dispatcher", "postgres_cpu": "Postgres", "bare_cpu": "bare loop"},
            ),
            ("A worker's memory, MB", {"memory": "memory"}),
        )
    ]
