"""Connect to Postgres: one connection or a pool, with patience at the first try and messages that say how to mend.

Works through PgBouncer in transaction mode when told so. Knows no tables.
"""

import logging
import os
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
import tenacity

from dispatcher.errors import ConfigError, DatabaseUnreachable

Connection = asyncpg.Connection
"""What steps get from the pool, for their annotations: they may not import asyncpg."""

Pool = asyncpg.Pool

PATIENCE: Final = 10.0
"""Seconds for the first connection: a database that starts together with the service needs a few."""

CONNECT_SECONDS: Final = 10.0
"""For one try; a host that answers nothing must not eat all the patience of larger settings."""

IDLE_IN_TRANSACTION: Final[Mapping[str, str]] = {"idle_in_transaction_session_timeout": "10s"}
"""For a transaction to go on: a worker that lost the way to the database must not hold its locks for as long as TCP
takes to notice, which can be hours. Whoever took over its shards waits for them."""

OUTAGE_STATES: Final = frozenset(
    {
        "57P01",  # admin_shutdown
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now: starting up or recovering
        "57P05",  # idle_session_timeout
        "25P03",  # idle_in_transaction_session_timeout: we were too late, or cut off
        "53300",  # too_many_connections
        "25006",  # read_only_sql_transaction: after a failover, this connection leads to a standby
    }
)

OUTAGE_CLASSES: Final = ("08",)  # connection exceptions, PgBouncer's among them

GONE_MESSAGES: Final = (
    "connection is closed",
    "connection was closed",
    "connection has been released",
    "pool is closing",
    "cannot switch to state",
)
"""asyncpg reports use of a lost connection as InterfaceError, as it does misuse; only the text tells them apart. The last
one is its own confusion when a session ends while a statement is being sent."""

MENDS: Final[Mapping[str, str]] = {
    "28P01": "Check the user and password in `[database] url`.",
    "28000": "Check the user in `[database] url`, and the server's pg_hba.conf.",
    "3D000": "Create the database, or correct its name in `[database] url`.",
}
"""Refusals that waiting does not mend."""


BY_KEY: Final[Mapping[str, str]] = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_sort": "off",
}
"""For sessions whose statements look their rows up by key, and read on in the order of an index. A connection keeps a plan
as long as no vacuum comes by; one that was made while the hot tables were empty would read them from end to end, batch
after batch, once a burst of a million rows has come. Vacuum, too, finds them empty between bursts, and to a planner who
believes that any index is as good as the one that gives the order."""


def is_outage(error: BaseException) -> bool:
    """Whether `error` means that the database is away, so that reconnecting helps; false for errors of a query."""
    match error:
        case asyncpg.PostgresError():
            state = error.sqlstate or ""
            return state in OUTAGE_STATES or state.startswith(OUTAGE_CLASSES)
        case asyncpg.InterfaceError() | asyncpg.InternalClientError():
            return any(message in str(error) for message in GONE_MESSAGES)
        case DatabaseUnreachable() | OSError():  # TimeoutError is an OSError
            return True
        case _:
            return False


def is_late(error: BaseException) -> bool:
    """Whether `error` means that a statement, or all that was asked for, took longer than it may."""
    return isinstance(error, TimeoutError | asyncpg.QueryCanceledError)


def is_locked_out(error: BaseException) -> bool:
    """Whether `error` means that a lock was not to be had in time."""
    return isinstance(error, asyncpg.LockNotAvailableError)


def is_unstorable(error: BaseException) -> bool:
    """Whether `error` means that a text holds what Postgres cannot: NUL, or half of a surrogate pair."""
    return isinstance(error, asyncpg.CharacterNotInRepertoireError) or (
        isinstance(error, asyncpg.DataError) and isinstance(error.__cause__, UnicodeEncodeError)
    )


async def connect(
    url: str,
    *,
    application_name: str = "dispatcher",
    pgbouncer: bool = False,
    statement_cache: bool = True,
    patience: float = PATIENCE,
    command_timeout: float | None = None,
) -> asyncpg.Connection:
    """Open one connection.

    `pgbouncer`: the URL leads to PgBouncer in transaction mode, where neither prepared statements nor session settings
    last. `patience`, seconds: how long to try while the server is away. `command_timeout`, seconds: for each statement
    that gives none of its own. Raises ConfigError for a bad URL, DatabaseUnreachable.
    """
    options = _options(application_name, pgbouncer=pgbouncer, statement_cache=statement_cache)

    async def attempt() -> asyncpg.Connection:
        return await asyncpg.connect(url, timeout=CONNECT_SECONDS, command_timeout=command_timeout, **options)

    return await _patiently(attempt, url, patience=patience)


async def open_pool(
    url: str,
    *,
    application_name: str = "dispatcher",
    minimum: int = 1,
    maximum: int = 4,
    pgbouncer: bool = False,
    by_key: bool = False,
    patience: float = PATIENCE,
    command_timeout: float | None = None,
) -> asyncpg.Pool:
    """Open a pool with `minimum` connections made; arguments and errors as for `connect`.

    `by_key`: no plan shall read a table from end to end, however small it is when the plan is made (PgBouncer's
    sessions keep no plans, and need no such care).

    Connections are given back as they are, without the round trip that would reset the session: nothing here changes
    session state, and an open transaction is rolled back by whoever opened it.
    """
    options = _options(application_name, pgbouncer=pgbouncer, statement_cache=True)
    if not pgbouncer:
        options["server_settings"] |= IDLE_IN_TRANSACTION
    if by_key and not pgbouncer:
        options["server_settings"] |= BY_KEY
    # that the database is away is said once, by whoever needs it; asyncpg says it again and again, with its own traceback
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)

    async def attempt() -> asyncpg.Pool:
        return await asyncpg.create_pool(
            url,
            min_size=minimum,
            max_size=maximum,
            max_inactive_connection_lifetime=0,  # re-opened connections would start with cold statement caches
            max_queries=0x7FFF_FFFF,
            reset=_leave_as_is,
            timeout=CONNECT_SECONDS,
            command_timeout=command_timeout,
            **options,
        )

    return await _patiently(attempt, url, patience=patience)


def describe(url: str) -> str:
    """Where `url` leads, for messages: host, port and database, never user or password."""
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    host = unquote(parts.netloc.rpartition("@")[2]) or query.get("host", "localhost")
    port = f" port {query['port']}" if "port" in query else ""
    database = unquote(parts.path.removeprefix("/")) or query.get("dbname") or query.get("database") or "(default)"
    return f"{host}{port}, database {database}"


def _options(application_name: str, *, pgbouncer: bool, statement_cache: bool) -> dict[str, Any]:
    # PgBouncer refuses start-up parameters that it does not track; application_name it knows
    settings = {"application_name": application_name} | ({} if pgbouncer else {"jit": "off"})
    options: dict[str, Any] = {"server_settings": settings}
    if pgbouncer or not statement_cache:
        options["statement_cache_size"] = 0
    return options


async def _leave_as_is(connection: Any) -> None:
    """Reset nothing; see `open_pool`."""


async def _patiently(attempt: Any, url: str, *, patience: float) -> Any:
    """Try until it works, `patience` runs out, or trying again cannot help."""
    _check_url(url)
    try:
        async for trial in tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(is_outage),
            wait=tenacity.wait_exponential(multiplier=0.1, max=2) + tenacity.wait_random(0, 0.1),
            stop=tenacity.stop_after_delay(patience),
            reraise=True,
        ):
            with trial:
                return await attempt()
    except (asyncpg.ClientConfigurationError, ValueError) as error:
        raise _bad_url() from error
    except asyncpg.PostgresError as error:
        raise DatabaseUnreachable(_refused(url, error)) from error
    except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise DatabaseUnreachable(_unreachable(url, error)) from error
    raise AssertionError  # pragma: no cover, the loop returns or raises


def _check_url(url: str) -> None:
    """Refuse early what asyncpg would take for something else."""
    try:
        parts = urlsplit(url)
        if parts.query:
            parse_qs(parts.query, strict_parsing=True)
    except ValueError as error:
        raise _bad_url() from error
    # an unescaped / or # ends the password early: what is left of it would be taken for a host, and be shown as one
    cut_short = "@" not in parts.netloc and ("@" in parts.path or "@" in parts.fragment)
    if parts.scheme not in {"postgresql", "postgres"} or cut_short:
        raise _bad_url()


def _bad_url() -> ConfigError:
    """Say what a URL looks like; what is wrong with this one could quote a part of its password."""
    return ConfigError(
        "`[database] url` (DISPATCHER_DATABASE__URL) cannot be read. It must look like "
        "postgresql://user:password@host:5432/database, with special characters in the password written as %-escapes "
        "(@ as %40, / as %2F, : as %3A, # as %23)."
    )


def _refused(url: str, error: Any) -> str:
    mend = MENDS.get(error.sqlstate or "", "Look into the server's log, then try again.")
    return f"The database at {describe(url)} refuses the connection: {error}. {mend}"


def _unreachable(url: str, error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        cause = "no answer in time"
    elif isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        cause = os.strerror(error.errno)
    else:
        cause = str(error) or type(error).__name__
    return (
        f"No connection to the database at {describe(url)}: {cause}. Check that the server runs and takes connections "
        "there, or correct `[database] url` (DISPATCHER_DATABASE__URL)."
    )
