"""Retention: partitions are made ahead and dropped behind, but for what is still needed."""

import asyncio
import time
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from dispatcher.admin import ReplayDraft
from dispatcher.prune import AHEAD, Prune, Retention
from dispatcher.store import partitions, replays
from dispatcher.store.pool import open_pool
from support.admin import make_webhook, open_admin
from support.clock import FakeClock
from support.world import finished, insert_event, make_endpoint, until, working


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands at the present: the schema was made today."""
    return FakeClock(time.time())


RETENTION = Retention(events=30, deliveries=30, attempts=10, statistics=30)


async def days(connection: Any, parent: str) -> list[str]:
    """The days for which a table has a partition."""
    rows = await connection.fetch(
        "select right(inhrelid::regclass::text, 8) as day from pg_inherits "
        "where inhparent = ('dispatcher.' || $1)::regclass and inhrelid::regclass::text ~ '[0-9]{8}$' order by 1",
        parent,
    )
    return [row["day"] for row in rows]


async def test_partitions_are_made_ahead_and_dropped_behind(database: str, connection: Any, clock: FakeClock) -> None:
    """As time goes by, the days move along: each history keeps its own number of days."""
    pool = await open_pool(database)
    prune = Prune(pool, retention=RETENTION, clock=clock)
    await prune.run_once()
    start = await days(connection, "attempts")

    clock.advance(timedelta(days=45).total_seconds())
    await prune.run_once()

    attempts, outbox = await days(connection, "attempts"), await days(connection, "outbox")
    assert len(start) >= AHEAD
    assert not set(start) & set(attempts)
    assert len(attempts) >= AHEAD
    assert len(outbox) >= AHEAD
    await pool.close()


async def test_events_stay_while_a_delivery_needs_them(database: str, connection: Any, clock: FakeClock) -> None:
    """A day of the outbox is not dropped while something pending is of that day; then it is."""
    pool = await open_pool(database)
    prune = Prune(pool, retention=RETENTION, clock=clock)
    await make_endpoint(connection, "https://example.com/", state="paused")
    await insert_event(connection)
    async with working(database, roles=("deliver",)):
        await until(lambda: connection.fetchval("select count(*) = 1 from dispatcher.deliveries"))
    today = await connection.fetchval("select to_char(now() at time zone 'UTC', 'YYYYMMDD')")
    clock.advance(timedelta(days=100).total_seconds())

    await prune.run_once()
    kept = today in await days(connection, "outbox")
    await connection.execute("delete from dispatcher.deliveries")
    await prune.run_once()

    assert kept
    assert today not in await days(connection, "outbox")
    await pool.close()


async def test_a_delivery_made_meanwhile_keeps_its_event(database: str, connection: Any, clock: FakeClock) -> None:
    """A replay that commits between the look at what is needed and the drop: its event stays."""
    pool = await open_pool(database)
    prune = Prune(pool, retention=RETENTION, clock=clock)
    endpoint_id = await make_endpoint(connection, "https://example.com/", state="paused")
    event_id = await insert_event(connection)
    await connection.execute("delete from dispatcher.outbox_unread")
    event_at = await connection.fetchval("select inserted_at from dispatcher.outbox")
    clock.advance(timedelta(days=100).total_seconds())
    for parent in partitions.PARENTS:  # or making them would wait, not dropping
        await partitions.create(connection, parent, days=AHEAD, now=clock.override())
    begun = connection.transaction()
    await begun.start()
    await connection.fetch(replays.SQL.make, endpoint_id, [event_id], [event_at], clock.override())
    watcher = await asyncpg.connect(database)

    pruning = asyncio.create_task(prune.run_once())
    await until(lambda: watcher.fetchval("select count(*) > 0 from pg_locks where not granted"))
    await begun.commit()
    await pruning

    assert await connection.fetchval("select count(*) from dispatcher.outbox") == 1
    await watcher.close()
    await pool.close()


async def test_replays_that_ended_long_ago_are_forgotten(database: str, connection: Any, clock: FakeClock) -> None:
    """Those that run, and those that ended lately, stay."""
    pool = await open_pool(database)
    async with open_admin(database) as admin:
        webhook = await make_webhook(admin)
        running, old, lately = [(await admin.create_replay(webhook, ReplayDraft())).id for _ in range(3)]
    await connection.execute(
        "update dispatcher.replays set state = 'done', finished_at = now() - make_interval(days => $2) where id = $1",
        old,
        40,
    )
    await connection.execute(
        "update dispatcher.replays set state = 'done', finished_at = now() - interval '1 day' where id = $1", lately
    )

    await Prune(pool, retention=RETENTION, clock=clock).run_once()

    left = await connection.fetch("select id from dispatcher.replays")
    assert {row["id"] for row in left} == {running, lately}
    await pool.close()


async def test_a_drop_waits_for_nobody(database: str, connection: Any, clock: FakeClock) -> None:
    """A producer's open transaction holds a drop up, not the other way round; the next round drops it."""
    pool = await open_pool(database)
    prune = Prune(pool, retention=RETENTION, clock=clock)
    await prune.run_once()
    before = await days(connection, "outbox")
    begun = connection.transaction()
    await begun.start()
    await insert_event(connection)
    clock.advance(timedelta(days=45).total_seconds())

    await prune.run_once()
    held_up = await days(connection, "outbox")
    await begun.rollback()
    await prune.run_once()

    assert before[0] in held_up
    assert before[0] not in await days(connection, "outbox")
    await pool.close()


async def test_used_up_idempotency_keys_are_forgotten(database: str, connection: Any, clock: FakeClock) -> None:
    """Keys past the window go, others stay."""
    pool = await open_pool(database)
    await insert_event(connection, idempotency_key="old")
    await connection.execute("update dispatcher.idempotency_keys set used_at = now() - interval '25 hours'")
    await insert_event(connection, idempotency_key="young")

    await Prune(pool, retention=RETENTION, clock=clock).run_once()

    assert [row["key"] for row in await connection.fetch("select key from dispatcher.idempotency_keys")] == ["young"]
    await pool.close()


async def test_history_of_a_dropped_day_is_gone_and_nothing_else(database: str, connection: Any) -> None:
    """A delivery that ended today is still there after pruning today."""
    async with working(
        database, roles=("deliver", "maintain"), egress__allow_subnets="192.0.2.0/24", retry__schedule="[]"
    ):
        await make_endpoint(connection, "http://127.0.0.1:9/")
        await insert_event(connection)
        await finished(connection)

    assert await connection.fetchval("select count(*) from dispatcher.attempts") == 1
