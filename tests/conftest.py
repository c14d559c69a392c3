"""The database that tests run on: a real server, a template with the schema, cheap clones of it.

Use `transaction` where one connection is enough (rolled back, 0.3 ms), `database` where several connections, LISTEN or
processes meet (a clone). The server comes from the wheel, or with `--postgres=system` from the machine.
"""

import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from dispatcher.embedded import EmbeddedPostgres
from dispatcher.store.pool import Pool, open_pool
from support import postgres
from support.clock import FakeClock


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the server be chosen."""
    parser.addoption(
        "--postgres",
        default="embedded",
        metavar="embedded|system|FOLDER",
        help="which PostgreSQL the tests run on: the wheel's, the machine's newest, or the programs in FOLDER",
    )


def pytest_configure() -> None:
    """Let SIGTERM, as from CI's time limit, end the tests as Ctrl-C does: the server is stopped, its folder removed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several run at once, let no more than two of the tests that start processes: they need the machine."""
    files = sorted({item.path for item in items if item.get_closest_marker("system") is not None})
    for item in items:
        if item.path in files:
            item.add_marker(pytest.mark.xdist_group(f"system {files.index(item.path) % 2}"))


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> Iterator[EmbeddedPostgres]:
    """The server of this session; its own database is the template."""
    with postgres.running_server(postgres.choose_bin_directory(pytestconfig.getoption("--postgres"))) as server:
        yield server


@pytest.fixture
async def database(postgres_server: EmbeddedPostgres) -> AsyncIterator[str]:
    """The URL of a fresh database with the schema in it."""
    name = await postgres.clone_template(postgres_server)
    yield postgres_server.url_of(name)
    await postgres.drop(postgres_server, name)


@pytest.fixture
async def empty_database(postgres_server: EmbeddedPostgres) -> AsyncIterator[str]:
    """The URL of a fresh database without the schema."""
    name = await postgres.create_empty(postgres_server)
    yield postgres_server.url_of(name)
    await postgres.drop(postgres_server, name)


@pytest.fixture(scope="session")
def shared_database(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """The URL of one clone for all tests that undo what they do."""
    with postgres.shared_clone(postgres_server) as url:
        yield url


@pytest.fixture
async def transaction(shared_database: str) -> AsyncIterator[Any]:
    """A connection inside a transaction that is rolled back in the end."""
    connection = await asyncpg.connect(shared_database)
    outer = connection.transaction()
    await outer.start()
    yield connection
    await outer.rollback()
    await connection.close()


@pytest.fixture
async def connection(database: str) -> AsyncIterator[Any]:
    """A connection to `database`, which commits what it is told to."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still."""
    return FakeClock()


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """Connections for steps that work at once."""
    pool = await open_pool(database, maximum=4)
    yield pool
    await pool.close()
