"""Own shards: take a fair share of them, keep their leases, give surplus ones back once they are drained.

No coordinator: each worker counts the live ones and takes or gives until it has its share. What owning means is left to
`Ownership`; what is done with a shard, to those who are told by `Hooks`.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

import structlog

from dispatcher.clock import Clock
from dispatcher.metrics import Metrics
from dispatcher.model import SHARD_COUNT, Shard
from dispatcher.ownership import Ownership
from dispatcher.store import shards as store
from dispatcher.store.pool import Pool

ROLE: Final = "deliver"
"""The role that owns shards."""

BEATS: Final = 3
"""Renewals per lease: two may fail before it runs out."""

COMEBACK: Final = 5.0
"""Seconds after an outage that outlasted the leases in which no shard is taken: the database was away for their owners,
too. They try again every two seconds, and they alone know what they have sent."""

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Hooks:
    """Who wants to know what happens to shards."""

    gained: Callable[[Sequence[Shard]], Awaitable[None]]
    """Called before anything is done for new shards."""
    held_back: Callable[[Sequence[Shard]], None]
    """Nothing new may be begun for these."""
    kept: Callable[[Sequence[Shard]], None]
    """These were held back, and are not given back after all."""
    lost: Callable[[Sequence[Shard]], None]
    """Forget all about these."""
    drained: Callable[[Shard], bool]
    """Whether nothing of a shard is under way any more."""


class Shards:
    """The step that keeps this worker's share of the shards."""

    name = "shards"

    def __init__(
        self,
        pool: Pool,
        worker: store.Worker,
        *,
        ownership: Ownership,
        hooks: Hooks,
        clock: Clock,
        lease: float,
        metrics: Metrics,
    ) -> None:
        self._pool = pool
        self._worker = worker
        self._ownership = ownership
        self._hooks = hooks
        self._clock = clock
        self._lease = lease
        self._metrics = metrics
        self._enrolled = False
        self._renewed = False
        self._takes_from = -inf
        """When shards may be taken, on the monotonic clock."""

    @property
    def pause(self) -> float:
        """Seconds between beats."""
        return self._lease / BEATS

    async def run_once(self) -> int:
        """Beat once; returns 0, because the next beat is due in a while whatever this one did."""
        async with self._pool.acquire() as connection:
            if not self._enrolled:
                await store.enrol(connection, self._worker, lease=self._lease)
                self._enrolled = True
            await self._renew(connection)
            census = await store.census(connection, role=ROLE)
            self._clock.synchronise(census.now)
            if census.workers == 0:  # our own row was forgotten while the database was away for a day
                self._enrolled = False
            await self._balance(connection, share=-(-SHARD_COUNT // max(1, census.workers)))
        self._metrics.shards_owned(len(self._ownership.epochs))
        return 0

    async def _renew(self, connection: object) -> None:
        asked = self._clock.monotonic()
        held = dict(self._ownership.epochs)
        kept = await store.renew(connection, self._worker.id, held, lease=self._lease)
        now = self._clock.monotonic()
        if self._renewed and not self._ownership.runs(now):
            self._takes_from = now + COMEBACK
        self._renewed = True
        self._ownership.prolong(asked + self._lease)
        lost = [shard for shard in held if shard not in kept]
        if lost:
            logger.warning("shards.lost", shards=len(lost))
            self._metrics.leases_lost(len(lost))
            self._forget(lost)

    async def _balance(self, connection: object, *, share: int) -> None:
        held = len(self._ownership.epochs)
        self._mark_surplus(max(0, held - share))
        if self._ownership.surplus:
            await self._give_back(connection)
        elif held < share and self._clock.monotonic() >= self._takes_from:
            gained = await store.acquire(connection, self._worker.id, lease=self._lease, limit=share - held)
            if gained:
                logger.info("shards.taken", shards=len(gained), owned=held + len(gained))
                await self._hooks.gained(list(gained))
                self._ownership.take(gained)

    def _mark_surplus(self, surplus: int) -> None:
        """Hold back as many shards as there are too many; go on with those that there are not, when others have left."""
        missing = surplus - len(self._ownership.surplus)
        if missing > 0:
            chosen = sorted(self._ownership.active, reverse=True)[:missing]
            self._ownership.hold_back(chosen)
            self._hooks.held_back(chosen)
        elif missing < 0:
            chosen = sorted(self._ownership.surplus)[:-missing]
            self._ownership.keep(chosen)
            self._hooks.kept(chosen)

    async def _give_back(self, connection: object) -> None:
        """Release what of the surplus is drained."""
        drained = [shard for shard in self._ownership.surplus if self._hooks.drained(shard)]
        if drained:
            self._forget(drained)
            await store.release(connection, self._worker.id, drained)
            logger.info("shards.given_back", shards=len(drained), owned=len(self._ownership.epochs))

    def _forget(self, shards: Sequence[Shard]) -> None:
        self._ownership.lose(shards)
        self._hooks.lost(shards)

    async def leave(self) -> None:
        """Give everything back, at the end of the worker's life."""
        async with self._pool.acquire() as connection:
            await store.release(connection, self._worker.id, list(self._ownership.epochs))
            await store.leave(connection, self._worker.id)
        self._forget(list(self._ownership.epochs))
