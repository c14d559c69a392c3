"""The migrator: order, locking, checksums, refusals."""

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import dispatcher
from dispatcher.embedded import EmbeddedPostgres
from dispatcher.errors import DatabaseError, SchemaOutdated, SchemaTooNew
from dispatcher.store import migrate

FIRST = "create table dispatcher.letters (letter text)"
SECOND = "insert into dispatcher.letters values ('a')"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two migrations."""
    (tmp_path / "0001_create_letters.sql").write_text(FIRST)
    (tmp_path / "0002_add_letter.sql").write_text(SECOND)
    return tmp_path


@pytest.fixture
async def empty(empty_database: str) -> Any:
    """A connection to a database without the schema."""
    connection = await asyncpg.connect(empty_database)
    yield connection
    await connection.close()


async def test_pending_migrations_are_applied_in_order_and_recorded(empty: Any, folder: Path) -> None:
    """Every file runs once; the list of migrations says which and by what release."""
    done = await migrate.apply(empty, folder=folder)

    rows = await empty.fetch("select number, name, release from dispatcher.migrations order by number")
    assert [migration.file for migration in done] == ["0001_create_letters.sql", "0002_add_letter.sql"]
    assert [tuple(row) for row in rows] == [
        (1, "create_letters", dispatcher.__version__),
        (2, "add_letter", dispatcher.__version__),
    ]
    assert await empty.fetchval("select count(*) from dispatcher.letters") == 1


async def test_a_second_run_does_nothing(empty: Any, folder: Path) -> None:
    """What was applied is not applied again."""
    await migrate.apply(empty, folder=folder)

    assert await migrate.apply(empty, folder=folder) == []
    assert await migrate.pending(empty, folder=folder) == []
    await migrate.check(empty, folder=folder)


async def test_many_processes_at_once_apply_each_migration_once(empty_database: str, folder: Path) -> None:
    """The advisory lock lets one work; the others find nothing left."""

    async def one() -> list[migrate.Migration]:
        connection = await asyncpg.connect(empty_database)
        try:
            return await migrate.apply(connection, folder=folder)
        finally:
            await connection.close()

    results = await asyncio.gather(*(one() for _ in range(8)))

    assert sorted(migration.number for done in results for migration in done) == [1, 2]


async def test_a_failing_migration_is_rolled_back_and_named(empty: Any, folder: Path) -> None:
    """Those before it stay; it leaves nothing."""
    (folder / "0003_break_things.sql").write_text("create table dispatcher.half (a int); select no_such_thing")

    with pytest.raises(DatabaseError, match=r"0003_break_things\.sql failed and was rolled back: .*no_such_thing"):
        await migrate.apply(empty, folder=folder)

    assert await empty.fetchval("select max(number) from dispatcher.migrations") == 2
    assert await empty.fetchval("select to_regclass('dispatcher.half')") is None


async def test_a_changed_file_is_refused(empty: Any, folder: Path) -> None:
    """An applied migration never changes."""
    await migrate.apply(empty, folder=folder)
    (folder / "0001_create_letters.sql").write_text(FIRST + " -- harmless")

    with pytest.raises(DatabaseError, match=r"0001_create_letters\.sql is not the file that was applied"):
        await migrate.apply(empty, folder=folder)


async def test_line_ends_do_not_change_a_file(empty: Any, folder: Path) -> None:
    """A checkout with other line ends is the same migration."""
    (folder / "0002_add_letter.sql").write_bytes(b"insert into\n  dispatcher.letters values ('a')")
    await migrate.apply(empty, folder=folder)
    (folder / "0002_add_letter.sql").write_bytes(b"insert into\r\n  dispatcher.letters values ('a')")

    assert await migrate.apply(empty, folder=folder) == []


async def test_a_newer_schema_is_refused(empty: Any, folder: Path) -> None:
    """An old release keeps its hands off what a newer one made."""
    await migrate.apply(empty, folder=folder)
    await empty.execute("insert into dispatcher.migrations values (3, 'add_future', 'x', now(), '99.0')")

    with pytest.raises(SchemaTooNew, match=r"made by dispatcher 99\.0 \(migration 0003\)"):
        await migrate.check(empty, folder=folder)


@pytest.mark.parametrize("applied", [0, 1])
async def test_missing_migrations_are_named_with_the_mend(empty: Any, folder: Path, applied: int) -> None:
    """Check says what lacks and what to run, also on a database without the schema."""
    if applied:
        second = folder / "0002_add_letter.sql"
        second.rename(folder / "aside")
        await migrate.apply(empty, folder=folder)
        (folder / "aside").rename(second)

    with pytest.raises(
        SchemaOutdated, match=rf"lacks {2 - applied} migration.*0002_add_letter\.sql.*`dispatcher migrate`"
    ):
        await migrate.check(empty, folder=folder)


@pytest.mark.parametrize(
    "name,message",
    [
        pytest.param("0004_skip_one.sql", "should have the number 0003", id="gap"),
        pytest.param("0002_use_twice.sql", "should have the number 0003", id="twice"),
        pytest.param("3_name_badly.sql", "not named like a migration", id="name"),
    ],
)
def test_misnumbered_files_are_refused(folder: Path, name: str, message: str) -> None:
    """A gap, a double or a wrong name is found before anything runs."""
    (folder / name).write_text("select 1")

    with pytest.raises(DatabaseError, match=message):
        migrate.read(folder)


async def test_a_role_without_rights_is_told_what_it_lacks(
    postgres_server: EmbeddedPostgres, empty: Any, empty_database: str, folder: Path
) -> None:
    """The message names the role and the right."""
    await empty.execute("create role migrate_powerless login")
    powerless = await asyncpg.connect(empty_database, user="migrate_powerless")
    try:
        with pytest.raises(
            DatabaseError, match=r"role migrate_powerless may not apply 0001_.*grant create on database"
        ):
            await migrate.apply(powerless, folder=folder)
        await migrate.apply(empty, folder=folder)
        with pytest.raises(DatabaseError, match=r"role migrate_powerless may not read dispatcher\.migrations"):
            await migrate.check(powerless, folder=folder)
    finally:
        await powerless.close()
        await empty.execute("drop role migrate_powerless")


async def test_a_role_that_may_create_in_the_schema_alone_can_migrate(
    empty: Any, empty_database: str, folder: Path
) -> None:
    """The schema may be made beforehand by somebody with more rights."""
    await empty.execute("create role migrate_owner login; create schema dispatcher authorization migrate_owner")
    owner = await asyncpg.connect(empty_database, user="migrate_owner")
    try:
        assert len(await migrate.apply(owner, folder=folder)) == 2
    finally:
        await owner.close()
        await empty.execute("drop owned by migrate_owner cascade; drop role migrate_owner")


async def test_the_real_migrations_apply_and_check_out(empty: Any) -> None:
    """The files of this repository run from nothing."""
    done = await migrate.apply(empty)

    await migrate.check(empty)
    assert [migration.number for migration in done] == list(range(1, len(migrate.read()) + 1))


async def test_a_server_that_is_too_old_is_refused() -> None:
    """Before anything is tried on it."""

    class Old:
        def get_server_version(self) -> asyncpg.types.ServerVersion:
            return asyncpg.types.ServerVersion(13, 4, 0, "final", 0)

    with pytest.raises(DatabaseError, match=r"is PostgreSQL 13; dispatcher needs version 14 or newer"):
        await migrate.apply(Old())
