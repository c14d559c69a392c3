"""Replay: make new deliveries of finished ones, as a lasting job that a person asked for.

The owner of an endpoint's shard takes the endpoint's replays forward, batch by batch. A batch is one short transaction:
the job's row is locked, the new deliveries are made, and where the job stands is written down, so that a crash at any
moment neither loses nor repeats one. The row's lock is the claim; with one transaction a batch no lease is needed, and a
second worker that believes to own the shard passes over what is locked.

A replay never floods: it keeps its rate, and it waits while enough deliveries of its endpoint are due already, so that
new events are not buried and cancelling takes effect at once.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from math import inf
from typing import Final

import structlog

from dispatcher.clock import Clock
from dispatcher.lanes import Lanes
from dispatcher.metrics import Metrics
from dispatcher.model import EndpointId, EndpointState, Shard
from dispatcher.ownership import Ownership
from dispatcher.store import deliveries as delivery_store
from dispatcher.store import endpoints as endpoint_store
from dispatcher.store import outbox as outbox_store
from dispatcher.store import replays as store
from dispatcher.store.pool import Connection, Pool

PAGE: Final = 1000
"""Finished deliveries looked at in one transaction: tens of milliseconds, whatever the filters leave out."""

SPARE: Final = 100
"""Finished deliveries looked at beyond what may be replayed: what filters leave out is passed over in strides."""

MOST_DUE: Final = 1000
"""Deliveries of the endpoint that may be due while a replay adds more: some tenths of a second of a quick receiver's time,
and all that still comes after a replay was cancelled."""

SLICE: Final = 0.1
"""Seconds' worth of a rate that one batch may hold, so that a second's deliveries do not come all at once."""

SLACK: Final = 0.1
"""Seconds that a rate may catch up on: a step is always a little late; more would be a burst after an outage."""

REST: Final = 0.1
"""Seconds until it is seen again whether an endpoint has taken what is due."""

IDLE: Final = 0.5
"""Seconds between looks for a new replay: a person does not feel it, and a look is one read by index."""

SHORTEST: Final = 0.01
"""Seconds between batches that a rate keeps apart, so that a slow clock makes no busy loop."""

logger = structlog.get_logger()


class Replay:
    """The step that takes replays forward."""

    name = "replay"

    def __init__(
        self,
        pool: Pool,
        *,
        ownership: Ownership,
        lanes: Lanes,
        clock: Clock,
        metrics: Metrics,
        on_work: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._ownership = ownership
        self._lanes = lanes
        self._clock = clock
        self._metrics = metrics
        self._on_work = on_work
        self._pause = IDLE
        self._busy: Shard | None = None

    @property
    def pause(self) -> float:
        """Seconds until a batch may be due."""
        return self._pause

    def works_on(self, shard: Shard) -> bool:
        """Whether a batch for an endpoint of this shard is being written."""
        return shard == self._busy

    async def run_once(self) -> int:
        """Take one replay one batch further; returns how many finished deliveries were looked at."""
        self._pause = IDLE
        if not self._ownership.runs(self._clock.monotonic()):
            return 0
        shards = self._ownership.active
        if not shards:
            return 0
        async with self._pool.acquire() as connection:
            soonest = await store.soonest(connection, shards, now=self._clock.override())
            if soonest is None:
                return 0
            if soonest > 0:
                self._pause = min(max(soonest, SHORTEST), IDLE)
                return 0
            try:
                return await self._advance(connection, shards)
            finally:
                self._busy = None

    async def _advance(self, connection: Connection, shards: Sequence[Shard]) -> int:
        now = self._clock.override()
        async with connection.transaction():
            claimed = await store.claim(connection, shards, now=now)
            if claimed is None:
                return 0
            self._busy = claimed.shard
            if (refusal := _refusal(claimed)) is not None:
                await store.cancel(connection, claimed.id, refusal, now=now)
                logger.info("replay.cancelled", replay=str(claimed.id), reason=refusal)
                return 1
            room = MOST_DUE - await self._due(connection, claimed)
            if room <= 0:
                await store.postpone(connection, claimed.id, REST, now=now)
                self._pause = REST
                return 0
            looked, due = await self._write(connection, claimed, room=min(room, _allowance(claimed.rate)))
        # only what is committed may be sent
        await self._tell(connection, claimed, due)
        return looked

    async def _due(self, connection: Connection, claimed: store.Claimed) -> int:
        lane = delivery_store.Work(claimed.shard, claimed.endpoint_id, 0.0)
        return await delivery_store.count_due(connection, [lane], most=MOST_DUE)

    async def _write(self, connection: Connection, claimed: store.Claimed, *, room: int) -> tuple[int, list[float]]:
        """Write one batch with at most `room` new deliveries; returns how many were looked at, and when the new are due."""
        now = self._clock.override()
        limit = min(PAGE, room + SPARE)
        page = await store.page(
            connection,
            claimed.endpoint_id,
            claimed.wanted,
            behind=claimed.place,
            until=claimed.created_at,
            limit=limit,
            now=now,
        )
        looked = up_to(page, room)
        chosen = [ended for ended in looked if ended.fate is store.Fate.REPLAYED]
        if any(ended.ordered for ended in chosen):
            await outbox_store.lock_ordering(connection, [claimed.shard])
        due = await store.make(connection, claimed.endpoint_id, chosen, now=now) if chosen else []
        done = len(looked) == len(page) < limit
        fates = Counter(ended.fate for ended in looked if ended.fate is not None)
        await store.advance(
            connection,
            claimed.id,
            looked[-1].place if looked else claimed.place,
            fates,
            seconds=0.0 if claimed.rate is None else len(chosen) / claimed.rate,
            slack=SLACK,
            done=done,
            now=now,
        )
        self._metrics.replayed(fates.items())
        if done:
            logger.info("replay.done", replay=str(claimed.id), endpoint=str(claimed.endpoint_id))
        return max(len(looked), 1), due

    async def _tell(self, connection: Connection, claimed: store.Claimed, due: Sequence[float]) -> None:
        """Let the lane know of its new work, or another worker if the shard went to one meanwhile."""
        first = min(due, default=inf)
        if first == inf:
            return
        if claimed.shard in self._ownership.epochs:
            self._lanes.note(EndpointId(claimed.endpoint_id), first)
            self._on_work()
            return
        async with connection.transaction():
            await endpoint_store.touch(connection, [claimed.endpoint_id])


def _refusal(claimed: store.Claimed) -> str | None:
    """Say why a replay cannot go on."""
    if claimed.archived:
        return "The webhook was archived."
    if claimed.endpoint_state is EndpointState.DISABLED:
        return "The webhook was disabled."
    return None


def _allowance(rate: float | None) -> int:
    """Return how many new deliveries one batch may hold."""
    return PAGE if rate is None else max(1, int(rate * SLICE))


def up_to(page: Sequence[store.Ended], room: int) -> Sequence[store.Ended]:
    """Return the beginning of a page that replays no more than `room` deliveries."""
    replayed = 0
    for place, ended in enumerate(page):
        if ended.fate is store.Fate.REPLAYED:
            if replayed == room:
                return page[:place]
            replayed += 1
    return page
