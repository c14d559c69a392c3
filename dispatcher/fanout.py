"""Fan out: turn each new event of the shards owned into one pending delivery per matching endpoint.

Reads on from a cursor per shard, so that dead rows behind it cost nothing, and from the head again when idle and at
intervals, for rows that were overtaken (a transaction that began earlier committed later).

Filters cost nothing where there are none: the statement that fans out says if it met one, and is then undone. For a while
after that, filters are asked for and applied before it, while no transaction is open.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from typing import Final

import structlog

from dispatcher.clock import Clock
from dispatcher.doorkeeper import Doorkeeper, Mode
from dispatcher.errors import CatalogError
from dispatcher.filters import Failed, Held, Judge
from dispatcher.lanes import Lanes
from dispatcher.metrics import Metrics
from dispatcher.model import Delivery, EndpointId, Shard
from dispatcher.ownership import Ownership
from dispatcher.store import endpoints as endpoint_store
from dispatcher.store import outbox as store
from dispatcher.store import refusals
from dispatcher.store.pool import Connection, Pool

BATCH: Final = 1000
"""Events a transaction: more gain nothing (measured), and would hold up other shards' events."""

PER_SHARD: Final = 250
"""Of one shard in a batch, so that a tenant with a million events leaves room for others."""

HEAD_EVERY: Final = 1.0
"""Seconds between readings from the head: how late an overtaken event may be."""

HEAD_SHARE: Final = 0.02
"""Of the time may go into readings from the head, however many dead rows lie there."""

QUICK_POLL, SLOW_POLL = 0.005, 0.1
"""Seconds between polls of an idle outbox, doubling from the first to the second. An empty poll costs about 0.2 ms of
Postgres, so the second is a fifth of a percent of a core; it is also what an event waits at most without LISTEN."""

FILTERS_EXPECTED: Final = 60.0
"""Seconds for which filters are looked for after one was met: a query a batch, a few percent of it."""

SLICE: Final = 0.005
"""Seconds of applying filters after which other work gets its turn."""

logger = structlog.get_logger()


class Fanout:
    """The step from the outbox to pending deliveries."""

    name = "fanout"

    def __init__(
        self,
        pool: Pool,
        *,
        ownership: Ownership,
        lanes: Lanes,
        doorkeeper: Doorkeeper,
        clock: Clock,
        metrics: Metrics,
        on_work: Callable[[], None],
        look: Callable[[Sequence[Shard]], Awaitable[None]],
    ) -> None:
        """`look` finds out which endpoints of some shards have work."""
        self._pool = pool
        self._ownership = ownership
        self._lanes = lanes
        self._doorkeeper = doorkeeper
        self._clock = clock
        self._metrics = metrics
        self._on_work = on_work
        self._look = look
        self._doubtful: set[Shard] = set()
        """Shards whose last batch may have been committed without our hearing of it."""
        self._cursors: dict[Shard, int] = {}
        self._turn = 0
        self._head_due = 0.0
        self._busy: frozenset[Shard] = frozenset()
        self._pause = 0.0
        self._told: CatalogError | bool = False
        self._filters_until = -math.inf

    @property
    def pause(self) -> float:
        """Seconds until the next poll when nothing was found."""
        return self._pause

    def forget(self, shards: Sequence[Shard]) -> None:
        """Read these shards from the head if they ever come back."""
        for shard in shards:
            self._cursors.pop(shard, None)

    def works_on(self, shard: Shard) -> bool:
        """Whether a batch with events of this shard is being written."""
        return shard in self._busy

    async def run_once(self) -> int:
        """Fan out one batch; returns the number of events read."""
        if self._doubtful:
            await self._look([shard for shard in self._doubtful if shard in self._ownership.epochs])
            self._doubtful.clear()
        async with self._pool.acquire() as connection:
            unread = await self._read(connection)
            if unread:
                self._pause = 0.0
                await self._fan_out(connection, unread)
            else:
                self._pause = min(max(self._pause * 2, QUICK_POLL), SLOW_POLL)
        return len(unread)

    def _shards_in_turn(self) -> list[Shard]:
        """The shards to read, a different one first each time."""
        shards = self._ownership.active if self._ownership.runs(self._clock.monotonic()) else []
        if shards:
            self._turn = (self._turn + 1) % len(shards)
        return shards[self._turn :] + shards[: self._turn]

    async def _read(self, connection: Connection) -> list[store.Unread]:
        shards = self._shards_in_turn()
        if not shards:
            return []
        started = self._clock.monotonic()
        if started >= self._head_due:
            unread = await store.read(connection, dict.fromkeys(shards, 0), per_shard=PER_SHARD, limit=BATCH)
            took = self._clock.monotonic() - started
            self._head_due = started + max(HEAD_EVERY, took / HEAD_SHARE)
            overtaken = sum(item.position <= self._cursors.get(item.shard, 0) for item in unread)
            if overtaken:
                self._metrics.overtaken("outbox", overtaken)
        else:
            cursors = {shard: self._cursors.get(shard, 0) for shard in shards}
            unread = await store.read(connection, cursors, per_shard=PER_SHARD, limit=BATCH)
        return unread

    async def _fan_out(self, connection: Connection, unread: Sequence[store.Unread]) -> None:
        self._busy = frozenset(item.shard for item in unread)
        try:
            admitted, refused = await self._judged(connection, unread)
            deliveries = await self._write(connection, admitted, refused)
            self._advance(unread)  # only now: only what is committed may be behind the cursors
            own = [delivery for delivery in deliveries if delivery.shard in self._ownership.epochs]
            self._lanes.hand_over(own, self._clock.now())
            if len(own) != len(deliveries):
                await self._tell_others(connection, deliveries)
        except BaseException:
            self._doubtful |= self._busy
            raise
        finally:
            self._busy = frozenset()
        self._count(admitted, deliveries)
        self._on_work()

    async def _write(
        self,
        connection: Connection,
        admitted: Sequence[store.Unread],
        refused: Sequence[tuple[store.Unread, str]],
    ) -> Sequence[Delivery]:
        """Write down what becomes of a batch; again if a filter came up that was not applied."""
        while True:
            expected = self._clock.monotonic() < self._filters_until
            judged = await self._filtered(connection, admitted) if expected else None
            try:
                async with connection.transaction():
                    if refused:
                        await refusals.refuse(connection, refused, now=self._clock.override())
                    ordered = [item.shard for item in admitted if item.ordered]
                    if ordered:
                        await store.lock_ordering(connection, ordered)
                    if not admitted:
                        return ()
                    return await store.fan_out(connection, admitted, now=self._clock.override(), judged=judged)
            except store.UnjudgedFilters:
                self._filters_until = self._clock.monotonic() + FILTERS_EXPECTED

    async def _filtered(self, connection: Connection, admitted: Sequence[store.Unread]) -> store.Judged | None:
        """Apply the filters of those who want a batch; None: there are none."""
        kinds = {(item.event.tenant, item.event.event_type) for item in admitted}
        found = await store.filters(connection, sorted(kinds))
        if not found:
            return None
        self._filters_until = self._clock.monotonic() + FILTERS_EXPECTED
        wanted: dict[tuple[str, str], list[tuple[EndpointId, str]]] = {}
        for tenant, event_type, endpoint_id, text in found:
            wanted.setdefault((tenant, event_type), []).append((endpoint_id, text))
        started = turn = self._clock.monotonic()
        filtered: list[store.Filtered] = []
        for item in admitted:
            judge = Judge(item.event)
            for endpoint_id, text in wanted.get((item.event.tenant, item.event.event_type), ()):
                match judge.decide(text):
                    case Held():
                        filtered.append(store.Filtered(endpoint_id, item.event.id, None))
                    case Failed(why=why):
                        filtered.append(store.Filtered(endpoint_id, item.event.id, why))
                if self._clock.monotonic() - turn > SLICE:
                    await asyncio.sleep(0)  # no waiting: requests in flight go on meanwhile
                    turn = self._clock.monotonic()
        self._tell(filtered, seconds=self._clock.monotonic() - started)
        return store.Judged({endpoint_id: text for _, _, endpoint_id, text in found}, filtered)

    def _tell(self, filtered: Sequence[store.Filtered], *, seconds: float) -> None:
        faults = {item.endpoint_id: item for item in filtered if item.fault is not None}
        for item in faults.values():  # one line for all of an endpoint: its filter fails every time
            logger.warning(
                "filter.failed", endpoint=str(item.endpoint_id), event_id=str(item.event_id), error=item.fault
            )
        failed = sum(item.fault is not None for item in filtered)
        self._metrics.filtered(held=len(filtered) - failed, failed=failed, seconds=seconds)

    def _tell_of_catalog(self) -> None:
        """Say once that there is nothing to judge by, or what is wrong with the documents that were imported."""
        fault = self._doorkeeper.fault
        told, self._told = self._told, fault or self._doorkeeper.is_empty
        if fault is not None and fault is not told:
            mend = "import documents that `dispatcher catalog check` passes"
            logger.error("catalog.unusable", error=str(fault), mend=mend)
        elif self._told is True and told is not True:
            mend = "name documents in [catalog] files, or `dispatcher catalog import` them"
            logger.warning("catalog.empty", mode=self._doorkeeper.mode, mend=mend)

    async def _judged(
        self, connection: Connection, unread: Sequence[store.Unread]
    ) -> tuple[Sequence[store.Unread], Sequence[tuple[store.Unread, str]]]:
        """Part events that may be fanned out from those that the catalogue refuses, which come with the reason."""
        if self._doorkeeper.mode is Mode.OFF:
            return unread, ()
        events = [(item.event.event_type, item.event.payload) for item in unread]
        reasons = await self._doorkeeper.judge(connection, events)
        self._tell_of_catalog()
        unexpected = [(item, reason) for item, reason in zip(unread, reasons, strict=True) if reason is not None]
        if not unexpected:
            return unread, ()
        refuse = self._doorkeeper.mode is Mode.ENFORCE
        self._metrics.unexpected(len(unexpected), refused=refuse)
        kinds: dict[str, list[tuple[store.Unread, str]]] = {}
        for item, reason in unexpected:
            kinds.setdefault(item.event.event_type, []).append((item, reason))
        for event_type, those in kinds.items():  # one line for all of a type: a producer that is wrong is so every time
            first, reason = those[0]
            logger.warning(
                "event.refused" if refuse else "event.unexpected",
                event_type=event_type[:100],
                events=len(those),
                event_id=str(first.event.id),
                tenant=first.event.tenant,
                reason=reason,
            )
        if not refuse:
            return unread, ()
        return [item for item, reason in zip(unread, reasons, strict=True) if reason is None], unexpected

    def _advance(self, unread: Sequence[store.Unread]) -> None:
        """Move the cursors to where this batch got.

        That can be back: a large transaction that began early and committed late leaves more rows behind the cursor
        than one reading from the head can take. Where the batch may have been cut short, the next goes on from its end.
        """
        full = len(unread) >= BATCH
        for shard, items in groupby(unread, key=lambda item: item.shard):
            positions = [item.position for item in items]
            last = max(positions)
            cut = full or len(positions) >= PER_SHARD
            self._cursors[shard] = last if cut else max(last, self._cursors.get(shard, 0))

    async def _tell_others(self, connection: Connection, deliveries: Sequence[Delivery]) -> None:
        """Let the owners of other shards know of deliveries made for them.

        There are some when a tenant was registered below another one after the event was written.
        """
        foreign: set[EndpointId] = {
            delivery.endpoint_id for delivery in deliveries if delivery.shard not in self._ownership.epochs
        }
        async with connection.transaction():
            await endpoint_store.touch(connection, sorted(foreign))

    def _count(self, unread: Sequence[store.Unread], deliveries: Sequence[Delivery]) -> None:
        matched = sum(1 for _ in groupby(deliveries, key=lambda delivery: delivery.event.id))
        self._metrics.fanned_out(matched=min(matched, len(unread)), unmatched=max(0, len(unread) - matched))
        logger.debug("events.fanned_out", events=len(unread), deliveries=len(deliveries))
