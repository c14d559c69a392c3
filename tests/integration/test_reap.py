"""Deliveries that nobody can have any more end: expired, overdue, of a disabled or an archived endpoint."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from dispatcher.addresses import AddressPolicy
from dispatcher.admin import Admin
from dispatcher.deliver.reap import BATCH
from dispatcher.model import DeliveryId, EndpointId
from dispatcher.sealing import Sealer
from dispatcher.store.pool import open_pool
from support.clock import FakeClock
from support.steps import WAY, answered, early_clock, instant, stepping, webhook_ids
from support.world import insert_event, insert_events, make_endpoint

MAIL = {"notification_email": "it@example.com"}


@pytest.fixture
def clock() -> FakeClock:
    """A clock that begins in the past."""
    return early_clock()


@asynccontextmanager
async def people(database: str, clock: FakeClock) -> AsyncIterator[Admin]:
    """What people do, by the same clock."""
    pool = await open_pool(database, maximum=2)
    try:
        yield Admin(pool, sealer=Sealer(), policy=AddressPolicy(), clock=clock)
    finally:
        await pool.close()


async def make_hook(connection: Any, **columns: Any) -> EndpointId:
    """The one endpoint."""
    return EndpointId(await make_endpoint(connection, "https://example.com/hook", **MAIL, **columns))


async def ends(connection: Any) -> dict[tuple[str, str | None], int]:
    """How many deliveries came to which end."""
    rows = await connection.fetch("select state, reason, count(*) from dispatcher.finished_deliveries group by 1, 2")
    return {(row["state"], row["reason"]): row["count"] for row in rows}


async def pending(connection: Any) -> int:
    """How many deliveries are pending."""
    count: int = await connection.fetchval("select count(*) from dispatcher.deliveries")
    return count


async def mourned(connection: Any) -> set[tuple[UUID, str]]:
    """The events whose deaths somebody will be told of, and why they died."""
    rows = await connection.fetch("select event_id, reason from dispatcher.notices where kind = 'deliveries_dead'")
    return {(row["event_id"], row["reason"]) for row in rows}


async def test_what_expires_while_it_waits_dies_with_a_notice(database: str, connection: Any, clock: FakeClock) -> None:
    """A paused endpoint's event dies at its expiry; one that expires later waits on."""
    await make_hook(connection, state="paused")
    async with stepping(database, clock) as worker:
        early = await insert_event(connection, expires_at=instant(clock, 60))
        await insert_event(connection, expires_at=instant(clock, 6000))
        await worker.run(*WAY)
        too_early = await worker.run("reap")
        clock.advance(61)

        ended = await worker.run("shards", "reap")

    assert (too_early, ended) == (0, 1)
    assert await ends(connection) == {("dead", "expired"): 1}
    assert await mourned(connection) == {(early, "expired")}
    assert await pending(connection) == 1


async def test_an_expired_delivery_in_memory_dies_unsent(database: str, connection: Any, clock: FakeClock) -> None:
    """It was read in time, and its turn came too late; its lane goes on with what comes after it."""
    await make_hook(connection)
    async with stepping(database, clock, delivery__in_flight="1") as worker:
        await insert_event(connection)
        await insert_event(connection, expires_at=instant(clock, 60))
        await insert_event(connection)
        await worker.run(*WAY)
        clock.advance(61)
        await worker.run("shards")

        await worker.deliver_all()

    assert await ends(connection) == {("delivered", None): 2, ("dead", "expired"): 1}
    assert len(worker.sender.sent) == 2


async def test_what_waits_for_an_unavailable_endpoint_longer_than_its_schedule_dies(
    database: str, connection: Any, clock: FakeClock
) -> None:
    """An endpoint that asks all to wait for a day keeps nothing beyond the span of the schedule; the notice says why."""
    await make_hook(connection, retry_schedule=[60.0, 600.0])
    async with stepping(database, clock) as worker:
        first = await insert_event(connection)
        await worker.run(*WAY)
        await worker.answer(answered(503, Retry_After="86400"))
        waiting = {await insert_event(connection) for _ in range(3)}
        await worker.run("record", *WAY)
        clock.advance(650)
        too_early = await worker.run("shards", "reap")
        clock.advance(20)

        ended = await worker.run("shards", "reap")

        assert (too_early, ended) == (0, 3)
        assert len(worker.sender.sent) == 1
    assert await ends(connection) == {("dead", "unavailable"): 3}
    assert await mourned(connection) == {(event_id, "unavailable") for event_id in waiting}
    assert await connection.fetchval("select event_id from dispatcher.deliveries") == first


async def test_what_waits_for_a_paused_endpoint_is_not_overdue(
    database: str, connection: Any, clock: FakeClock
) -> None:
    """A person's pause is nobody's failure."""
    endpoint_id = await make_hook(connection, retry_schedule=[60.0])
    async with stepping(database, clock) as worker, people(database, clock) as admin:
        await insert_event(connection)
        await worker.run(*WAY)
        await worker.answer(answered(500))
        await worker.run("record")
        await admin.pause_webhook(endpoint_id)
        clock.advance(30 * 86400 - 3600)

        ended = await worker.run("shards", "refresh", "reap")

    assert ended == 0
    assert await pending(connection) == 1


async def test_a_disabled_endpoints_backlog_dies_in_batches_and_can_be_sent_again(
    database: str, connection: Any, clock: FakeClock
) -> None:
    """5,000 die a thousand at a time, without a notice each; once it is enabled, a person can have one sent again."""
    endpoint_id = await make_hook(connection, state="paused")
    async with stepping(database, clock) as worker, people(database, clock) as admin:
        await insert_events(connection, 5000)
        while await worker.run("fanout"):
            pass
        await worker.run("pulling")
        await admin.disable_webhook(endpoint_id)
        await worker.run("refresh")

        batches = [await worker.run("reap") for _ in range(6)]

        assert batches == [BATCH] * 5 + [0]
        assert await ends(connection) == {("dead", "endpoint_disabled"): 5000}
        assert await mourned(connection) == set()
        await admin.enable_webhook(endpoint_id)
        dead = await connection.fetchval("select id from dispatcher.finished_deliveries limit 1")
        repeated = await admin.retry_delivery(DeliveryId(dead))
        await insert_event(connection)
        await worker.run("refresh")
        await worker.deliver_all()
        assert await ends(connection) == {("dead", "endpoint_disabled"): 5000, ("delivered", None): 2}
        state = "select state from dispatcher.finished_deliveries where id = $1"
        assert await connection.fetchval(state, repeated.id) == "delivered"


async def test_an_archived_endpoints_deliveries_are_cancelled(database: str, connection: Any, clock: FakeClock) -> None:
    """Those that wait at once, those that were being fanned out when the worker sees it; nobody is told."""
    endpoint_id = await make_hook(connection, state="paused")
    async with stepping(database, clock) as worker, people(database, clock) as admin:
        await insert_events(connection, 3)
        await worker.run(*WAY)
        await connection.execute("create table late as select * from dispatcher.deliveries limit 1")
        await connection.execute("update late set id = 1000")
        await admin.archive_webhook(endpoint_id)
        await connection.execute("insert into dispatcher.deliveries overriding system value select * from late")
        by_hand = await ends(connection)

        await worker.run("refresh", "reap")

    assert by_hand == {("cancelled", "endpoint_archived"): 3}
    assert await ends(connection) == {("cancelled", "endpoint_archived"): 4}
    assert await connection.fetchval("select count(*) from dispatcher.notices") == 0


@pytest.mark.parametrize(
    "status, expected",
    [
        pytest.param(204, {("dead", "endpoint_disabled"): 8, ("delivered", None): 2}, id="answered well"),
        pytest.param(500, {("dead", "endpoint_disabled"): 10}, id="failed"),
    ],
)
async def test_requests_in_flight_are_left_alone_until_they_are_recorded(
    database: str, connection: Any, clock: FakeClock, status: int, expected: dict[tuple[str, str | None], int]
) -> None:
    """What was sent before its endpoint was disabled counts as what it came to; if it failed, it dies with the others."""
    endpoint_id = await make_hook(connection)
    async with (
        stepping(database, clock, delivery__in_flight="2", retry__schedule="1s,1s") as worker,
        people(database, clock) as admin,
    ):
        await insert_events(connection, 10)
        await worker.run(*WAY)
        await admin.disable_webhook(endpoint_id)
        await worker.run("refresh")
        while_in_flight = await worker.run("reap")
        await worker.answer(answered(status))
        while_unrecorded = await worker.run("reap")

        await worker.run("record", "reap")

        assert (while_in_flight, while_unrecorded) == (8, 0)
        assert await ends(connection) == expected
        assert await pending(connection) == 0


async def test_what_is_about_to_be_sent_does_not_die_as_overdue(
    database: str, connection: Any, clock: FakeClock
) -> None:
    """A delivery in memory gets its attempt: nobody is told that it was given up, and then receives it."""
    await make_hook(connection, retry_schedule=[60.0])
    async with stepping(database, clock, delivery__in_flight="1") as worker:
        first, *others = [await insert_event(connection) for _ in range(3)]
        await worker.run(*WAY)
        await worker.answer(answered(500))
        await worker.run("record", "pulling")
        clock.advance(400)
        await worker.run("shards", "reap")

        await worker.deliver_all()

    assert await mourned(connection) == {(first, "unavailable")}
    delivered = await connection.fetch(
        "select event_id from dispatcher.finished_deliveries where state = 'delivered' order by id"
    )
    assert [row["event_id"] for row in delivered] == others
    assert webhook_ids(worker.sender.sent) == [str(event_id) for event_id in (first, *others)]
