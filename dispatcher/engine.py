"""What delivers, put together: shards, fan-out, sending, recording and reaping around one set of lanes.

Each part is given what it needs of the others as plain calls, so that none of them imports another. The caller runs the
steps; `drain` ends them in the order in which they need each other.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from random import Random
from typing import Final

import structlog

from dispatcher.clock import Clock
from dispatcher.deliver.feed import Pulling, Refresh, Sweep
from dispatcher.deliver.reap import Reap
from dispatcher.deliver.record import Record
from dispatcher.deliver.send import Attempted, Send, Sends
from dispatcher.deliver.subscribers import Defaults, Subscribers
from dispatcher.doorkeeper import Doorkeeper
from dispatcher.fanout import Fanout
from dispatcher.lanes import Lanes
from dispatcher.metrics import Metrics
from dispatcher.model import Delivery, DeliveryId, Shard
from dispatcher.ownership import Ownership
from dispatcher.replay import Replay
from dispatcher.sealing import Sealer
from dispatcher.service import Step, finish
from dispatcher.settings import Settings
from dispatcher.shards import Hooks, Shards
from dispatcher.statistics import Statistics
from dispatcher.store import shards as shard_store
from dispatcher.store.pool import Pool, is_outage
from dispatcher.store.statistics import Load
from dispatcher.tally import Backlog, Tally

LAST_RESULTS_SECONDS: Final = 5.0
"""How long a database that is away is given to take the last results, at the end."""

STATISTICS_SECONDS: Final = 2.0
"""And the last counts, which are worth no long wait."""

LEAVE_SECONDS: Final = 3.0
"""And to take back the shards; without it they are free when the leases run out."""

logger = structlog.get_logger()


class Engine:
    """The steps that deliver, and the memory that they share."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        *,
        identity: shard_store.Worker,
        sender: Sends,
        wake: Callable[[str], None],
        clock: Clock,
        random: Random,
        metrics: Metrics,
    ) -> None:
        """`wake` lets a step, by its name, work now instead of after its pause."""
        self._wake = wake
        self._lanes = lanes = Lanes(
            start_in_flight=settings.delivery.in_flight_start,
            lane_in_flight=settings.delivery.in_flight_per_endpoint,
            total_in_flight=settings.delivery.in_flight,
        )
        self._subscribers = subscribers = Subscribers(
            Defaults(
                schedule=settings.retry.schedule,
                timeout=settings.egress.timeout,
                warn_after=settings.health.warn_after,
                disable_after=settings.health.disable_after,
            )
        )
        self._ownership = ownership = Ownership()
        self._tally = tally = Tally(clock)
        self.send = Send(
            lanes=lanes,
            subscribers=subscribers,
            ownership=ownership,
            sender=sender,
            clock=clock,
            random=random,
            jitter=settings.retry.jitter,
            metrics=metrics,
            on_results=self._on_results,
            on_expired=self._on_expired,
        )
        self.record = Record(
            pool,
            lanes=lanes,
            subscribers=subscribers,
            clock=clock,
            metrics=metrics,
            tally=tally,
            store_answers=settings.delivery.store_answers,
            worker=f"{identity.host}:{identity.pid}",
            on_work=self._on_work,
            on_disabled=self._on_disabled,
        )
        self.reap = Reap(
            pool,
            lanes=lanes,
            subscribers=subscribers,
            ownership=ownership,
            clock=clock,
            jitter=settings.retry.jitter,
            metrics=metrics,
            tally=tally,
            busy=self._busy,
            on_work=self._on_work,
        )
        self.pulling = Pulling(
            pool,
            ownership=ownership,
            lanes=lanes,
            subscribers=subscribers,
            sealer=Sealer([key.get_secret_value() for key in settings.sealing.keys]),
            clock=clock,
            on_work=self._on_work,
        )
        self.refresh = Refresh(
            pool,
            self.pulling,
            ownership=ownership,
            lanes=lanes,
            clock=clock,
            on_work=self._on_work,
            on_disabled=self._on_disabled,
        )
        self.sweep = Sweep(
            pool,
            ownership=ownership,
            lanes=lanes,
            subscribers=subscribers,
            clock=clock,
            metrics=metrics,
            tally=tally,
            on_work=self._on_work,
        )
        self.fanout = Fanout(
            pool,
            ownership=ownership,
            lanes=lanes,
            doorkeeper=Doorkeeper(settings.catalog.mode, files=settings.catalog.files, clock=clock),
            clock=clock,
            metrics=metrics,
            on_work=self._on_work,
            look=self.sweep.take_over,
        )
        self.replay = Replay(
            pool, ownership=ownership, lanes=lanes, clock=clock, metrics=metrics, on_work=self._on_work
        )
        self.shards = Shards(
            pool,
            identity,
            ownership=ownership,
            hooks=Hooks(
                gained=self.sweep.take_over,
                held_back=self._held_back,
                kept=self._kept,
                lost=self._lost,
                drained=self._drained,
            ),
            clock=clock,
            lease=settings.shards.lease,
            metrics=metrics,
        )
        self.statistics = Statistics(pool, worker=identity.id, tally=tally, load=self._load)

    @property
    def steps(self) -> Sequence[Step]:
        """What is to be run; each knows its name."""
        return (
            self.shards,
            self.fanout,
            self.send,
            self.pulling,
            self.refresh,
            self.sweep,
            self.record,
            self.reap,
            self.replay,
            self.statistics,
        )

    # what the parts ask of each other

    def _on_work(self) -> None:
        """Something may be sent, or read, that could not before."""
        self.send.start()
        self._wake(self.send.name)
        self._wake(self.pulling.name)

    def _on_results(self, results: Sequence[Attempted]) -> None:
        for attempted in results:
            self.record.add(attempted)
        self._wake(self.record.name)

    def _on_expired(self, delivery: Delivery) -> None:
        self.reap.add_expired(delivery)
        self._wake(self.reap.name)

    def _on_disabled(self) -> None:
        self._wake(self.reap.name)

    def _busy(self) -> list[DeliveryId]:
        """Deliveries that are being sent, or whose result is not written yet."""
        return self.send.in_flight + self.record.unwritten

    def _load(self) -> Load:
        """Tell what this worker does now; without shards nothing waits for it."""
        backlog = self._tally.backlog if self._ownership.epochs else Backlog()
        return Load(
            due=backlog.due,
            oldest_due_seconds=backlog.oldest_seconds,
            in_flight=self._lanes.in_flight(),
            held=self._lanes.held,
            lanes=len(self._subscribers),
        )

    def _held_back(self, shards: Sequence[Shard]) -> None:
        for shard in shards:
            self._lanes.hold_shard(shard)
        self.record.let_go(shards)

    def _kept(self, shards: Sequence[Shard]) -> None:
        for shard in shards:
            self._lanes.resume_shard(shard)
        self._on_work()

    def _drained(self, shard: Shard) -> bool:
        makes = self.fanout.works_on(shard) or self.replay.works_on(shard)
        return self._lanes.in_flight(shard) == 0 and not makes

    def _lost(self, shards: Sequence[Shard]) -> None:
        self.fanout.forget(shards)
        self.record.let_go(shards)
        for shard in shards:
            self._lanes.forget_shard(shard)
        self._subscribers.forget(shards)

    # the end

    async def drain(self, stop: Callable[..., Awaitable[None]], *, grace: float) -> None:
        """Begin nothing, wait up to `grace` seconds for what is in flight, record it, give the shards back.

        `stop` ends the loops of steps, by their names.
        """
        makers = (self.fanout, self.replay)
        await stop(*(step.name for step in (*makers, self.pulling, self.refresh, self.sweep, self.send)))
        cut = await self.send.stop(grace=grace)
        await stop(self.record.name, self.reap.name, self.statistics.name, self.shards.name)
        if not await finish(self._write_last_results(), within=LAST_RESULTS_SECONDS) or self.record.unwritten:
            logger.error("results.lost", results=len(self.record.unwritten), effect="they will be sent again")
        await self._try(self.statistics.write_all(), within=STATISTICS_SECONDS)
        await self._leave()
        logger.info("worker.drained", cut_short=cut)

    async def _leave(self) -> None:
        if not await self._try(self.shards.leave(), within=LEAVE_SECONDS):
            logger.warning("shards.not_given_back", effect="others take them when the leases run out")

    async def _try(self, work: Coroutine[None, None, None], *, within: float) -> bool:
        """Do what a database that is away may leave undone; tell whether it is done."""
        try:
            return await finish(work, within=within)
        except Exception as error:
            if not is_outage(error):
                raise
            return False

    async def _write_last_results(self) -> None:
        while self.record.waiting:
            await self._try_to_record()

    async def _try_to_record(self) -> None:
        try:
            await self.record.run_once()
        except Exception as error:
            if not is_outage(error):
                raise
            await asyncio.sleep(0.2)
