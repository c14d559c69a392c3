"""Keep a number of deliveries pending while the service works at its full rate, and look at it now and then."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks import measure
from benchmarks.act import Clocks, costs, read_clocks
from benchmarks.errors import BenchmarkError
from benchmarks.result import Figures
from benchmarks.stage import Stage

TOP_UP_EVERY: Final = 0.05
"""Seconds between insertions: what arrived since the last one is written anew."""

DEAD: Final = """
select coalesce(sum(n_dead_tup), 0)::bigint
from pg_stat_user_tables
where schemaname = 'dispatcher'
  and relname = any (array['deliveries', 'outbox_unread', 'endpoint_health', 'shard_leases', 'wakeups'])
"""
"""Rows that vacuum has yet to take away, of tables that are written and rewritten; history only grows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen at an instant."""

    clocks: Clocks
    arrived: int
    footprint: measure.Footprint
    dead_tuples: int


def window(looks: Sequence[Look], begin: int, end: int) -> Figures:
    """Sum up what was seen from about the `begin`-th arrival to the `end`-th."""
    first = next(number for number, one in enumerate(looks) if one.arrived >= begin)
    last = next(number for number, one in enumerate(looks) if one.arrived >= end)
    return between(looks[min(first, last - 1) : last + 1])  # a small window may lie between two looks


def between(looks: Sequence[Look]) -> Figures:
    """Sum up what was seen from the first to the last look; memory, files and dead tuples are the most of all."""
    begun, done = looks[0], looks[-1]
    return {
        **costs(max(1, done.arrived - begun.arrived), begun.clocks, done.clocks),
        "memory": max(one.footprint.memory for one in looks) / 1e6,
        "files": float(max(one.footprint.files for one in looks)),
        "dead_tuples": float(max(one.dead_tuples for one in looks)),
    }


async def look(stage: Stage, arrived: int) -> Look:
    """Look at everything."""
    return Look(
        clocks=read_clocks(stage),
        arrived=arrived,
        footprint=measure.footprint(stage.service.pid),
        dead_tuples=await stage.connection.fetchval(DEAD),
    )


async def hold(
    stage: Stage,
    *,
    every: float,
    enough: Callable[[Look], bool],
    shown: Callable[[Look], None] = lambda _: None,
    limit: int | None = None,
) -> list[Look]:
    """Write as many events as arrive, and look `every` so many seconds, until a look is `enough`.

    `limit`: events a second, at most; null: as many as arrive. Raises BenchmarkError if nothing arrives for the stage's
    deadline.
    """
    looks = [await look(stage, await stage.arrived())]
    written = looks[0].arrived
    started = moved = time.monotonic()
    while not enough(looks[-1]):
        await asyncio.sleep(TOP_UP_EVERY)
        arrived = await stage.arrived()
        now = time.monotonic()
        wanted = arrived if limit is None else int((now - started) * limit)
        if wanted > written:
            await stage.insert(wanted - written, first=written)
            written = wanted
        if now - looks[-1].clocks.at >= every:
            looks.append(await look(stage, arrived))
            shown(looks[-1])
            moved = now if arrived > looks[-2].arrived else moved
        if now - moved > stage.setting.deadline:
            raise BenchmarkError(f"Nothing arrived for {stage.setting.deadline:g} s.")
    return looks
