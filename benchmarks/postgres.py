"""The database of a benchmark: a server of its own, or a database of its own on a given server."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psutil

from benchmarks.errors import BenchmarkError
from dispatcher.binaries import system_bin_directory
from dispatcher.embedded import EmbeddedPostgres
from dispatcher.store import migrate

LOGGING: Final = {
    "log_statement": "all",
    "log_parameter_max_length": "0",
    "log_line_prefix": "%a|",
    "logging_collector": "off",
}
"""What makes the server's log a count of statements: a line for each that begins with the application's name. Costs Postgres
some ten microseconds a statement, and there are few."""


@dataclass(frozen=True, slots=True)
class Database:
    """Where the benchmark's rows are."""

    url: str
    server: str
    """Name and version, for the report."""
    pid: int | None
    """The server's first process; null where it cannot be seen from here."""
    log: Path | None
    """The server's log, which names each statement (`LOGGING`); null where the server is another's."""


@asynccontextmanager
async def open_database(choice: str) -> AsyncIterator[Database]:
    """Give a fresh database with the schema: on `embedded`, on `system`, or on the server that a URL leads to."""
    if choice in {"embedded", "system"}:
        async with _own_server(choice) as database:
            yield database
    else:
        async with _own_database(choice) as database:
            yield database


@contextmanager
def open_folder() -> Iterator[Path]:
    """Make a folder that the server's user can reach, also where root measures; gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="dispatcher-benchmark-"))
    try:
        if os.geteuid() == 0:
            folder.chmod(0o711)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def _own_server(choice: str) -> AsyncIterator[Database]:
    programs = system_bin_directory() if choice == "system" else None
    if choice == "system" and programs is None:
        raise BenchmarkError("No installed PostgreSQL server was found. Install one, or take --postgres=embedded.")
    with open_folder() as folder:
        server = EmbeddedPostgres(folder / "data", bin_directory=programs, settings=LOGGING)
        async with server:
            connection = await asyncpg.connect(server.url)
            try:
                await migrate.apply(connection)
                yield Database(server.url, await _name(connection, choice), server.pid, server.log)
            finally:
                await connection.close()


@asynccontextmanager
async def _own_database(url: str) -> AsyncIterator[Database]:
    name = f"dispatcher_benchmark_{os.getpid()}"
    try:
        outer = await asyncpg.connect(url)
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise BenchmarkError(f"No connection to the server of --postgres: {error}") from error
    try:
        await outer.execute(f"create database {name}")
        try:
            inner = await asyncpg.connect(url, database=name)
            try:
                await migrate.apply(inner)
                server, pid = await _name(inner, "given"), await _postmaster(inner)
            finally:
                await inner.close()
            yield Database(urlunsplit(urlsplit(url)._replace(path=f"/{name}")), server, pid, log=None)
        finally:
            await outer.execute(f"drop database {name} with (force)")
    finally:
        await outer.close()


async def _name(connection: Any, choice: str) -> str:
    return f"PostgreSQL {await connection.fetchval('show server_version')} ({choice})"


async def _postmaster(connection: Any) -> int | None:
    """Find the server's first process, if it runs on this machine."""
    pid = await connection.fetchval("select pg_backend_pid()")
    try:
        process = psutil.Process(pid)
        parent = process.parent()
    except psutil.Error:
        return None
    return parent.pid if parent is not None and "postgres" in process.name() else None
