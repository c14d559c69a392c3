"""Bring endpoints and due deliveries into memory, so that lanes have something to send and know how.

Three readings: on taking a shard (which endpoints have work), while running (what lanes ask for, past their cursors), and
now and then (which endpoints changed; a sweep for deliveries that nobody thought of, which should find none).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from dispatcher.clock import Clock
from dispatcher.deliver.subscribers import Subscribers
from dispatcher.lane import Pull
from dispatcher.lanes import Lanes
from dispatcher.metrics import Metrics
from dispatcher.model import Delivery, Endpoint, EndpointId, EndpointState, Shard
from dispatcher.ownership import Ownership
from dispatcher.sealing import Sealer
from dispatcher.store import deliveries as store
from dispatcher.store import endpoints as endpoint_store
from dispatcher.store import outbox as outbox_store
from dispatcher.store.pool import Connection, Pool
from dispatcher.tally import Tally

PULL: Final = 500
"""Deliveries a reading, of all lanes together."""

SHORTEST, LONG = 0.002, 60.0
"""Seconds to wait for a lane's instant to come: at least so long, for it may be waiting for a request to end; at most so
long when no lane knows of anything to come. Whatever brings work wakes the step."""

LOAD: Final = 1000
"""Endpoints a reading."""

OVERLAP: Final = timedelta(seconds=30)
"""Changes are read again for so long: a transaction that began earlier may commit later."""

SETTLED: Final = 60.0
"""Seconds without news after which only what is later than the last change is read: many endpoints made at once would
otherwise be read twice a second for ever, 10,000 of them at a tenth of a core."""

SEALED_AGAIN: Final = 60.0
"""Seconds between looks whether secrets can be opened by now that could not: keys come with a restart as a rule."""

SWEEP_EVERY: Final = 5.0
"""Seconds between sweeps, at least; also how old the gauges of what is due may be."""

SWEEP_SHARE: Final = 0.01
"""Of the time may go into sweeps."""

SWEEP_SLACK: Final = 2.0
"""Seconds for which a due delivery may be on its way into memory before a sweep calls it overtaken."""

COUNTED: Final = 10_000
"""Due deliveries counted per endpoint, for the gauge: beyond it the exact number is not worth its price."""

ORPHANS: Final = 1000
"""Ordering keys mended in one sweep."""

EVICT_IDLE: Final = 600.0
"""Seconds without work after which a lane and its endpoint leave memory."""

logger = structlog.get_logger()


class Pulling:
    """The step that reads endpoints and deliveries that lanes ask for."""

    name = "pull"

    def __init__(
        self,
        pool: Pool,
        *,
        lanes: Lanes,
        subscribers: Subscribers,
        ownership: Ownership,
        sealer: Sealer,
        clock: Clock,
        on_work: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._ownership = ownership
        self._lanes = lanes
        self._subscribers = subscribers
        self._sealer = sealer
        self._clock = clock
        self._on_work = on_work

    @property
    def pause(self) -> float:
        """Seconds until a lane may ask for something."""
        now = self._clock.now()
        wake = self._lanes.next_wake(now)
        return LONG if wake is None else max(SHORTEST, wake - now)

    def _wanting(self) -> bool:
        """Whether a lane may have something to ask."""
        now = self._clock.now()
        wake = self._lanes.next_wake(now)
        return wake is not None and wake <= now

    async def run_once(self) -> int:
        """Load unknown endpoints, then read what lanes have room for; returns how much was read."""
        if not self._ownership.runs(self._clock.monotonic()):
            return 0
        unknown = list(self._lanes.unknown())[:LOAD]
        if not unknown and not self._wanting():
            return 0
        done = 0
        async with self._pool.acquire() as connection:
            if unknown:
                done += await self.load(connection, unknown)
            # asked for only now, so that no question is left open when there is no connection to answer it
            if pulls := self._lanes.pulls(self._clock.now(), PULL):
                done += await self._answer(connection, pulls)
        if done:
            self._on_work()
        return done

    async def load(self, connection: Connection, ids: Sequence[EndpointId]) -> int:
        """Read endpoints into memory; returns how many there were."""
        endpoints = [
            endpoint
            for endpoint in await endpoint_store.load(connection, ids, self._sealer)
            if endpoint.shard in self._ownership.epochs
        ]
        now = self._clock.now()
        for endpoint in endpoints:
            before = self._subscribers.get(endpoint.id)
            if endpoint.sealed is not None and (before is None or before.endpoint.sealed is None):
                logger.error(
                    "endpoint.sealed", endpoint=str(endpoint.id), tenant=endpoint.tenant, reason=endpoint.sealed
                )
            subscriber = self._subscribers.put(_held_if_sealed(endpoint))
            self._lanes.set_endpoint(subscriber.endpoint, now)
        for missing in set(ids) - {endpoint.id for endpoint in endpoints}:
            self._lanes.forget_endpoint(missing)
        return len(endpoints)

    def sealed(self) -> set[EndpointId]:
        """Return the endpoints whose deliveries wait because their secrets cannot be opened."""
        return {known.endpoint.id for known in self._subscribers if known.endpoint.sealed is not None}

    async def _answer(self, connection: Connection, pulls: Sequence[Pull]) -> int:
        """Answer each question that the lanes have asked, come what may."""
        try:
            return await self._pull(connection, pulls)
        except BaseException:
            for pull in pulls:
                self._lanes.pull_failed(pull, self._clock.now())
            raise

    async def _pull(self, connection: Connection, pulls: Sequence[Pull]) -> int:
        places = [
            store.Place(pull.shard, pull.endpoint_id, pull.after_due, pull.after_id, pull.count) for pull in pulls
        ]
        override = self._clock.override()
        deliveries = await store.pull(connection, places, now=override)
        found: dict[EndpointId, list[Delivery]] = {place.endpoint_id: [] for place in places}
        for delivery in deliveries:
            found[delivery.endpoint_id].append(delivery)
        short = [
            store.Place(
                place.shard,
                place.endpoint_id,
                found[place.endpoint_id][-1].due_at if found[place.endpoint_id] else place.after_due,
                0,
                0,
            )
            for place in places
            if len(found[place.endpoint_id]) < place.count
        ]
        next_due = await store.next_due(connection, short) if short else {}
        now = self._clock.now()
        for pull in pulls:
            self._lanes.pulled(pull, found[pull.endpoint_id], next_due.get(pull.endpoint_id), now)
        return len(deliveries)


def _held_if_sealed(endpoint: Endpoint) -> Endpoint:
    """Let an endpoint that cannot be signed for wait like a paused one, whose deliveries neither fail nor die of it."""
    if endpoint.sealed is None or endpoint.state is not EndpointState.ACTIVE:
        return endpoint
    return replace(endpoint, state=EndpointState.PAUSED)


class Refresh:
    """The step that follows changes of endpoints: by a person, by a replay, by another worker."""

    name = "refresh"
    pause = 0.5
    """Seconds: how late a pause, a rotation or a new URL may take effect."""

    def __init__(
        self,
        pool: Pool,
        pulling: Pulling,
        *,
        ownership: Ownership,
        lanes: Lanes,
        clock: Clock,
        on_work: Callable[[], None],
        on_disabled: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._pulling = pulling
        self._ownership = ownership
        self._lanes = lanes
        self._clock = clock
        self._on_work = on_work
        self._on_disabled = on_disabled
        self._since: datetime | None = None
        self._sealed_again = clock.monotonic() + SEALED_AGAIN
        self._seen: dict[EndpointId, datetime] = {}
        self._news_at = -math.inf
        """When something was last found that had not been seen before, on the monotonic clock."""

    async def run_once(self) -> int:
        """Follow the changes since the last time; returns 0, because the next look is due in a while."""
        shards = self._ownership.active
        if not shards:
            return 0
        if self._since is None:  # what is loaded is no older than this
            self._since = datetime.fromtimestamp(self._clock.now(), UTC)
        async with self._pool.acquire() as connection:
            changes = await endpoint_store.changed_since(connection, shards, self._since - OVERLAP)
            new = [id_ for id_, changed_at in changes if self._seen.get(id_) != changed_at]
            if new:
                self._news_at = self._clock.monotonic()
            new += self._sealed(but=new)
            if new:
                await self._pulling.load(connection, new)
                for endpoint_id in new:
                    self._lanes.rewind(endpoint_id)
        self._remember(changes)
        if new:
            logger.debug("endpoints.changed", endpoints=len(new))
            self._on_work()
            self._on_disabled()
        return 0

    def _sealed(self, *, but: Sequence[EndpointId]) -> set[EndpointId]:
        """Return endpoints that wait for a main key, when it is time to look again: secrets end, and are sealed anew."""
        if self._clock.monotonic() < self._sealed_again:
            return set()
        self._sealed_again = self._clock.monotonic() + SEALED_AGAIN
        return self._pulling.sealed().difference(but)

    def _remember(self, changes: Sequence[tuple[EndpointId, datetime]]) -> None:
        self._seen = dict(changes)
        if changes:
            settled = self._clock.monotonic() >= self._news_at + SETTLED
            self._since = max(changed_at for _, changed_at in changes) + (OVERLAP if settled else timedelta())


class Sweep:
    """The step that looks whether anything sleeps that is due, and takes over new shards."""

    name = "sweep"

    def __init__(
        self,
        pool: Pool,
        *,
        ownership: Ownership,
        lanes: Lanes,
        subscribers: Subscribers,
        clock: Clock,
        metrics: Metrics,
        tally: Tally,
        on_work: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._ownership = ownership
        self._lanes = lanes
        self._subscribers = subscribers
        self._clock = clock
        self._metrics = metrics
        self._tally = tally
        self._on_work = on_work
        self._pause = SWEEP_EVERY

    @property
    def pause(self) -> float:
        """Seconds until the next sweep."""
        return self._pause

    async def take_over(self, shards: Sequence[Shard]) -> None:
        """Find out which endpoints of new shards have work, and when."""
        async with self._pool.acquire() as connection:
            await self._mend_order(connection, shards)
            works = await store.lanes_with_work(connection, shards)
        # Nothing is awaited between this and the taking: an endpoint noted before would be loaded as another worker's.
        for work in works:
            self._lanes.note(work.endpoint_id, work.due_at)
        self._on_work()

    async def run_once(self) -> int:
        """Sweep once; returns 0, because the next sweep is due in a while."""
        self._subscribers.drop(self._lanes.evict(self._clock.now(), idle=EVICT_IDLE))
        self._metrics.load(
            in_flight=self._lanes.in_flight(),
            held=self._lanes.held,
            lanes=len(self._subscribers),
            sealed=sum(known.endpoint.sealed is not None for known in self._subscribers),
        )
        shards = self._ownership.active
        if not shards:
            self._tell_backlog(0, oldest_age=0.0)
            return 0
        started = self._clock.monotonic()
        async with self._pool.acquire() as connection:
            await self._mend_order(connection, shards)
            works = await store.lanes_with_work(connection, shards)
            now = self._clock.now()
            due = [work for work in works if work.due_at <= now]
            sendable = [work for work in due if self._is_sendable(work.endpoint_id, now)]
            count = await store.count_due(connection, sendable, most=COUNTED) if sendable else 0
        ages = (now - work.due_at for work in sendable if not self._fails(work.endpoint_id))
        self._tell_backlog(count, oldest_age=max(ages, default=0.0))
        if suspects := self._overlooked(due):
            # Much may have been written down since that was read: only what a second reading still finds is overtaken.
            async with self._pool.acquire() as connection:
                works = await store.lanes_with_work(connection, sorted({work.shard for work in suspects}))
            lanes = {work.endpoint_id for work in suspects}
            self._take_up(self._overlooked(work for work in works if work.endpoint_id in lanes))
        self._pause = max(SWEEP_EVERY, (self._clock.monotonic() - started) / SWEEP_SHARE)
        return 0

    def _tell_backlog(self, due: int, *, oldest_age: float) -> None:
        self._metrics.due(due, oldest_age=oldest_age)
        self._tally.waits(due, oldest_seconds=oldest_age)

    def _is_sendable(self, endpoint_id: EndpointId, now: float) -> bool:
        """Whether an endpoint's deliveries are to go out now: a person's pause and the subscriber's own are no backlog."""
        subscriber = self._subscribers.get(endpoint_id)
        if subscriber is not None and subscriber.endpoint.state is not EndpointState.ACTIVE:
            return False
        return (self._lanes.health(endpoint_id).cool_until or now) <= now

    def _fails(self, endpoint_id: EndpointId) -> bool:
        """Whether an endpoint fails: what waits for it behind a probe says nothing of how late we are."""
        subscriber = self._subscribers.get(endpoint_id)
        return subscriber is not None and subscriber.health.failing_since is not None

    def _overlooked(self, works: Iterable[store.Work]) -> list[store.Work]:
        """Pick what is due and on nobody's mind."""
        late = self._clock.now() - SWEEP_SLACK
        active = set(self._ownership.active)
        return [
            work
            for work in works
            if work.due_at < late and work.shard in active and not self._lanes.awaits(work.endpoint_id, work.due_at)
        ]

    def _take_up(self, overtaken: Sequence[store.Work]) -> None:
        for work in overtaken:
            self._lanes.note(work.endpoint_id, work.due_at)
        if overtaken:
            logger.warning("deliveries.overtaken", endpoints=len(overtaken))
            self._metrics.overtaken("deliveries", len(overtaken))
            self._on_work()

    async def _mend_order(self, connection: Connection, shards: Sequence[Shard]) -> None:
        """Free ordering keys whose first delivery waits for nothing."""
        async with connection.transaction():
            await outbox_store.lock_ordering(connection, shards)
            orphans = await store.orphaned_ordering_keys(connection, shards, limit=ORPHANS)
            promoted = await store.promote(connection, orphans, now=self._clock.override()) if orphans else []
        for endpoint_id, due_at in promoted:
            self._lanes.note(endpoint_id, due_at)
