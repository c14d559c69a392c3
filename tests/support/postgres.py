"""Find, start and fill the PostgreSQL server that tests run on.

`python -m support.postgres` exits 0 if an installed server can be tested on, too.
"""

import asyncio
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from dispatcher.binaries import system_bin_directory
from dispatcher.embedded import EmbeddedPostgres
from dispatcher.store import migrate

FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",  # no test should depend on when it happens to run
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "1h",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "log_statement": "none",
}
"""Nothing a test writes need survive the machine's crash. The server's own it does: a commit is still written at once,
only not forced to the disk; without `synchronous_commit` tests of crashes would lose what was committed."""

TEMPLATE = "dispatcher_template"

_numbers = itertools.count(1)


def choose_bin_directory(choice: str) -> Path | None:
    """What `--postgres` means: `embedded` (None), `system`, or a folder with the server's programs."""
    if choice == "embedded":
        return None
    folder = system_bin_directory() if choice == "system" else Path(choice)
    if folder is None or not (folder / "postgres").exists():
        raise pytest.UsageError(
            f"--postgres={choice}: no PostgreSQL server programs found; install postgresql, or name their folder"
        )
    return folder


@contextmanager
def running_server(bin_directory: Path | None) -> Iterator[EmbeddedPostgres]:
    """A server with the migrations applied to its template database; gone without a trace afterwards."""
    with data_directory() as folder:
        server = EmbeddedPostgres(folder, bin_directory=bin_directory, settings=FAST, database=TEMPLATE)
        asyncio.run(server.start())
        try:
            asyncio.run(_fill_template(server.url))
            yield server
        finally:
            asyncio.run(server.stop("immediate"))


@contextmanager
def data_directory() -> Iterator[Path]:
    """An empty folder that the server's user can reach, also if the tests run as root: pytest's own is closed to it."""
    folder = Path(tempfile.mkdtemp(prefix="dispatcher-test-"))
    try:
        if os.geteuid() == 0:
            folder.chmod(0o711)
        yield folder / "data"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def clone_template(server: EmbeddedPostgres) -> str:
    """Make a fresh database with the schema in it; its name."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    # copying files takes no WAL; with fsync off it is the cheaper way
    strategy = " strategy file_copy" if _major_version(server) >= 15 else ""
    await _execute(server, f"create database {name} template {TEMPLATE}{strategy}")
    return name


async def create_empty(server: EmbeddedPostgres) -> str:
    """Make a fresh, empty database; its name."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    await _execute(server, f"create database {name}")
    return name


@contextmanager
def shared_clone(server: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a clone, for use outside of a loop."""
    name = asyncio.run(clone_template(server))
    yield server.url_of(name)
    asyncio.run(drop(server, name))


async def drop(server: EmbeddedPostgres, database: str) -> None:
    """Drop a database, whoever is still connected to it."""
    await _execute(server, f"drop database if exists {database} with (force)")


async def _fill_template(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await migrate.apply(connection)
    finally:
        await connection.close()


def _major_version(server: EmbeddedPostgres) -> int:
    return int((server.cluster / "PG_VERSION").read_text())


async def _execute(server: EmbeddedPostgres, statement: str) -> None:
    connection = await asyncpg.connect(server.url_of("postgres"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


if __name__ == "__main__":
    sys.exit(system_bin_directory() is None)
