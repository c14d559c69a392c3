"""One worker process: the steps of its roles, put together, started, and ended in order."""

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
from dispatcher.deliver.record import Record
from dispatcher.deliver.send import Sends
from dispatcher.egress import Sender
from dispatcher.engine import Engine
from dispatcher.fanout import Fanout
from dispatcher.mailer import SmtpMailer
from dispatcher.metrics import Metrics
from dispatcher.notify import Notify
from dispatcher.prune import Prune, Retention
from dispatcher.service import Availability, Loop, Step, stop_all
from dispatcher.settings import EgressSettings, Settings, SmtpSettings
from dispatcher.store import outbox as outbox_store
from dispatcher.store import shards as shard_store
from dispatcher.store.pool import Pool, is_outage, open_pool
from dispatcher.store.wakeup import Wakeup

ROLES: Final = ("deliver", "notify", "maintain")
"""What a process may do: fan out and deliver; send mails; make and drop partitions."""

STATEMENT_SECONDS: Final = 30.0
"""No statement here takes longer than a second; a database that does not answer for so long is taken for lost."""

STOP_SECONDS: Final = 3.0
"""For a step to end the run that it is in; what is cancelled is not lost, but done again."""

READY_SECONDS: Final = 2.0
"""For the database to answer a question about its health: what is slower is of no use to the steps either."""

POOL_SPARE: Final = 1
"""Connections that are opened at once; the others come when they are wanted."""

logger = structlog.get_logger()


def make_sender(egress: EgressSettings) -> Sender:
    """Make what speaks to subscribers, by the rules of the configuration; needs a running event loop."""
    context = None
    if egress.ca_file is not None:
        context = ssl.create_default_context()
        context.load_verify_locations(egress.ca_file)
    return Sender(
        AddressPolicy(egress.allow_subnets),
        https_only=egress.https_only,
        connect_timeout=egress.connect_timeout,
        answer_limit=egress.answer_limit,
        user_agent=egress.user_agent,
        ssl_context=context,
    )


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
        self._availability: Availability[object] = Availability(metrics.database_up, probe=self._ask_database)
        self._loops: dict[str, Loop] = {}
        self._engine: Engine | None = None

    # putting together

    def _add(self, step: Step, *, linger: float = 0.0) -> Loop:
        loop = Loop(step, is_outage=is_outage, availability=self._availability, linger=linger)
        self._loops[step.name] = loop
        return loop

    def _wake(self, name: str) -> None:
        loop = self._loops.get(name)
        if loop is not None:
            loop.wake()

    async def start(self) -> None:
        """Begin to work; may be tried again where the database raises something."""
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
        identity = shard_store.Worker(
            id=uuid4(),
            host=socket.gethostname(),
            pid=os.getpid(),
            roles=tuple(self._roles),
            release=__version__,
        )
        self._engine = Engine(
            self._settings,
            self._pool,
            identity=identity,
            sender=self._make_sender(),
            wake=self._wake,
            clock=self._clock,
            random=self._random,
            metrics=self._metrics,
        )
        for step in self._engine.steps:
            self._add(step, linger=Record.linger if step.name == Record.name else 0.0)
        if self._settings.database.listens:
            self._wakeup = Wakeup(self._url, on_wake=lambda: self._wake(Fanout.name))
            self._add(self._wakeup)

    def _make_sender(self) -> Sends:
        if self._sender is not None:
            return self._sender
        self._own_sender = make_sender(self._settings.egress)
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
        engine = self._engine
        delivering = set() if engine is None else {step.name for step in engine.steps}
        await asyncio.gather(
            self._stop(*(self._loops.keys() - delivering)),
            *([] if engine is None else [engine.drain(self._stop, grace=grace)]),
        )
        await self._close()

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
            await self._ask_database()
        except Exception as error:  # noqa: BLE001 - whatever it is, the database is of no use
            wrong = str(error) or type(error).__name__
        return {"database": wrong}

    async def _ask_database(self) -> None:
        # no asyncio.timeout: a connection is not given back before its statement is cancelled, which may take long
        async with self._pool.acquire(timeout=READY_SECONDS) as connection:
            await connection.fetchval("select 1", timeout=READY_SECONDS)


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
    """Open the few connections that a worker's steps share; tries once, and raises as `open_pool` does."""
    return await open_pool(
        url,
        application_name="dispatcher worker",
        minimum=POOL_SPARE,
        maximum=settings.database.pool_size,
        pgbouncer=settings.database.pgbouncer,
        by_key=True,
        patience=0,
        command_timeout=STATEMENT_SECONDS,
    )
