"""One worker process: its steps put together, started, and drained in the order in which they need each other."""

import asyncio
import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from random import Random
from typing import Final
from uuid import uuid4

import structlog

from dispatcher import __version__
from dispatcher.addresses import AddressPolicy
from dispatcher.clock import Clock
from dispatcher.deliver.feed import Pulling, Refresh, Sweep
from dispatcher.deliver.reap import Reap
from dispatcher.deliver.record import Record
from dispatcher.deliver.send import Attempted, Send, Sends
from dispatcher.deliver.subscribers import Defaults, Subscribers
from dispatcher.egress import Sender
from dispatcher.fanout import Fanout
from dispatcher.lanes import Lanes
from dispatcher.mailer import SmtpMailer
from dispatcher.metrics import Metrics
from dispatcher.model import Delivery, DeliveryId, Shard
from dispatcher.notify import Notify
from dispatcher.ownership import Ownership
from dispatcher.prune import Prune, Retention
from dispatcher.sealing import Sealer
from dispatcher.service import Availability, Loop, Step, stop_all
from dispatcher.settings import Settings, SmtpSettings
from dispatcher.shards import Hooks, Shards
from dispatcher.store import outbox as outbox_store
from dispatcher.store import shards as shard_store
from dispatcher.store.pool import Pool, is_outage, open_pool
from dispatcher.store.wakeup import Wakeup

ROLES: Final = ("deliver", "notify", "maintain")
"""What a process may do: fan out and deliver; send mails; make and drop partitions."""

STATEMENT_SECONDS: Final = 30.0
"""No statement here takes longer than a second; a database that does not answer for so long is taken for lost."""

STOP_SECONDS: Final = 10.0
"""For a step to end the run that it is in."""

POOL_SPARE: Final = 1
"""Connections that are opened at once; the others come when they are wanted."""

logger = structlog.get_logger()


class Worker:
    """The steps of one process. `start` and `stop` once each."""

    def __init__(
        self,
        settings: Settings,
        url: str,
        pool: Pool,
        *,
        roles: Sequence[str],
        metrics: Metrics,
        clock: Clock,
        random: Random,
        sender: Sends | None = None,
    ) -> None:
        self._settings = settings
        self._url = url
        self._pool = pool
        self._roles = roles
        self._metrics = metrics
        self._clock = clock
        self._random = random
        self._sender = sender
        self._own_sender: Sender | None = None
        self._mailer: SmtpMailer | None = None
        self._wakeup: Wakeup | None = None
        self._availability = Availability(metrics.database_up)
        self._loops: dict[str, Loop] = {}
        self._shards: Shards | None = None
        self._send: Send | None = None
        self._record: Record | None = None

    # putting together

    def _add(self, step: Step, *, linger: float = 0.0) -> Loop:
        loop = Loop(step, is_outage=is_outage, availability=self._availability, linger=linger)
        self._loops[step.name] = loop
        return loop

    def _wake(self, *names: str) -> None:
        for name in names:
            loop = self._loops.get(name)
            if loop is not None:
                loop.wake()

    async def start(self) -> None:
        """Begin to work."""
        async with self._pool.acquire() as connection:
            await outbox_store.fill_wakeups(connection)
            await outbox_store.set_parameters(
                connection,
                idempotency_window=self._settings.outbox.idempotency_window,
                notify_every=self._settings.outbox.notify_every if self._settings.database.notify else None,
            )
        if "deliver" in self._roles:
            self._assemble_delivery()
        if "notify" in self._roles:
            self._assemble_notify()
        if "maintain" in self._roles:
            retention = Retention(**self._settings.retention.model_dump())
            self._add(Prune(self._pool, retention=retention, clock=self._clock))
        for loop in self._loops.values():
            loop.start()
        logger.info("worker.started", roles=list(self._roles), release=__version__)

    def _assemble_delivery(self) -> None:
        settings, clock, metrics, pool = self._settings, self._clock, self._metrics, self._pool
        ownership = Ownership()
        lanes = Lanes(
            start_in_flight=settings.delivery.in_flight_start,
            lane_in_flight=settings.delivery.in_flight_per_endpoint,
            total_in_flight=settings.delivery.in_flight,
        )
        subscribers = Subscribers(
            Defaults(
                schedule=settings.retry.schedule,
                timeout=settings.egress.timeout,
                warn_after=settings.health.warn_after,
                disable_after=settings.health.disable_after,
            )
        )

        def on_work() -> None:
            send.start()
            self._wake("send", "pull")

        def on_disabled() -> None:
            self._wake("reap")

        def on_result(attempted: Attempted) -> None:
            record.add(attempted)
            self._wake("record")

        def on_expired(delivery: Delivery) -> None:
            reap.add_expired(delivery)
            self._wake("reap")

        record = Record(
            pool,
            lanes=lanes,
            subscribers=subscribers,
            clock=clock,
            metrics=metrics,
            store_answers=settings.delivery.store_answers,
            on_work=on_work,
            on_disabled=on_disabled,
        )

        def busy() -> list[DeliveryId]:
            return send.in_flight + record.waiting

        reap = Reap(
            pool,
            lanes=lanes,
            subscribers=subscribers,
            ownership=ownership,
            clock=clock,
            jitter=settings.retry.jitter,
            metrics=metrics,
            busy=busy,
            on_work=on_work,
        )
        send = Send(
            lanes=lanes,
            subscribers=subscribers,
            ownership=ownership,
            sender=self._make_sender(),
            clock=clock,
            random=self._random,
            jitter=settings.retry.jitter,
            metrics=metrics,
            on_result=on_result,
            on_expired=on_expired,
        )
        pulling = Pulling(
            pool,
            ownership=ownership,
            lanes=lanes,
            subscribers=subscribers,
            sealer=Sealer([key.get_secret_value() for key in settings.sealing.keys]),
            clock=clock,
            on_work=on_work,
        )
        sweep = Sweep(
            pool,
            ownership=ownership,
            lanes=lanes,
            subscribers=subscribers,
            clock=clock,
            metrics=metrics,
            on_work=on_work,
        )
        fanout = Fanout(pool, ownership=ownership, lanes=lanes, clock=clock, metrics=metrics, on_work=on_work)

        def lost(shards: Sequence[Shard]) -> None:
            fanout.forget(shards)
            for shard in shards:
                lanes.forget_shard(shard)
            subscribers.forget(shards)

        def held_back(shards: Sequence[Shard]) -> None:
            for shard in shards:
                lanes.hold_shard(shard)

        hooks = Hooks(
            gained=sweep.take_over,
            held_back=held_back,
            lost=lost,
            drained=lambda shard: send.drained(shard) and not fanout.works_on(shard),
        )
        worker = shard_store.Worker(
            id=uuid4(),
            host=socket.gethostname(),
            pid=os.getpid(),
            roles=tuple(self._roles),
            release=__version__,
        )
        shards = Shards(
            pool,
            worker,
            ownership=ownership,
            hooks=hooks,
            clock=clock,
            lease=settings.shards.lease,
            metrics=metrics,
        )
        refresh = Refresh(
            pool,
            pulling,
            ownership=ownership,
            lanes=lanes,
            subscribers=subscribers,
            clock=clock,
            on_work=on_work,
            on_disabled=on_disabled,
        )
        for step in (shards, fanout, send, pulling, refresh, sweep, reap):
            self._add(step)
        self._add(record, linger=record.linger)
        if settings.database.listens:
            self._wakeup = Wakeup(self._url, on_wake=lambda: self._wake("fanout"))
            self._add(self._wakeup)
        self._shards, self._send, self._record = shards, send, record

    def _make_sender(self) -> Sends:
        if self._sender is not None:
            return self._sender
        egress = self._settings.egress
        context = None
        if egress.ca_file is not None:
            context = ssl.create_default_context()
            context.load_verify_locations(egress.ca_file)
        self._own_sender = Sender(
            AddressPolicy(egress.allow_subnets),
            https_only=egress.https_only,
            connect_timeout=egress.connect_timeout,
            answer_limit=egress.answer_limit,
            user_agent=egress.user_agent,
            ssl_context=context,
        )
        return self._own_sender

    def _assemble_notify(self) -> None:
        settings = self._settings
        self._mailer = make_mailer(settings.smtp)
        self._add(
            Notify(
                self._pool,
                self._mailer,
                clock=self._clock,
                sender=settings.smtp.sender,
                digest_every=settings.notices.digest_every,
                where_to_look=settings.ops.console_url,
                metrics=self._metrics,
            )
        )

    # ending

    async def stop(self, *, grace: float) -> None:
        """Drain: begin nothing, wait up to `grace` seconds for what is in flight, record it, give the shards back."""
        await self._stop("fanout", "pull", "refresh", "sweep", "wakeup", "send")
        if self._send is not None and self._record is not None and self._shards is not None:
            cut = await self._send.stop(grace=grace)
            await self._stop("record", "reap")
            await self._write_rest(self._record)
            await self._stop("shards")
            if self._availability.up:
                await self._shards.leave()
            logger.info("worker.drained", cut_short=cut)
        await self._stop(*self._loops)
        await self._close()

    async def _write_rest(self, record: Record) -> None:
        """Write the last results; a database that is away is given some seconds to come back."""
        async with asyncio.timeout(STOP_SECONDS):
            while record.waiting:
                try:
                    await record.run_once()
                except Exception as error:
                    if not is_outage(error):
                        raise
                    logger.warning("results.delayed", results=len(record.waiting))
                    await asyncio.sleep(0.2)

    async def _stop(self, *names: str) -> None:
        loops = [loop for name in names if (loop := self._loops.pop(name, None)) is not None]
        await stop_all(loops, within=STOP_SECONDS)

    async def _close(self) -> None:
        if self._wakeup is not None:
            await self._wakeup.close()
        if self._own_sender is not None:
            await self._own_sender.close()
        if self._mailer is not None:
            await self._mailer.close()

    # eyes

    async def checks(self) -> Mapping[str, str | None]:
        """Tell what must hold for this process to do its work."""
        wrong: str | None = None
        try:
            async with asyncio.timeout(2), self._pool.acquire() as connection:
                await connection.fetchval("select 1")
        except Exception as error:  # noqa: BLE001 - whatever it is, the database is of no use
            wrong = str(error) or type(error).__name__
        return {"database": wrong}


def make_mailer(smtp: SmtpSettings) -> SmtpMailer | None:
    """Make the mailer; None if no mail server is configured."""
    if smtp.host is None:
        return None
    return SmtpMailer(
        smtp.host,
        smtp.port,
        username=smtp.username,
        password=None if smtp.password is None else smtp.password.get_secret_value(),
        tls=smtp.tls,
    )


async def open_worker_pool(settings: Settings, url: str) -> Pool:
    """Open the few connections that a worker's steps share."""
    return await open_pool(
        url,
        application_name="dispatcher worker",
        minimum=POOL_SPARE,
        maximum=settings.database.pool_size,
        pgbouncer=settings.database.pgbouncer,
        command_timeout=STATEMENT_SECONDS,
    )
