"""Scale: what more workers bring, and whether a delivery costs the same with them.

Each number of workers has a service of its own, on the same database, and delivers the same backlogs as `throughput`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.act import post_bare
from benchmarks.playing import play
from benchmarks.plot import Chart, Series
from benchmarks.result import Case, Figures, Result, Wish
from benchmarks.stage import Setting, open_stage
from benchmarks.throughput import deliver_backlog, warm_up

WISHED_RATE: Final = 1.7
WISHED_CPU: Final = 1.1
"""Of two workers: so many times the rate of one, or else at most so many times its processor time a delivery."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is measured."""

    workers: tuple[int, ...]
    """Processes of each service, in turn."""
    events: int
    endpoints: int
    size: int
    runs: int
    deadline: float
    postgres: str


async def run(options: Options) -> Result:
    """Measure; raises BenchmarkError, above all when a delivery is lost, doubled or badly signed."""
    setting = Setting(
        postgres=options.postgres, endpoints=options.endpoints, size=options.size, deadline=options.deadline
    )
    found: dict[int, list[Figures]] = {workers: [] for workers in options.workers}
    async with play("scale", options, steps=len(found) * options.runs) as shown, open_stage(setting) as stage:
        shown.postgres = stage.database.server
        for number in range(options.runs):  # in turn, so that what changes meanwhile weighs on all
            for workers, runs in found.items():
                shown.say(f"{workers} workers, run {number + 1} of {options.runs}")
                bare = await post_bare(stage, options.events // 2)
                async with stage.serving(workers=workers):
                    await warm_up(stage)
                    figures = await deliver_backlog(stage, shown, options.events)
                bare += await post_bare(stage, options.events // 2)
                runs.append(bare.beside(figures))
                shown.step()
        cases = [Case(name=_name(workers), runs=tuple(runs)) for workers, runs in found.items()]
        return shown.result(
            f"scale: {options.events} events a run, {options.endpoints} endpoints, {options.size} bytes",
            cases,
            wishes=_wishes(cases),
            charts=_charts(cases),
        )


def _name(workers: int) -> str:
    return "1 worker" if workers == 1 else f"{workers} workers"


def _wishes(cases: Sequence[Case]) -> list[Wish]:
    named = {case.name: case for case in cases}
    one, two = named.get(_name(1)), named.get(_name(2))
    if one is None or two is None:
        return []
    rate = (two.median("per_second") or 0.0) / (one.median("per_second") or 1.0)
    cpu = (two.median("dispatcher_cpu") or 0.0) / (one.median("dispatcher_cpu") or 1.0)
    return [
        Wish(what="two workers: at least 1.7 times the rate of one", figure=rate, holds=rate >= WISHED_RATE),
        Wish(what="two workers: CPU a delivery at most 1.1 times that of one", figure=cpu, holds=cpu <= WISHED_CPU),
    ]


def _charts(cases: Sequence[Case]) -> list[Chart]:
    return [
        Chart(
            title=title,
            across="",
            labels=tuple(case.name for case in cases),
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
        )
    ]
