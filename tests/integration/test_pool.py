"""Connections: patience at the first one, messages that help, and telling an outage from an error."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest

from dispatcher.embedded import EmbeddedPostgres
from dispatcher.errors import ConfigError, DatabaseUnreachable
from dispatcher.store import pool
from support.proxy import Proxy


@pytest.fixture
async def proxy(postgres_server: EmbeddedPostgres) -> AsyncIterator[Proxy]:
    """A way to the server that can be cut."""
    async with Proxy(postgres_server.socket) as proxy:
        yield proxy


def url_through(proxy: Proxy, database: str = "postgres") -> str:
    """The server's URL, by way of the proxy."""
    return f"postgresql://postgres:hidden@127.0.0.1:{proxy.port}/{database}"


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("", id="empty"),
        pytest.param("host=localhost dbname=x", id="key-value form"),
        pytest.param("mysql://root:hidden@localhost/x", id="another scheme"),
        pytest.param("postgresql://bob:hidden@localhost:port/x", id="port no number"),
        pytest.param("postgresql://bob:12/hidden@localhost/x", id="slash in password"),
        pytest.param("postgresql://bob:12#hidden@localhost/x", id="hash in password"),
        pytest.param("postgresql://bob:12?hidden@localhost/x", id="question mark in password"),
        pytest.param("postgresql://localhost/x?sslmode=hidden", id="unknown sslmode"),
        pytest.param("postgresql://[hidden/x", id="half an IPv6 address"),
    ],
)
async def test_a_bad_url_is_refused_without_quoting_it(url: str) -> None:
    """The message shows what a URL looks like, and no part of a password."""
    with pytest.raises(ConfigError, match=r"\[database\] url.*postgresql://user:password@host") as caught:
        await pool.connect(url, patience=0)

    assert "hidden" not in str(caught.value)


async def test_an_unreachable_server_is_named_without_the_password(proxy: Proxy) -> None:
    """Host, port, database and the cause are in the message."""
    await proxy.refuse()

    with pytest.raises(
        DatabaseUnreachable, match=rf"at 127\.0\.0\.1:{proxy.port}, database postgres: Connection refused"
    ) as caught:
        await pool.connect(url_through(proxy), patience=0)

    assert "hidden" not in str(caught.value)


async def test_a_missing_database_is_told_at_once(proxy: Proxy) -> None:
    """Waiting would not mend it, so there is none."""
    with pytest.raises(DatabaseUnreachable, match=r'database "nowhere" does not exist.*Create the database'):
        await pool.connect(url_through(proxy, "nowhere"), patience=3600)

    assert proxy.connections == 1


@pytest.mark.parametrize("opened", [pool.connect, pool.open_pool])
async def test_the_first_connection_waits_for_the_server(proxy: Proxy, opened: Callable[..., Any]) -> None:
    """A database that starts together with the service is given time."""
    await proxy.refuse()

    opening = asyncio.create_task(opened(url_through(proxy), patience=30))
    await asyncio.sleep(0)
    await proxy.accept()
    connected = await opening

    assert await connected.fetchval("select 1") == 1
    await connected.close()


@pytest.mark.parametrize("cut", [Proxy.drop, Proxy.reset])
async def test_a_lost_connection_is_an_outage_and_the_pool_recovers(proxy: Proxy, cut: Callable[[Proxy], None]) -> None:
    """In the middle of a statement, and on a connection that was lost while idle."""
    connections = await pool.open_pool(url_through(proxy), minimum=1, maximum=1)
    async with connections.acquire() as connection:
        running = asyncio.create_task(connection.fetchval("select pg_sleep(60)"))
        while not proxy.live:  # noqa: ASYNC110, the proxy has nothing to wait on
            await asyncio.sleep(0)
        cut(proxy)
        with pytest.raises(Exception) as in_flight:  # noqa: PT011, any will do that is_outage knows
            await running
        with pytest.raises(Exception) as afterwards:  # noqa: PT011, as above
            await connection.fetchval("select 1")

    assert pool.is_outage(in_flight.value)
    assert pool.is_outage(afterwards.value)
    assert await connections.fetchval("select 1") == 1
    await connections.close()


async def test_a_server_that_ends_the_session_is_an_outage(database: str) -> None:
    """As an administrator does, or a shutdown."""
    victim = await pool.connect(database)
    killer = await pool.connect(database)

    await killer.execute("select pg_terminate_backend($1)", victim.get_server_pid())
    with pytest.raises(Exception) as caught:  # noqa: PT011, any will do that is_outage knows
        await victim.fetchval("select 1")

    assert pool.is_outage(caught.value)
    await killer.close()


async def test_silence_is_an_outage_after_the_command_timeout(proxy: Proxy) -> None:
    """A network that swallows everything must not hold a step for ever."""
    connection = await pool.connect(url_through(proxy), command_timeout=0.05)
    proxy.swallow()

    with pytest.raises(TimeoutError) as caught:
        await connection.fetchval("select 1")

    assert pool.is_outage(caught.value)
    connection.terminate()


async def test_a_transaction_that_nobody_goes_on_with_is_ended_by_the_server(database: str) -> None:
    """Its locks would hold up others; whoever comes back to it finds the connection lost."""
    connections = await pool.open_pool(database, minimum=1, maximum=1)
    async with connections.acquire() as connection:
        assert await connection.fetchval("show idle_in_transaction_session_timeout") == "10s"
        await connection.execute("set idle_in_transaction_session_timeout = '1ms'")
        left = connection.transaction()
        await left.start()
        with pytest.raises(Exception) as caught:  # noqa: PT012, PT011, any will do that is_outage knows
            while True:
                await connection.fetchval("select 1")
                await asyncio.sleep(0.01)

    assert pool.is_outage(caught.value)
    await connections.close()


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("select no_such_column", id="undefined column"),
        pytest.param("select 1 / 0", id="division by zero"),
        pytest.param("this is no SQL", id="syntax"),
    ],
)
async def test_an_error_of_a_query_is_no_outage(database: str, statement: str) -> None:
    """Reconnecting would not help."""
    connection = await pool.connect(database)
    with pytest.raises(asyncpg.PostgresError) as caught:
        await connection.execute(statement)
    await connection.close()

    assert not pool.is_outage(caught.value)


def test_misuse_of_a_connection_is_no_outage() -> None:
    """A fault of ours and a lost connection come as the same class."""
    assert not pool.is_outage(asyncpg.InterfaceError("cannot perform operation: another operation is in progress"))
    assert pool.is_outage(asyncpg.InterfaceError("cannot perform operation: connection is closed"))


async def test_json_comes_as_the_text_that_was_inserted(database: str) -> None:
    """Payloads are never parsed."""
    text = '{"b":1.10,"a":12345678901234567890123,"é":"\\u00e9"}'
    connection = await pool.connect(database)

    returned = await connection.fetchval("select $1::json", text)
    await connection.close()

    assert returned == text


@pytest.mark.parametrize(
    "pgbouncer,expected",
    [
        pytest.param(True, {"user", "database", "client_encoding", "application_name"}, id="pgbouncer"),
        pytest.param(False, {"user", "database", "client_encoding", "application_name", "jit"}, id="direct"),
    ],
)
async def test_pgbouncer_is_sent_no_start_up_parameter_that_it_refuses(*, pgbouncer: bool, expected: set[str]) -> None:
    """PgBouncer takes only those that it can restore: of ours, application_name and client_encoding."""
    sent: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def read_start_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack("!i", await reader.readexactly(4))
        sent.set_result(await reader.readexactly(length - 4))
        writer.close()

    async with await asyncio.start_server(read_start_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(DatabaseUnreachable):
            await pool.connect(f"postgresql://bob@127.0.0.1:{port}/x?sslmode=disable", pgbouncer=pgbouncer, patience=0)

    names = (await sent)[4:].rstrip(b"\0").split(b"\0")[::2]
    assert {name.decode() for name in names} == expected


async def test_through_pgbouncer_no_statement_is_kept_prepared(database: str) -> None:
    """The next statement may meet another server process."""
    connection = await pool.connect(database, pgbouncer=True)
    await connection.fetchval("select 1 where $1", True)

    prepared = await connection.fetchval("select count(*) from pg_prepared_statements where name <> ''")
    await connection.close()

    assert prepared == 0
