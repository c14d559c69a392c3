"""What brings events, endpoints and due deliveries into memory, and lets them go: fan-out, pull, refresh, sweep."""

from typing import Any

import asyncpg
import pytest

from dispatcher import fanout
from dispatcher.deliver.feed import EVICT_IDLE, SETTLED, SWEEP_SLACK
from dispatcher.fanout import HEAD_EVERY
from support.clock import FakeClock
from support.steps import WAY, answered, early_clock, instant, stepping, turn, webhook_ids
from support.world import insert_event, insert_events, make_endpoint

NEW_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


@pytest.fixture
def clock() -> FakeClock:
    """A clock that begins in the past."""
    return early_clock()


async def change(connection: Any, **columns: Any) -> None:
    """Change all endpoints as a person does, or only let their worker look at them."""
    await connection.execute("update dispatcher.endpoints set changed_at = clock_timestamp()")
    for name, value in columns.items():
        await connection.execute(f"update dispatcher.endpoints set {name} = $1", value)


async def test_a_new_owner_finds_the_lanes_with_work(database: str, connection: Any, clock: FakeClock) -> None:
    """What a dead worker left is sent by its successor, each lane's in order; what was in flight goes out again."""
    for name in ("a", "b"):
        await make_endpoint(connection, f"https://example.com/{name}", tenant=name)
    async with stepping(database, clock) as first:
        ids = [str(await insert_event(connection, tenant=tenant)) for tenant in ("a", "a", "b")]
        await first.run(*WAY)
        assert sorted(webhook_ids(first.sender.sent)) == sorted(ids)
        await first.die()

        async with stepping(database, clock) as second:
            await second.run("pulling", "send")

            assert sorted(webhook_ids(second.sender.sent)) == sorted(ids)
            assert await second.answer(answered()) == 3
            await second.run("record")
    assert await connection.fetchval("select count(*) from dispatcher.deliveries") == 0


async def test_a_shard_that_is_lost_at_the_moment_of_sending_leaves_nothing_behind(
    database: str, connection: Any, clock: FakeClock
) -> None:
    """Its request has been decided on and not begun: it goes out, and its delivery is known as in flight no longer."""
    endpoint = await make_endpoint(connection, "https://example.com/hook")
    shard = await connection.fetchval("select shard from dispatcher.endpoints where id = $1", endpoint)
    async with stepping(database, clock) as worker:
        worker.engine.send._stopped = True
        await insert_event(connection)
        await worker.run(*WAY)
        worker.engine.send._stopped = False
        started = worker.engine.send.start()
        worker.engine._lost([shard])
        await turn()

        await worker.answer(answered())
        await worker.run("record")

        assert started == 1
        assert worker.lanes.in_flight(shard) == 0
        assert worker.engine.send.in_flight == []
        assert await connection.fetchval("select count(*) from dispatcher.deliveries") == 0


async def test_an_idle_outbox_is_polled_less_and_less_often(database: str, connection: Any, clock: FakeClock) -> None:
    """Quickly right after work, then twice as late each time, and quickly again as soon as there is work."""
    await make_endpoint(connection, "https://example.com/hook")
    async with stepping(database, clock) as worker:
        pauses = []

        for _ in range(2):
            await insert_event(connection)
            await worker.run("fanout")
            for _ in range(7):
                await worker.run("fanout")
                pauses.append(worker.engine.fanout.pause)

        assert pauses == [0.005, 0.01, 0.02, 0.04, 0.08, 0.1, 0.1] * 2


async def test_changes_that_have_settled_are_not_read_again(database: str, connection: Any, clock: FakeClock) -> None:
    """What was made at once, such as an import, costs a minute of looks; a later change is followed all the same."""
    await make_endpoint(connection, "https://example.com/hook")
    async with stepping(database, clock) as worker:
        await worker.run("pulling")
        await change(connection)
        await worker.run("refresh")
        read_again = len(worker.engine.refresh._seen)
        clock.advance(SETTLED)
        await worker.run("refresh", "refresh")
        settled = len(worker.engine.refresh._seen)

        await change(connection, state="paused")
        await worker.run("refresh")
        await insert_event(connection)
        await worker.run(*WAY)

        assert (read_again, settled) == (1, 0)
        assert worker.sender.sent == []


async def test_a_pause_holds_and_a_resume_lets_go(database: str, connection: Any, clock: FakeClock) -> None:
    """Both take effect with the next refresh, which comes within half a second."""
    await make_endpoint(connection, "https://example.com/hook")
    async with stepping(database, clock) as worker:
        await worker.run("pulling")
        await change(connection, state="paused")
        await worker.run("refresh")
        await insert_events(connection, 3)
        await worker.run(*WAY)
        held = len(worker.sender.sent)

        await change(connection, state="active")
        await worker.run("refresh", "pulling", "send")

        assert (held, len(worker.sender.sent)) == (0, 3)
        assert worker.engine.refresh.pause <= 0.5


async def test_a_new_url_and_a_new_secret_hold_from_the_next_request_on(
    database: str, connection: Any, clock: FakeClock
) -> None:
    """What waits in memory is sent with what holds at its start, not with what held when it was read."""
    endpoint_id = await make_endpoint(connection, "https://example.com/old")
    async with stepping(database, clock, delivery__in_flight="1") as worker:
        await insert_events(connection, 2)
        await worker.run(*WAY)
        await connection.execute(
            "insert into dispatcher.endpoint_secrets (endpoint_id, sealed) values ($1, $2)",
            endpoint_id,
            NEW_SECRET.encode(),
        )
        await change(connection, url="https://example.com/new")
        await worker.run("refresh")

        await worker.answer(answered())
        await worker.run("record", "send")

        first, second = worker.sender.sent
        assert [first.url, second.url] == ["https://example.com/old", "https://example.com/new"]
        signatures = [len(request.headers["webhook-signature"].split(" ")) for request in (first, second)]
        assert signatures == [1, 2]


async def test_a_delivery_that_a_person_retries_is_sent_at_once(
    database: str, connection: Any, clock: FakeClock
) -> None:
    """It would have waited an hour for its next attempt."""
    await make_endpoint(connection, "https://example.com/hook")
    async with stepping(database, clock, retry__schedule="1h") as worker:
        await insert_event(connection)
        await worker.run(*WAY)
        await worker.answer(answered(500))
        await worker.run("record", "pulling", "send")
        waited = len(worker.sender.sent)

        await connection.execute("update dispatcher.deliveries set due_at = $1", instant(clock))
        await change(connection)
        await worker.run("refresh", "pulling", "send")

        assert (waited, len(worker.sender.sent)) == (1, 2)


async def test_idle_lanes_leave_memory_and_come_back(database: str, connection: Any, clock: FakeClock) -> None:
    """Wave after wave of endpoints leaves nothing behind, and one that was let go of is served as before."""
    async with stepping(database, clock) as worker:
        sizes = []
        for wave in range(3):
            for number in range(10):
                tenant = f"tenant-{wave}-{number}"
                await make_endpoint(connection, f"https://example.com/{tenant}", tenant=tenant)
                await insert_event(connection, tenant=tenant)
            await worker.deliver_all()
            busy = len(list(worker.lanes.views()))
            clock.advance(EVICT_IDLE + 1)
            await worker.run("shards", "sweep")
            sizes.append((busy, len(list(worker.lanes.views())), len(worker.engine._subscribers)))

        again = str(await insert_event(connection, tenant="tenant-0-0"))
        await worker.run(*WAY)

        assert sizes == [(10, 0, 0)] * 3
        assert webhook_ids(worker.sender.sent)[-1] == again


async def test_a_failing_lane_stays_in_memory(database: str, connection: Any, clock: FakeClock) -> None:
    """Its health and its pause are not forgotten while a retry waits."""
    await make_endpoint(connection, "https://example.com/hook")
    async with stepping(database, clock, retry__schedule="2h") as worker:
        await insert_event(connection)
        await worker.run(*WAY)
        await worker.answer(answered(500))
        await worker.run("record")
        clock.advance(EVICT_IDLE + 1)

        await worker.run("shards", "sweep")

        assert len(list(worker.lanes.views())) == 1


async def test_the_sweep_finds_what_nobody_thought_of(database: str, connection: Any, clock: FakeClock) -> None:
    """A delivery that was moved behind the worker's back is counted, and sent."""
    await make_endpoint(connection, "https://example.com/hook")
    async with stepping(database, clock) as worker:
        await insert_event(connection, deliver_at=instant(clock, 3600))
        await worker.run(*WAY)
        await worker.run(*WAY)
        await connection.execute("update dispatcher.deliveries set due_at = $1", instant(clock))
        clock.advance(SWEEP_SLACK + 1)
        await worker.run("pulling", "send")
        asleep = len(worker.sender.sent)

        await worker.run("sweep", "pulling", "send")

        assert (asleep, len(worker.sender.sent)) == (0, 1)
        assert worker.overtaken("deliveries") == 1


async def test_a_large_late_transaction_is_fanned_out_at_full_speed(
    database: str, connection: Any, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What others overtook is found from the head, and read on from there: not one batch a second."""
    monkeypatch.setattr(fanout, "PER_SHARD", 10)
    await make_endpoint(connection, "https://example.com/hook")
    producer = await asyncpg.connect(database)
    async with stepping(database, clock) as worker, producer.transaction():
        await insert_events(producer, 100)
        await insert_event(connection)
        await worker.run("fanout")
        await producer.execute("commit")
        await producer.execute("begin")
        clock.advance(HEAD_EVERY)

        read = [await worker.run("fanout") for _ in range(11)]

        assert read == [10] * 10 + [0]
        assert worker.overtaken("outbox") == 10
    await producer.close()
