"""Sparse: one event each for very many endpoints on many addresses, so that nothing can be done in bulk.

The service has just begun and knows no endpoint; no connection can be used twice, but where two endpoints share an address.
"""

import asyncio
from dataclasses import dataclass

from benchmarks import measure
from benchmarks.act import accounted, post_bare
from benchmarks.playing import Play, play
from benchmarks.plot import Chart, Series
from benchmarks.result import Case, Figures, Result
from benchmarks.stage import Arrival, Setting, Stage, open_stage
from benchmarks.waiting import tell

LOOK_EVERY = 0.2
"""Seconds between looks at memory and files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is measured."""

    endpoints: int
    """Each gets one event."""
    hosts: int
    """Addresses that the endpoints are spread over."""
    size: int
    runs: int
    deadline: float
    postgres: str


async def run(options: Options) -> Result:
    """Measure; raises BenchmarkError, above all when a delivery is lost, doubled or badly signed."""
    setting = Setting(
        postgres=options.postgres,
        endpoints=options.endpoints,
        size=options.size,
        deadline=options.deadline,
        hosts=options.hosts,
    )
    async with play("sparse", options, steps=options.runs) as shown, open_stage(setting) as stage:
        shown.postgres = stage.database.server
        runs, lines = [], []
        for number in range(options.runs):
            shown.say(f"run {number + 1} of {options.runs}")
            figures, points = await _measure(stage, shown)
            runs.append(figures)
            lines.append(Series(f"run {number + 1}", points))
            shown.step()
        return shown.result(
            f"sparse: {options.endpoints} endpoints at {options.hosts} addresses, one event each, {options.size} bytes",
            [Case(name="just begun", runs=tuple(runs))],
            remarks=["the bare loop posts to the same endpoints, and holds connections to as many as it has in flight"],
            charts=[Chart(title="Arrived, percent", across="seconds after the commit", series=tuple(lines))],
        )


async def _measure(stage: Stage, shown: Play) -> tuple[Figures, tuple[tuple[float, float], ...]]:
    count = stage.setting.endpoints
    bare = await post_bare(stage, count)
    async with stage.serving():
        await stage.expect(count)
        await stage.prepare(count)
        watching = asyncio.create_task(_watch(stage))
        async with accounted(stage, count) as figures:
            committed = await stage.commit()
            await stage.all_delivered()
        watching.cancel()
        most = await asyncio.gather(watching)
        arrivals, verified = await stage.arrivals()
        shown.checked += await stage.check_written(arrivals, verified=verified)
    found = {
        **bare.beside(figures),
        **tell(1e3 * (arrival.at - committed) for arrival in arrivals),
        "memory": most[0].memory / 1e6,
        "files": float(most[0].files),
    }
    return found, _points(arrivals, committed)


async def _watch(stage: Stage) -> measure.Footprint:
    """Find the most that the service holds, until cancelled."""
    memory = files = 0
    try:
        while True:
            held = measure.footprint(stage.service.pid)
            memory, files = max(memory, held.memory), max(files, held.files)
            await asyncio.sleep(LOOK_EVERY)
    except asyncio.CancelledError:
        return measure.Footprint(memory, files)


def _points(arrivals: list[Arrival], since: float) -> tuple[tuple[float, float], ...]:
    """Tell after how many seconds each percent of all had arrived."""
    step = max(1, len(arrivals) // 100)
    return tuple(
        (arrivals[number].at - since, 100 * (number + 1) / len(arrivals)) for number in range(0, len(arrivals), step)
    )
