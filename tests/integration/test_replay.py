"""Replays: what they send again and what they leave out, how fast, and what ends them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from dispatcher.admin import Admin, Fate, ReplayDraft, ReplayRow, ReplayState
from dispatcher.admin.results import ReplayCount
from dispatcher.errors import InvalidInput, NotFound
from dispatcher.model import EndpointId, ReplayId
from support.admin import make_webhook, open_admin
from support.command_line import command_line
from support.receiver import Receiver, answer
from support.world import insert_event, insert_events, make_endpoint, until, working


@pytest.fixture
async def admin(database: str) -> AsyncIterator[Admin]:
    """An administration of a fresh database."""
    async with open_admin(database) as admin:
        yield admin


async def bury(connection: Any, endpoint_id: UUID, *, state: str = "dead", **columns: Any) -> None:
    """Let all events that have no finished delivery yet have one at an endpoint, as a worker would have written it."""
    names = "".join(f", {name}" for name in columns)
    marks = "".join(f", ${number}" for number in range(3, 3 + len(columns)))
    await connection.execute(
        f"""
        with read as (delete from dispatcher.outbox_unread returning *)
        insert into dispatcher.finished_deliveries
          (id, endpoint_id, event_id, event_at, created_at, finished_at, shard, attempts, manual, state{names})
        select
          nextval('dispatcher.deliveries_id_seq'), $1, event_id, event_at, event_at, clock_timestamp(), shard, 3, false,
          $2{marks}
        from read order by position
        """,
        endpoint_id,
        state,
        *columns.values(),
    )


async def done(admin: Admin, replay: ReplayRow, *, timeout: float = 10.0) -> ReplayRow:
    """Wait for the end of a replay."""

    async def ended() -> ReplayRow | None:
        found = await admin.replay(replay.id)
        return None if found.state is ReplayState.RUNNING else found

    found: ReplayRow = await until(ended, timeout=timeout, why="the end of the replay")
    return found


async def test_a_replay_sends_what_died_once_more(database: str, connection: Any, admin: Admin) -> None:
    """Each dead delivery gets a new one with the same event; what was delivered does not."""
    async with Receiver() as receiver:
        endpoint_id = EndpointId(await make_endpoint(connection, f"{receiver.url}/hook"))
        await insert_events(connection, 3)
        await bury(connection, endpoint_id, state="delivered")
        await insert_events(connection, 30)
        await bury(connection, endpoint_id)
        dead = await connection.fetch("select event_id from dispatcher.finished_deliveries where state = 'dead'")
        replay = await admin.create_replay(endpoint_id, ReplayDraft())

        async with working(database):
            ended = await done(admin, replay)
            await until(lambda: connection.fetchval("select count(*) = 63 from dispatcher.finished_deliveries"))

        assert (ended.state, ended.expected, ended.fates[Fate.REPLAYED]) == (ReplayState.DONE, 30, 30)
        sent = sorted(request.headers["webhook-id"] for request in receiver.received)
        assert sent == sorted(str(row["event_id"]) for row in dead)
        states = await connection.fetch(
            "select state, manual, count(*) from dispatcher.finished_deliveries group by 1, 2 order by 1"
        )
        assert [tuple(row) for row in states] == [("dead", False, 30), ("delivered", False, 33)]


async def test_a_replayed_delivery_has_its_whole_schedule(database: str, connection: Any, admin: Admin) -> None:
    """It is no manual one: it is retried, and dies after as many attempts as any other."""
    async with Receiver() as receiver:
        receiver.on("/hook", answer(500))
        endpoint_id = EndpointId(await make_endpoint(connection, f"{receiver.url}/hook"))
        await insert_event(connection)
        await bury(connection, endpoint_id)
        await admin.create_replay(endpoint_id, ReplayDraft())

        async with working(database, retry__schedule="50ms,50ms"):
            await receiver.wait_for(3)
            await until(lambda: connection.fetchval("select count(*) = 2 from dispatcher.finished_deliveries"))

        row = await connection.fetchrow("select * from dispatcher.finished_deliveries order by id desc limit 1")
        assert (row["attempts"], row["reason"], row["manual"]) == (3, "exhausted", False)


FILTERS = [
    pytest.param({}, {"timeout", "503", "404", "reasoned"}, id="dead ones"),
    pytest.param({"states": ["cancelled"]}, {"cancelled"}, id="cancelled ones"),
    pytest.param({"states": ["delivered", "cancelled"]}, {"cancelled", "delivered"}, id="several states"),
    pytest.param({"types": ["404"]}, {"404"}, id="a type"),
    pytest.param({"types": ["reasoned", "5.*", "503"]}, {"reasoned", "503"}, id="types"),
    pytest.param({"causes": ["timeout"]}, {"timeout"}, id="a class of error"),
    pytest.param({"causes": ["5xx"]}, {"503"}, id="a class of status"),
    pytest.param({"causes": ["404", "endpoint_disabled"]}, {"404", "reasoned"}, id="a status or a reason"),
    pytest.param({"since": "404"}, {"404", "reasoned"}, id="since"),
    pytest.param({"until": "404"}, {"timeout", "503"}, id="until"),
]


@pytest.mark.parametrize("filters, expected", FILTERS)
async def test_filters_choose(connection: Any, admin: Admin, filters: dict[str, Any], expected: set[str]) -> None:
    """By state, type, what it ended with, and when the event was inserted; a dry run counts the same."""
    webhook = await make_webhook(admin, "acme", "*")
    times = {}
    ended: dict[str, dict[str, Any]] = {
        "timeout": {"error": "timeout: no answer within 15 s"},
        "503": {"status": 503},
        "404": {"status": 404},
        "reasoned": {"reason": "endpoint_disabled"},
        "cancelled": {"state": "cancelled"},
        "delivered": {"state": "delivered", "status": 204},
    }
    for event_type, columns in ended.items():
        event_id = await insert_event(connection, event_type)
        times[event_type] = await connection.fetchval(
            "select inserted_at from dispatcher.outbox where id = $1", event_id
        )
        await bury(connection, webhook, **columns)
    filters = {key: times[value] if key in {"since", "until"} else value for key, value in filters.items()}

    counted = await admin.count_replay(webhook, ReplayDraft(**filters))
    replay = await admin.create_replay(webhook, ReplayDraft(**filters))

    page = await connection.fetch(
        "select event_type from dispatcher.finished_deliveries join dispatcher.outbox on outbox.id = event_id"
    )
    assert {row["event_type"] for row in page} > expected
    assert counted == ReplayCount({Fate.REPLAYED: len(expected)}, exact=True)
    assert (replay.expected, replay.expected_exact) == (len(expected), True)


async def test_what_cannot_be_sent_is_counted_with_the_reason(database: str, connection: Any, admin: Admin) -> None:
    """An event past retention, an expired one, and one that was sent again since are left out, and counted."""
    async with Receiver() as receiver:
        endpoint_id = EndpointId(await make_endpoint(connection, f"{receiver.url}/hook"))
        gone = await insert_event(connection)
        await insert_event(connection, expires_at=datetime.now(UTC) - timedelta(seconds=1))
        await insert_event(connection, "later.one")
        await bury(connection, endpoint_id)
        await connection.execute("delete from dispatcher.outbox where id = $1", gone)
        (later,) = [row for row in (await admin.deliveries()).deliveries if row.event_type == "later.one"]
        await admin.retry_delivery(later.id)
        wanted = await insert_event(connection, "wanted")
        await bury(connection, endpoint_id)

        replay = await admin.create_replay(endpoint_id, ReplayDraft())
        async with working(database):
            ended = await done(admin, replay)
            await receiver.wait_for(2)

        assert ended.fates == {
            Fate.REPLAYED: 1,
            Fate.PAST_RETENTION: 1,
            Fate.EXPIRED: 1,
            Fate.SUPERSEDED: 1,
        }
        assert ended.expected == 1
        assert str(wanted) in {request.headers["webhook-id"] for request in receiver.received}


async def test_an_event_that_died_twice_is_replayed_once(database: str, connection: Any, admin: Admin) -> None:
    """Only the latest delivery of an event counts; a second replay of the same finds nothing left to send."""
    async with Receiver() as receiver:
        endpoint_id = EndpointId(await make_endpoint(connection, f"{receiver.url}/hook"))
        event_id = await insert_event(connection)
        await bury(connection, endpoint_id)
        await connection.execute(
            "insert into dispatcher.finished_deliveries "
            "select nextval('dispatcher.deliveries_id_seq'), endpoint_id, event_id, event_at, created_at, "
            "clock_timestamp(), shard, 1, true, 'dead' from dispatcher.finished_deliveries"
        )

        first = await admin.create_replay(endpoint_id, ReplayDraft())
        second = await admin.create_replay(endpoint_id, ReplayDraft())
        async with working(database):
            ended = [await done(admin, replay) for replay in (first, second)]
            await until(lambda: connection.fetchval("select count(*) = 3 from dispatcher.finished_deliveries"))

        assert [one.fates[Fate.REPLAYED] for one in ended] == [1, 0]
        assert [request.headers["webhook-id"] for request in receiver.received] == [str(event_id)]


async def test_the_rate_is_kept(database: str, connection: Any, admin: Admin) -> None:
    """Sixty deliveries at 40 a second take a second and a half, but for a fifth of a second's head start."""
    async with Receiver() as receiver:
        endpoint_id = EndpointId(await make_endpoint(connection, f"{receiver.url}/hook"))
        await insert_events(connection, 60)
        await bury(connection, endpoint_id)
        replay = await admin.create_replay(endpoint_id, ReplayDraft(rate=40.0))

        async with working(database):
            await done(admin, replay)
            requests = await receiver.wait_for(60)

        assert 1.1 <= requests[-1].at - requests[0].at <= 4.0
        assert requests[30].at - requests[0].at >= 0.4


async def test_a_replay_waits_for_its_endpoint(database: str, connection: Any, admin: Admin) -> None:
    """While a thousand deliveries are due and none gets through, no more are made; cancelled, it makes none at all."""
    async with Receiver() as receiver, working(database):
        endpoint_id = EndpointId(await make_endpoint(connection, f"{receiver.url}/hook", state="paused"))
        await connection.execute("alter table dispatcher.outbox disable trigger announce_outbox_rows")
        await insert_events(connection, 3000)
        await connection.execute("alter table dispatcher.outbox enable trigger announce_outbox_rows")
        await connection.execute(
            "insert into dispatcher.finished_deliveries "
            "select nextval('dispatcher.deliveries_id_seq'), $1, id, inserted_at, now(), now(), shard, 1, false, 'dead' "
            "from dispatcher.outbox",
            endpoint_id,
        )
        replay = await admin.create_replay(endpoint_id, ReplayDraft())
        await until(lambda: connection.fetchval("select count(*) = 1000 from dispatcher.deliveries"))
        await until(lambda: connection.fetchval("select max(next_at) > now() from dispatcher.replays"))

        cancelled = await admin.cancel_replay(replay.id)
        await admin.resume_webhook(endpoint_id)
        await receiver.wait_for(1000)
        await until(lambda: connection.fetchval("select count(*) = 0 from dispatcher.deliveries"))

        assert (cancelled.state, cancelled.reason) == (ReplayState.CANCELLED, "By a person.")
        assert cancelled.fates[Fate.REPLAYED] == len(receiver.received) == 1000


async def test_ordering_keys_hold_in_a_replay(database: str, connection: Any, admin: Admin) -> None:
    """Deliveries of one key go out one after the other, in the order of their events."""
    async with Receiver() as receiver:
        endpoint_id = EndpointId(await make_endpoint(connection, f"{receiver.url}/hook"))
        events = [await insert_event(connection, payload=f'{{"n": {n}}}', ordering_key="one") for n in range(12)]
        await bury(connection, endpoint_id)
        await admin.create_replay(endpoint_id, ReplayDraft())

        async with working(database):
            await receiver.wait_for(12)

        assert [request.headers["webhook-id"] for request in receiver.received] == [str(event) for event in events]
        assert receiver.most_in_flight["/hook"] == 1


@pytest.mark.parametrize("how", ["disabled", "archived"])
async def test_a_replay_ends_with_its_webhook(database: str, connection: Any, admin: Admin, how: str) -> None:
    """A webhook that is disabled or archived ends its replays; they say so."""
    webhook = await make_webhook(admin)
    await insert_event(connection)
    await bury(connection, webhook)
    replay = await admin.create_replay(webhook, ReplayDraft())
    await (admin.disable_webhook if how == "disabled" else admin.archive_webhook)(webhook)

    async with working(database):
        ended = await done(admin, replay)

    assert (ended.state, ended.reason) == (ReplayState.CANCELLED, f"The webhook was {how}.")
    assert await connection.fetchval("select count(*) from dispatcher.deliveries") == 0


REFUSED = [
    pytest.param({"states": []}, "states", id="no state"),
    pytest.param({"states": ["pending"]}, "states", id="pending"),
    pytest.param({"causes": ["timeot"]}, "causes", id="no cause"),
    pytest.param({"causes": ["700"]}, "causes", id="no status"),
    pytest.param({"types": ["*.created"]}, "types", id="no pattern"),
    pytest.param({"rate": 0.0}, "rate", id="no rate"),
    pytest.param(
        {"since": datetime(2026, 2, 1, tzinfo=UTC), "until": datetime(2026, 1, 1, tzinfo=UTC)}, "since", id="no time"
    ),
]


@pytest.mark.parametrize("draft, field", REFUSED)
async def test_a_wrong_filter_is_refused_by_name(admin: Admin, draft: dict[str, Any], field: str) -> None:
    """Nothing is created, and the field is named."""
    webhook = await make_webhook(admin)

    with pytest.raises(InvalidInput) as refusal:
        await admin.create_replay(webhook, ReplayDraft(**draft))

    assert refusal.value.field == field
    assert await admin.list_replays() == []


async def test_a_replay_of_a_webhook_that_gets_nothing_is_refused(admin: Admin) -> None:
    """Disabled, archived: the message says so."""
    disabled, archived = await make_webhook(admin), await make_webhook(admin)
    await admin.disable_webhook(disabled)
    await admin.archive_webhook(archived)

    for webhook, why in ((disabled, "disabled"), (archived, "archived")):
        with pytest.raises(InvalidInput, match=why):
            await admin.create_replay(webhook, ReplayDraft())


async def test_another_tenants_replay_does_not_exist(admin: Admin) -> None:
    """It cannot be seen, cancelled or created, and the answer is that of an unknown one."""
    webhook = await make_webhook(admin, "acme")
    await admin.create_tenant("other")
    replay = await admin.create_replay(webhook, ReplayDraft())

    for call in (admin.replay, admin.cancel_replay):
        for replay_id in (replay.id, ReplayId(UUID(int=1))):
            with pytest.raises(NotFound, match=f"There is no replay {replay_id}"):
                await call(replay_id, tenant="other")
    with pytest.raises(NotFound):
        await admin.create_replay(webhook, ReplayDraft(), tenant="other")
    assert await admin.list_replays(tenant="other") == []
    assert (await admin.replay(replay.id, tenant="acme")).state is ReplayState.RUNNING


async def test_two_workers_share_replays_of_many_tenants(database: str, connection: Any, admin: Admin) -> None:
    """Each replay is taken forward by one, and every delivery is made once."""
    async with Receiver() as receiver:
        replays = []
        for number in range(8):
            endpoint_id = EndpointId(
                await make_endpoint(connection, f"{receiver.url}/{number}", tenant=f"tenant {number}")
            )
            await insert_events(connection, 40, tenant=f"tenant {number}")
            await bury(connection, endpoint_id)
            replays.append(await admin.create_replay(endpoint_id, ReplayDraft(rate=200.0)))

        async with working(database), working(database):
            ended = await asyncio.gather(*(done(admin, replay) for replay in replays))
            await receiver.wait_for(320)

        assert {one.fates[Fate.REPLAYED] for one in ended} == {40}
        assert len({(request.path, request.headers["webhook-id"]) for request in receiver.received}) == 320
        assert len(receiver.received) == 320


async def test_the_command_line_replays(database: str, connection: Any, admin: Admin) -> None:
    """`replay create`, `list`, `show` and `cancel` show the same thing; a dry run only counts."""
    webhook = await make_webhook(admin)
    await insert_event(connection)
    await bury(connection, webhook, status=503)
    command = command_line(database)

    async def call(*arguments: str) -> Any:
        """Call it in a thread: it runs a loop of its own."""
        return (await asyncio.to_thread(command, "replay", *arguments, "--json")).json

    counted = await call("create", "--webhook", str(webhook), "--since", "-1h", "--dry-run")
    assert counted == {"isExact": True, "replayed": 1, "skipped": {"expired": 0, "pastRetention": 0, "superseded": 0}}
    created = await call("create", "--webhook", str(webhook), "--causes", "5xx,timeout", "--rate", "5")
    assert created["state"] == "running"
    assert (created["expected"], created["causes"], created["rate"]) == (1, ["5xx", "timeout"], 5.0)
    assert await call("list", "--webhook", str(webhook)) == [created]
    assert await call("show", created["id"]) == created
    cancelled = await call("cancel", created["id"])
    assert (cancelled["state"], cancelled["reason"]) == ("cancelled", "By a person.")
