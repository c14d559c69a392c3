"""Bring the schema up to date: numbered SQL files, forward only, each in a transaction of its own.

Any number of processes may do it at once, also through PgBouncer: a transaction-level advisory lock lets one work and
the others find nothing left to do. Files that were applied never change; their checksums are kept to notice it.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg

import dispatcher
from dispatcher.errors import DatabaseError, SchemaOutdated, SchemaTooNew
from dispatcher.store.queries import load

FILE_NAME: Final = re.compile(r"(\d{4})_([a-z0-9]+(?:_[a-z0-9]+)+)\.sql")

OLDEST_SERVER: Final = 14
"""The oldest major version of PostgreSQL that the statements are tested on."""

LOCK: Final = int.from_bytes(b"dispatch", "big", signed=True)
"""The advisory lock's number; any that the application does not use."""

INSUFFICIENT_PRIVILEGE: Final = "42501"

_queries = load(__file__)


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    number: int
    name: str
    sql: str
    checksum: str
    """SHA-256 of the file, hexadecimal, line ends as `\\n`."""

    @property
    def file(self) -> str:
        """The file's name."""
        return f"{self.number:04}_{self.name}.sql"


@dataclass(frozen=True, slots=True)
class Applied:
    """One row of `dispatcher.migrations`."""

    number: int
    name: str
    checksum: str
    release: str


def directory() -> Path:
    """Where the migrations are: inside the installed package, or in the repository of an editable install."""
    package = Path(dispatcher.__file__).parent
    for candidate in (package / "migrations", package.parent / "migrations"):
        if candidate.is_dir():
            return candidate
    raise DatabaseError(
        f"The installation of dispatcher in {package} is incomplete: its migrations are missing. Reinstall it."
    )


def read(folder: Path | None = None) -> list[Migration]:
    """Read all migrations in order; a wrong name, a gap or a number used twice is a DatabaseError."""
    folder = folder or directory()
    found = [_read_file(path) for path in sorted(folder.glob("*.sql"))]
    for expected, migration in enumerate(found, start=1):
        if migration.number != expected:
            raise DatabaseError(f"{migration.file} in {folder} should have the number {expected:04}.")
    return found


async def pending(connection: Any, *, folder: Path | None = None) -> list[Migration]:
    """What `apply` would do. Raises DatabaseError if what was applied is not what the files say, SchemaTooNew."""
    await _check_server(connection)
    return _outstanding(read(folder), await applied(connection))


async def applied(connection: Any) -> list[Applied]:
    """What was applied, in order; empty if the schema does not exist."""
    try:
        if not await connection.fetchval(_queries.table_exists):
            return []
        rows = await connection.fetch(_queries.list_applied)
    except asyncpg.InsufficientPrivilegeError as error:
        raise _may_not(await _role(connection), "read dispatcher.migrations", error) from error
    return [Applied(**row) for row in rows]


async def check(connection: Any, *, folder: Path | None = None) -> None:
    """Raise SchemaOutdated or SchemaTooNew unless the schema is the one that this release needs."""
    missing = await pending(connection, folder=folder)
    if missing:
        files = ", ".join(migration.file for migration in missing[:3]) + (", …" if len(missing) > 3 else "")  # noqa: PLR2004
        raise SchemaOutdated(
            f"The database schema lacks {len(missing)} migration(s) that dispatcher {dispatcher.__version__} needs "
            f"({files}). Run `dispatcher migrate`, as a role that owns the schema."
        )


async def apply(connection: Any, *, folder: Path | None = None) -> list[Migration]:
    """Apply what is pending, and return it. `connection` must not be in a transaction.

    Raises DatabaseError naming the file if one fails (those before it stay applied), SchemaTooNew.
    """
    await _check_server(connection)
    migrations = read(folder)
    done = []
    for migration in _outstanding(migrations, await applied(connection)):
        if await _apply_one(connection, migration, migrations):
            done.append(migration)
    return done


async def _apply_one(connection: Any, migration: Migration, migrations: list[Migration]) -> bool:
    """Apply one migration, unless another process did so while this one waited for the lock."""
    try:
        async with connection.transaction():
            await connection.execute(_queries.lock, LOCK)
            await _create_table(connection)
            if migration not in _outstanding(migrations, await applied(connection)):
                return False
            await connection.execute(migration.sql)
            await connection.execute(
                _queries.record, migration.number, migration.name, migration.checksum, dispatcher.__version__
            )
    except asyncpg.InsufficientPrivilegeError as error:
        raise _may_not(await _role(connection), f"apply {migration.file}", error) from error
    except asyncpg.PostgresError as error:
        if error.sqlstate.startswith(("08", "57P")):
            raise
        raise DatabaseError(f"{migration.file} failed and was rolled back: {error}") from error
    return True


async def _create_table(connection: Any) -> None:
    """Make the schema and its list of migrations, under the lock."""
    if not await connection.fetchval(_queries.schema_exists):
        await connection.execute(_queries.create_schema)
    if not await connection.fetchval(_queries.table_exists):
        await connection.execute(_queries.create_table)


async def _check_server(connection: Any) -> None:
    version = connection.get_server_version()
    if version.major < OLDEST_SERVER:
        raise DatabaseError(
            f"The database server is PostgreSQL {version.major}; dispatcher needs version {OLDEST_SERVER} or newer. "
            "Upgrade the server, or set `[database] url` to another one."
        )


async def _role(connection: Any) -> str:
    return str(await connection.fetchval(_queries.current_role))


def _may_not(role: str, what: str, error: Exception) -> DatabaseError:
    return DatabaseError(
        f"The database role {role} may not {what}: {error}. Run `dispatcher migrate` as the role that owns the schema "
        "dispatcher, or for the first time as one that may create it "
        f"(`grant create on database … to {role}`)."
    )


def _outstanding(migrations: list[Migration], done: list[Applied]) -> list[Migration]:
    """What is left to do, after making sure that what was done is what the files say."""
    if done and done[-1].number > len(migrations):
        raise SchemaTooNew(
            f"The database schema was made by dispatcher {done[-1].release} (migration {done[-1].number:04}), which is "
            f"newer than this release, {dispatcher.__version__} (up to {len(migrations):04}). Install that release or a "
            "newer one."
        )
    for migration, was in zip(migrations, done, strict=False):
        if migration.checksum != was.checksum:
            raise DatabaseError(
                f"{migration.file} is not the file that was applied to this database by dispatcher {was.release} "
                f"(there it was called {was.number:04}_{was.name}.sql). An applied migration must never change: "
                "reinstall the release, or restore the file, and put the change into a new migration."
            )
    return migrations[len(done) :]


def _read_file(path: Path) -> Migration:
    match = FILE_NAME.fullmatch(path.name)
    if match is None:
        raise DatabaseError(f"{path} is not named like a migration, NNNN_verb_object.sql.")
    sql = path.read_text(encoding="utf-8")
    return Migration(number=int(match[1]), name=match[2], sql=sql, checksum=hashlib.sha256(sql.encode()).hexdigest())
