"""The composition root: settings become a database, workers and listeners; here alone is decided what is made of what."""

import asyncio
import gc
import os
import resource
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from multiprocessing import get_context, parent_process
from random import Random
from typing import TYPE_CHECKING, Any, Final

import structlog
from aiohttp import web

from dispatcher import logs
from dispatcher.errors import ConfigError, DispatcherError
from dispatcher.service import Children, Stop, outlast
from dispatcher.settings import Settings, host_port, summary
from dispatcher.store import migrate
from dispatcher.store.pool import PATIENCE, Pool, connect, is_outage, open_pool

if TYPE_CHECKING:
    from dispatcher.admin import Admin
    from dispatcher.console.ops import Checks, Render
    from dispatcher.doctor import Check
    from dispatcher.doorkeeper import Doorkeeper

ROLES: Final = ("deliver", "notify", "maintain", "api")
"""What a process may do: see `worker.ROLES`; and answer tenants, which of several processes the first one does."""

NEW_OBJECTS: Final = 20_000
"""Between two looks for garbage in cycles. The interpreter's own 700 come together in some dozens of deliveries, and a
look at all that a batch holds in memory finds none: it cost a tenth of a busy worker's processor time. So many take a few
megabytes."""

ENOUGH_FILES: Final = 1 << 16
"""Open files: a connection per request in flight, and as many unused ones, are far fewer."""

FEW_FILES: Final = 4096
"""Open files below which there is a word of warning: unused connections are closed early, and opened again."""

API_STATEMENT_SECONDS: Final = 20.0
"""For one statement of the API or the console: what people ask for takes milliseconds, or it takes too long."""

CONSOLE_CONNECTIONS: Final = 4
"""To the database: opened when they are wanted, and there are few operators."""

READY_SECONDS: Final = 2.0
"""For the database to answer a question about its health: what is slower is of no use to workers either."""

CLOSE_SECONDS: Final = 2.0
"""For connections to be closed in order, at the end."""

HURRY: Final = 1.0
"""Seconds that a person's command waits for a database that is away; a service waits longer, it may start first."""

logger = structlog.get_logger()


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[str]:
    """Give the URL of the configured database, or of the embedded one, which runs for as long as this is open."""
    if settings.database.url is not None:
        yield settings.database.url.get_secret_value()
        return
    from dispatcher.embedded import EmbeddedPostgres  # its wheel is an extra

    async with EmbeddedPostgres(settings.database.data_directory) as server:
        yield server.url


async def run_migrations(settings: Settings, *, check: bool) -> Sequence[migrate.Migration]:
    """Apply what is missing and return it; with `check` change nothing, and raise SchemaOutdated if something is."""
    async with open_database(settings) as url:
        return await _migrate(settings, url, check=check, patience=HURRY)


async def _migrate(
    settings: Settings, url: str, *, check: bool, patience: float = PATIENCE
) -> Sequence[migrate.Migration]:
    connection = await connect(
        url, application_name="dispatcher migrate", pgbouncer=settings.database.pgbouncer, patience=patience
    )
    try:
        if check:
            await migrate.check(connection)
            return ()
        return await migrate.apply(connection)
    finally:
        await connection.close()


@asynccontextmanager
async def open_admin(settings: Settings) -> "AsyncIterator[Admin]":
    """Open what a person's command needs. The embedded database is brought up to date; any other one must be.

    Raises the errors of `DispatcherError`.
    """
    async with open_database(settings) as url:
        await _migrate(settings, url, check=settings.database.url is not None, patience=HURRY)
        pool = await open_pool(
            url, application_name="dispatcher admin", maximum=2, pgbouncer=settings.database.pgbouncer, patience=HURRY
        )
        try:
            yield make_admin(settings, pool)
        finally:
            await pool.close()


def make_admin(settings: Settings, pool: Pool) -> "Admin":
    """Make what knows what people may do, by the rules of the configuration."""
    from dispatcher.addresses import AddressPolicy
    from dispatcher.admin import Admin
    from dispatcher.sealing import Sealer
    from dispatcher.worker import make_sender

    return Admin(
        pool,
        doorkeeper=open_doorkeeper(settings),
        sealer=Sealer([key.get_secret_value() for key in settings.sealing.keys]),
        policy=AddressPolicy(settings.egress.allow_subnets),
        https_only=settings.egress.https_only,
        default_schedule=settings.retry.schedule,
        make_sender=lambda: make_sender(settings.egress),
        origin=settings.egress.origin,
        portal_url=f"{(settings.api.public_url or f'http://{settings.api.listen}').rstrip('/')}/portal",
    )


def open_doorkeeper(settings: Settings) -> "Doorkeeper":
    """Make what knows the catalogue; `of_files` reads the configured files, and raises CatalogError."""
    from dispatcher.doorkeeper import Doorkeeper

    return Doorkeeper(settings.catalog.mode, files=settings.catalog.files)


def serve(settings: Settings, *, workers: int, roles: Sequence[str]) -> int:
    """Run until told to stop; returns the exit code. Raises the errors of `DispatcherError` when it cannot begin."""
    chosen = tuple(roles) or ROLES
    unknown = [role for role in chosen if role not in ROLES]
    if unknown:
        raise ConfigError(f"There is no role named {', '.join(unknown)}. The roles are {', '.join(ROLES)}.")
    logs.configure(format=settings.log.format, level=settings.log.level)
    open_doorkeeper(settings).of_files()
    raise_file_limit(max(ENOUGH_FILES, 2 * settings.delivery.in_flight))
    if workers == 1:
        return run_loop(lambda: _serve(settings, chosen))
    with tempfile.TemporaryDirectory(prefix="dispatcher-metrics-") as directory:
        # read by prometheus-client when it is imported, here and in the children
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        return run_loop(lambda: _supervise(settings, chosen, workers))


def raise_file_limit(wanted: int) -> None:
    """Let this process and its children open `wanted` files, or as many as the machine allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < most:
        with suppress(ValueError, OSError):  # some systems allow less than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit < FEW_FILES:
        logger.warning("files.limited", limit=limit, mend="raise the limit of open files (ulimit -n, LimitNOFILE=)")


def run_loop(work: Callable[[], Awaitable[int]]) -> int:
    """Run an event loop, uvloop's where there is one: it takes about a quarter off the cost of a request."""

    async def run() -> int:
        return await work()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(run())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _serve(settings: Settings, roles: Sequence[str]) -> int:
    """One process does all."""
    async with AsyncExitStack() as stack:
        stop = Stop()
        stack.enter_context(stop.on_signals())
        url = await stack.enter_async_context(open_database(settings))
        await _migrate(settings, url, check=False)
        logger.info("service.started", settings=summary(settings))
        return await _work(settings, url, roles, stop, ops=True)


async def _work(settings: Settings, url: str, roles: Sequence[str], stop: Stop, *, ops: bool) -> int:
    """Run one worker until it is told to stop. It waits for its database, however long that takes."""
    from dispatcher.clock import Clock
    from dispatcher.metrics import Metrics
    from dispatcher.worker import Worker, open_worker_pool

    metrics = Metrics()
    async with AsyncExitStack() as stack:
        pool = await outlast(
            lambda: open_worker_pool(settings, url), stop, is_outage=is_outage, on_change=metrics.database_up
        )
        if pool is None:
            logger.info("service.stopped", drained=True)
            return 0
        stack.push_async_callback(_close, pool)
        random = Random()  # noqa: S311 - jitter is no secret
        worker = Worker(settings, url, pool, roles=roles, metrics=metrics, clock=Clock(), random=random)
        if ops:  # first: what it may refuse must not cut requests short
            await stack.enter_async_context(listen_ops(settings, url, render=metrics.render, ready=worker.checks))
            if "api" in roles:
                await stack.enter_async_context(listen_api(settings, url))
        await outlast(worker.start, stop, is_outage=is_outage, on_change=metrics.database_up)
        _look_less_for_garbage()
        await stop.asked.wait()
        drained = await stop.unless_forced(worker.stop(grace=settings.delivery.grace))
    logger.info("service.stopped", drained=drained)
    return 0 if drained else 1


def _look_less_for_garbage() -> None:
    """Let the collector of cycles pass over what stays for the whole life of the process, and come seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, 10, 10)


async def _close(pool: Pool) -> None:
    """Close in order what can be; a database that is away must not hold up the end."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await pool.close()
    except TimeoutError:
        pool.terminate()


@asynccontextmanager
async def listen_ops(settings: Settings, url: str, *, render: "Render", ready: "Checks") -> AsyncIterator[None]:
    """Serve metrics, health and the console on the ops listener, with database connections of its own."""
    async with _open_pages_pool(settings, url, "dispatcher console", maximum=CONSOLE_CONNECTIONS) as pool:
        app = make_ops_app(settings, url, make_admin(settings, pool), render=render, ready=ready)
        async with _listen(app, settings.ops.listen, section="ops"):
            yield


def make_ops_app(settings: Settings, url: str, admin: "Admin", *, render: "Render", ready: "Checks") -> web.Application:
    """Make what the ops listener serves."""
    from dispatcher.clock import Clock
    from dispatcher.console.app import make_app
    from dispatcher.console.doors import Access

    return make_app(
        admin,
        render=render,
        ready=ready,
        access=Access(
            session=settings.console.session,
            trusted_header=settings.console.trusted_header,
            trusted_proxies=settings.console.trusted_proxies,
            secure=_is_https(settings.ops.console_url),
        ),
        monotonic=Clock().monotonic,
        examine=lambda: _examine(settings, url),
    )


async def _examine(settings: Settings, url: str) -> "AsyncIterator[Check]":
    """Make the doctor's checks of a service that runs."""
    from dispatcher import doctor
    from dispatcher.clock import Clock

    yield doctor.judge_egress(settings.egress)
    try:
        connection = await connect(
            url, application_name="dispatcher doctor", pgbouncer=settings.database.pgbouncer, patience=0
        )
    except DispatcherError as error:
        yield doctor.refused("database", error)
        return
    try:
        async for check in doctor.examine_database(connection, sealing=settings.sealing, clock=Clock()):
            yield check
    finally:
        await connection.close()
    yield await doctor.examine_smtp(settings.smtp)


@asynccontextmanager
async def _open_pages_pool(settings: Settings, url: str, name: str, *, maximum: int) -> AsyncIterator[Pool]:
    """Open connections for a listener."""
    pool = await open_pool(
        url,
        application_name=name,
        maximum=maximum,
        pgbouncer=settings.database.pgbouncer,
        command_timeout=API_STATEMENT_SECONDS,
    )
    try:
        yield pool
    finally:
        await _close(pool)


def _is_https(url: str | None) -> bool:
    return url is not None and url.startswith("https:")


@asynccontextmanager
async def listen_api(settings: Settings, url: str) -> AsyncIterator[None]:
    """Serve the tenants' HTTP API and their own pages on its listener, with database connections of its own."""
    async with (
        _open_pages_pool(settings, url, "dispatcher api", maximum=settings.api.pool_size) as pool,
        _listen(make_api_app(settings, make_admin(settings, pool)), settings.api.listen, section="api"),
    ):
        yield


def make_api_app(settings: Settings, admin: "Admin") -> web.Application:
    """Make what the tenants' listener serves."""
    from dispatcher.api.app import make_app
    from dispatcher.clock import Clock
    from dispatcher.console.app import PREFIX, make_portal

    app = make_app(
        admin,
        body_limit=settings.api.body_limit,
        rate_limit=settings.api.rate_limit,
        monotonic=Clock().monotonic,
    )
    app.add_subapp(PREFIX, make_portal(admin, secure=_is_https(settings.api.public_url), monotonic=Clock().monotonic))
    return app


@asynccontextmanager
async def _listen(app: web.Application, listen: str, *, section: str) -> AsyncIterator[None]:
    """Serve an application on the listener of a section; in the end, let requests that are under way come to theirs."""
    host, port = host_port(listen)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_SECONDS)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ConfigError(
                f"Nothing can listen on {listen}: {error.strerror or error}. Stop what does, or set `[{section}] listen` "
                f"(DISPATCHER_{section.upper()}__LISTEN) to another address; port 0 takes any free one."
            ) from error
        logger.info("ops.listening" if section == "ops" else "api.listening", address=_shown(runner.addresses))
        yield
    finally:
        await runner.cleanup()


def _shown(addresses: Sequence[Any]) -> str:
    host, port = addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _supervise(settings: Settings, roles: Sequence[str], workers: int) -> int:
    """Several processes work; this one holds the embedded database, watches them and serves what they count."""
    from dispatcher.metrics import Metrics, process_died

    async with AsyncExitStack() as stack:
        stop = Stop()
        stack.enter_context(stop.on_signals())
        url = await stack.enter_async_context(open_database(settings))
        await _migrate(settings, url, check=False)
        logger.info("service.started", settings=summary(settings), workers=workers)
        context = get_context("spawn")
        theirs = tuple(role for role in roles if role != "api")

        def start(index: int) -> Any:
            child = context.Process(
                target=work, args=(settings, url, theirs, index), name=f"worker-{index}", daemon=False
            )
            child.start()
            return child

        children = Children(start, workers, on_death=process_died)

        async def ready() -> Mapping[str, str | None]:
            missing = workers - children.alive
            return {
                "workers": f"{missing} of {workers} do not run, and are started again" if missing else None,
                "database": await _database_fault(settings, url),
            }

        await stack.enter_async_context(listen_ops(settings, url, render=Metrics().render, ready=ready))
        if "api" in roles:
            await stack.enter_async_context(listen_api(settings, url))
        children.start()
        watching = asyncio.create_task(children.watch())
        await stop.asked.wait()
        watching.cancel()
        children.signal()
        drained = await stop.unless_forced(children.gone())
        if not drained:
            children.kill()
    logger.info("service.stopped", drained=drained)
    return 0 if drained else 1


async def _database_fault(settings: Settings, url: str) -> str | None:
    """Say why the database cannot be used, None if it can; on a connection of its own, for the parent holds none."""
    try:
        async with asyncio.timeout(READY_SECONDS):
            connection = await connect(
                url, application_name="dispatcher health", pgbouncer=settings.database.pgbouncer, patience=0
            )
            await connection.close()
    except Exception as error:  # noqa: BLE001 - whatever it is, the database is of no use
        return str(error) or type(error).__name__
    return None


def work(settings: Settings, url: str, roles: Sequence[str], index: int) -> None:
    """Be a worker process of `_supervise`, the `index`th."""
    os.setpgrp()  # Ctrl-C in a terminal goes to the whole group; the parent passes it on, once
    logs.configure(format=settings.log.format, level=settings.log.level)
    structlog.contextvars.bind_contextvars(worker=index)  # their lines come out of one stdout
    raise SystemExit(run_loop(lambda: _work_as_child(settings, url, roles)))


async def _work_as_child(settings: Settings, url: str, roles: Sequence[str]) -> int:
    stop = Stop()
    parent = parent_process()
    with stop.on_signals():
        if parent is not None:
            # readable when the parent is gone, however it went: a worker without one would never be told to stop
            asyncio.get_running_loop().add_reader(parent.sentinel, _orphaned, parent.sentinel, stop)
        return await _work(settings, url, roles, stop, ops=False)


def _orphaned(sentinel: int, stop: Stop) -> None:
    asyncio.get_running_loop().remove_reader(sentinel)
    logger.warning("worker.orphaned")
    if not stop.asked.is_set():
        stop.ask()
