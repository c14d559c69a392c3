"""Latency: how long an event waits from its commit until its request is at the receiver, at fixed rates.

Open loop: the producer writes by the clock, whatever becomes of what it wrote, and the service is measured from just before
each commit. The rates are shares of what this machine delivers at full load, which is measured first, in the same run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.act import Bare, accounted, post_bare
from benchmarks.playing import Play, play
from benchmarks.plot import Chart, Series
from benchmarks.result import Case, Figures, Result, Wish
from benchmarks.stage import Setting, Stage, open_stage
from benchmarks.throughput import deliver_backlog, warm_up
from benchmarks.waiting import commit_time, tell, waits

SHARES: Final = {"a tenth": 0.1, "a third": 1 / 3, "two thirds": 2 / 3}
"""Of the full rate, that are taken where no rates are given."""

WISHED: Final = "a third"
WISHED_P50, WISHED_P99 = 10.0, 50.0
"""Milliseconds at a third of the full rate."""

BEAT: Final = 0.005
"""Seconds between the producer's transactions, one event each where the rate is below 200 a second."""

LEAST: Final = 50.0
"""Events a second, where a share would be less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is measured."""

    rates: tuple[int, ...]
    """Events a second; none: shares of the full rate."""
    seconds: float
    """Of each run."""
    endpoints: int
    size: int
    runs: int
    full: int
    """Events by which the full rate is measured, and posts of the bare loop."""
    deadline: float
    postgres: str


async def run(options: Options) -> Result:
    """Measure; raises BenchmarkError, above all when a delivery is lost, doubled or badly signed."""
    setting = Setting(
        postgres=options.postgres, endpoints=options.endpoints, size=options.size, deadline=options.deadline
    )
    count = len(options.rates) or len(SHARES)
    async with play("latency", options, steps=options.runs * count) as shown, open_stage(setting) as stage:
        shown.postgres = stage.database.server
        async with stage.serving():
            shown.say("warming up")
            await warm_up(stage)
            shown.say("finding the full rate")
            bare = await post_bare(stage, options.full)
            full = await deliver_backlog(stage, shown, options.full)
            rates = _rates(options, full)
            found: dict[str, list[Figures]] = {name: [] for name in rates}
            for number in range(options.runs):
                for name, rate in rates.items():
                    shown.say(f"{rate:.0f} events/s, run {number + 1} of {options.runs}")
                    found[name].append(await _measure(stage, shown, rate, seconds=options.seconds, bare=bare))
                    shown.step()
        cases = [
            Case(name="full rate", runs=(bare.beside(full),)),
            *(Case(name=f"{name}: {rates[name]:.0f}/s", runs=tuple(runs)) for name, runs in found.items()),
        ]
        return shown.result(
            f"latency: {options.seconds:g} s a run, {options.endpoints} endpoints, {options.size} bytes",
            cases,
            wishes=_wishes(cases),
            remarks=[
                f"a transaction every {1e3 * BEAT:g} ms; the bare loop ran at the start, and Postgres' figures hold inserts"
            ],
            charts=[_chart(cases[1:], list(rates.values()))],
        )


def _rates(options: Options, full: Figures) -> dict[str, float]:
    if options.rates:
        return {f"rate {number + 1}": float(rate) for number, rate in enumerate(options.rates)}
    return {name: max(LEAST, share * (full["per_second"] or 0.0)) for name, share in SHARES.items()}


async def _measure(stage: Stage, shown: Play, rate: float, *, seconds: float, bare: Bare) -> Figures:
    count = max(1, int(rate * seconds))
    await stage.expect(count)
    async with accounted(stage, count) as figures:
        notes = await stage.stream(count, rate=rate, beat=BEAT)
        await stage.all_delivered()
    arrivals, verified = await stage.arrivals()
    shown.checked += await stage.check_written(arrivals, verified=verified)
    return {
        **bare.beside(figures),
        **tell(waits(arrivals, notes.of)),
        "offered_per_second": rate,
        "producer_late": 1e3 * notes.late,
        "commit": commit_time(notes.of),
    }


def _wishes(cases: Sequence[Case]) -> list[Wish]:
    """Judge the case at a third of the full rate, if there is one."""
    wishes = []
    for case in cases:
        if case.name.startswith(WISHED):
            p50, p99 = case.median("p50") or 0.0, case.median("p99") or 0.0
            wishes.append(Wish(what=f"{WISHED}: p50 at most {WISHED_P50:g} ms", figure=p50, holds=p50 <= WISHED_P50))
            wishes.append(Wish(what=f"{WISHED}: p99 at most {WISHED_P99:g} ms", figure=p99, holds=p99 <= WISHED_P99))
    return wishes


def _chart(cases: Sequence[Case], rates: Sequence[float]) -> Chart:
    return Chart(
        title="Commit to arrival, milliseconds (medians of all runs)",
        across="events a second",
        series=tuple(
            Series(name, tuple((rate, case.median(name) or 0.0) for rate, case in zip(rates, cases, strict=True)))
            for name in ("p50", "p95", "p99")
        ),
    )
