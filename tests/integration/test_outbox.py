"""The contract with producers: what the outbox takes, refuses, and lets whom do."""

import asyncio
from typing import Any

import asyncpg
import pytest

from support.world import insert_event, insert_events, make_endpoint, make_tenant, until, working


@pytest.mark.parametrize(
    "columns, constraint",
    [
        ({"tenant": ""}, "outbox_tenant_1_to_255_characters_no_control_characters"),
        ({"tenant": "t" * 256}, "outbox_tenant_1_to_255_characters_no_control_characters"),
        ({"tenant": "a\nb"}, "outbox_tenant_1_to_255_characters_no_control_characters"),
        ({"event_type": ""}, "outbox_event_type_1_to_255_characters_no_control_characters"),
        ({"event_type": "a\tb"}, "outbox_event_type_1_to_255_characters_no_control_characters"),
        ({"idempotency_key": ""}, "outbox_idempotency_key_1_to_255_characters"),
        ({"idempotency_key": "k" * 3000}, "outbox_idempotency_key_1_to_255_characters"),
        ({"ordering_key": "k" * 256}, "outbox_ordering_key_1_to_255_characters"),
        ({"tenant": "", "idempotency_key": "k"}, "outbox_tenant_1_to_255_characters_no_control_characters"),
    ],
)
async def test_a_bad_row_is_refused_by_a_constraint_that_says_why(
    transaction: Any, columns: dict[str, str], constraint: str
) -> None:
    """The name of the constraint is the message."""
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await insert_event(transaction, **columns)

    assert refused.value.constraint_name == constraint


@pytest.mark.parametrize("column", ["tenant", "event_type", "payload"])
async def test_what_is_required_must_be_there(transaction: Any, column: str) -> None:
    """A missing column is named, also beside an idempotency key."""
    values: dict[str, Any] = {"tenant": "acme", "event_type": "x", "payload": "{}", "idempotency_key": "k"}
    values[column] = None

    with pytest.raises(asyncpg.NotNullViolationError) as refused:
        await insert_event(transaction, **values)

    assert refused.value.column_name == column


async def test_what_is_not_json_is_refused(transaction: Any) -> None:
    """The payload's type checks it."""
    with pytest.raises(asyncpg.InvalidTextRepresentationError):
        await insert_event(transaction, payload="{not json}")


async def test_ids_are_time_ordered_uuids_of_version_7(transaction: Any) -> None:
    """The default id is a UUIDv7 that begins with the present in milliseconds."""
    event_id = await insert_event(transaction)

    milliseconds = await transaction.fetchval("select (extract(epoch from clock_timestamp()) * 1000)::bigint")
    assert (event_id.version, event_id.variant) == (7, "specified in RFC 4122")
    assert abs((event_id.int >> 80) - milliseconds) < 5000


async def test_the_producers_role_can_insert_and_nothing_else(transaction: Any) -> None:
    """`dispatcher_producer` inserts the documented columns; it cannot read, change, delete, or write ours."""
    await transaction.execute("set role dispatcher_producer")

    inserted = await transaction.execute(
        "insert into dispatcher.outbox (tenant, event_type, payload, idempotency_key, ordering_key, deliver_at) "
        "values ('acme', 'x', '{}', 'k', 'o', now())"
    )

    assert inserted == "INSERT 0 1"
    for statement in (
        "select count(*) from dispatcher.outbox",
        "update dispatcher.outbox set tenant = 'other'",
        "delete from dispatcher.outbox",
        "truncate dispatcher.outbox",
        "insert into dispatcher.outbox (tenant, event_type, payload, shard) values ('acme', 'x', '{}', 0)",
        "select * from dispatcher.endpoint_secrets",
        "select * from dispatcher.outbox_unread",
        "delete from dispatcher.idempotency_keys",
        "create table dispatcher.mine ()",
    ):
        savepoint = transaction.transaction()
        await savepoint.start()
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await transaction.execute(statement)
        await savepoint.rollback()


async def test_rows_can_be_copied_in(database: str, connection: Any) -> None:
    """COPY is an insert like any other."""
    await make_endpoint(connection, "https://example.com/")
    await connection.copy_records_to_table(
        "outbox",
        schema_name="dispatcher",
        columns=["tenant", "event_type", "payload"],
        records=[("acme", "x", "{}"), ("acme", "y", "{}")],
    )

    async with working(database, roles=("deliver",)):
        await until(lambda: connection.fetchval("select count(*) = 2 from dispatcher.attempts"))


async def test_a_second_use_of_a_key_waits_for_the_first_to_end(database: str) -> None:
    """Of two transactions with one idempotency key the second goes through only if the first is rolled back."""
    insert = (
        "insert into dispatcher.outbox (tenant, event_type, payload, idempotency_key) values ('acme', 'x', '{}', 'k')"
    )
    first, second = await asyncpg.connect(database), await asyncpg.connect(database)
    begun = first.transaction()
    await begun.start()
    await first.execute(insert)
    waiting = asyncio.create_task(second.execute(insert))
    await until(lambda: first.fetchval("select exists (select from pg_locks where not granted)"))

    await begun.rollback()

    assert await waiting == "INSERT 0 1"
    await first.close()
    await second.close()


async def test_events_that_were_overtaken_are_read_too(database: str, connection: Any) -> None:
    """A transaction that inserted first and commits last is not passed over."""
    slow = await asyncpg.connect(database)
    await make_tenant(connection)
    async with working(database, roles=("deliver",)):
        begun = slow.transaction()
        await begun.start()
        overtaken = await insert_event(slow)
        await insert_events(connection, 50)
        await until(lambda: connection.fetchval("select count(*) = 50 from dispatcher.unmatched_events"))

        await begun.commit()

        await until(
            lambda: connection.fetchval("select 1 from dispatcher.unmatched_events where event_id = $1", overtaken)
        )
    await slow.close()


async def test_a_missing_days_partition_stops_no_producer(connection: Any) -> None:
    """What no partition takes lands in the default one, and moves when the day's partition is made."""
    await connection.execute(
        "insert into dispatcher.outbox (tenant, event_type, payload, inserted_at) "
        "values ('acme', 'x', '{}', now() + interval '40 days')"
    )

    await connection.execute("select dispatcher.create_partitions('outbox', current_date + 40, 1)")
    await connection.execute("select dispatcher.create_partitions('outbox', current_date + 39, 3)")

    partitions = await connection.fetch("select tableoid::regclass::text as name from dispatcher.outbox")
    assert [row["name"] == "dispatcher.outbox_default" for row in partitions] == [False]
