"""The overview: how things stand and have gone, for an operator and for a tenant."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from dispatcher.admin import FAILURES, Admin
from dispatcher.errors import InvalidInput, NotFound
from dispatcher.model import EndpointId
from dispatcher.store import statistics as store
from dispatcher.store.statistics import Load
from dispatcher.tally import LATENCIES, EndpointQuarter, Minute
from support.admin import fan_out, make_webhook, open_admin, pending_of, send
from support.clock import FakeClock
from support.steps import stepping
from support.world import insert_event, make_endpoint

NOON = 1_767_268_800
"""Unix seconds; the start of an hour."""

LOAD = Load(due=7, oldest_due_seconds=3.5, in_flight=2, held=5, lanes=1)


def instant(seconds: float) -> datetime:
    """An instant so long from noon."""
    return datetime.fromtimestamp(NOON + seconds, UTC)


@pytest.fixture
def clock() -> FakeClock:
    """Half a minute past noon and ten minutes."""
    return FakeClock(NOON + 630)


@pytest.fixture
async def admin(database: str, clock: FakeClock) -> AsyncIterator[Admin]:
    """What people do, by the same clock."""
    async with open_admin(database, clock=clock) as admin:
        yield admin


async def count(connection: Any, start: int, *, ok: int, failed: int = 0, dead: int = 0, place: int = 5) -> None:
    """Write what a worker would have counted in a minute, all attempts in one class of latency."""
    minute = Minute(NOON + start, attempts=[ok, 0, 0, failed, 0, 0], ended=[ok, dead, 0])
    minute.latencies[place] = ok + failed
    await store.write(connection, uuid4(), minute, load=LOAD)


async def count_endpoint(connection: Any, endpoint_id: UUID, start: int, *, ok: int, failed: int = 0) -> None:
    """Write what a worker would have counted of an endpoint in a quarter of an hour; one of those that fail dies."""
    counts = [ok, 0, 0, failed, 0, 0, min(failed, 1)]
    await store.write_endpoints(connection, [EndpointQuarter(EndpointId(endpoint_id), NOON + start, counts)])


async def endpoints(connection: Any) -> dict[str, UUID]:
    """Register some, told apart by the end of their URLs: the oldest first."""
    made = {
        "a": await make_endpoint(connection, "https://example.com/a"),
        "b": await make_endpoint(connection, "https://example.com/b", description="Billing"),
        "c": await make_endpoint(connection, "https://example.com/c", state="paused"),
        "d": await make_endpoint(connection, "https://example.com/d", tenant="other"),
        "e": await make_endpoint(connection, "https://example.com/e", archived_at=instant(0)),
    }
    await connection.executemany(
        "insert into dispatcher.endpoint_health (endpoint_id, failing_since) values ($1, $2)",
        [(made["a"], instant(0)), (made["b"], None)],
    )
    return made


async def test_minutes_become_rates(admin: Admin, connection: Any) -> None:
    """An hour comes in minutes: a second's worth of each, gaps where nobody worked, the running minute by its length."""
    await count(connection, 60, ok=120, failed=30, dead=2)
    await count(connection, 180, ok=0)
    await count(connection, 600, ok=60)

    overview = await admin.overview(since=instant(0), until=instant(3600))

    series = overview.series
    assert series.step == 60
    assert series.times == tuple(range(NOON, NOON + 660, 60))
    assert series.delivered == (None, 2.0, None, 0.0, None, None, None, None, None, None, 2.0)
    assert tuple(series.failed) == FAILURES
    assert series.failed["5xx"][1] == 0.5
    assert (series.deaths[1], series.due[1], series.oldest_due[1], series.in_flight[1]) == (2, 7, 3.5, 2)
    assert overview.totals.attempts == 210
    assert overview.totals.success == 180 / 210
    assert overview.totals.deaths == 2


async def test_percentiles_are_read_off_the_classes(admin: Admin, connection: Any) -> None:
    """They lie within the class that the attempt fell in, and where nothing was attempted there are none."""
    await count(connection, 60, ok=98, place=LATENCIES.index(0.1))
    await count(connection, 60, ok=2, place=LATENCIES.index(2.0))
    await count(connection, 120, ok=0)

    series = (await admin.overview(since=instant(0), until=instant(180))).series

    assert series.p50[0] is None
    assert 70 < (series.p50[1] or 0) < 100
    assert 70 < (series.p95[1] or 0) < 100
    assert 1500 < (series.p99[1] or 0) < 2000
    assert series.p50[2] is None


@pytest.mark.parametrize(
    "back, step",
    [
        pytest.param(timedelta(hours=1), 60, id="an hour in minutes"),
        pytest.param(timedelta(hours=6), 300, id="six in five minutes"),
        pytest.param(timedelta(days=1), 900, id="a day in quarters of an hour"),
        pytest.param(timedelta(days=7), 3600, id="a week in hours"),
        pytest.param(timedelta(days=30), 21600, id="a month in quarters of a day"),
    ],
)
async def test_the_step_grows_with_the_range(
    admin: Admin, connection: Any, clock: FakeClock, back: timedelta, step: int
) -> None:
    """Whatever the step, all that was counted is in the sum."""
    await count(connection, 0, ok=60)
    await count(connection, 300, ok=30, failed=10)

    until = datetime.fromtimestamp(clock.now(), UTC)
    overview = await admin.overview(since=until - back, until=until)

    assert overview.series.step == step
    assert len(overview.series.times) <= 181
    assert overview.totals.attempts == 100
    assert sum(value for value in overview.series.deaths if value is not None) == 0


async def test_what_lies_far_back_has_no_minutes(admin: Admin) -> None:
    """An hour of last week is shown by the quarter: minutes are kept for two days."""
    series = (await admin.overview(since=instant(-8 * 86400), until=instant(-8 * 86400 + 3600))).series

    assert series.step == 900
    assert series.delivered == (None,) * 4


async def test_a_tenant_sees_its_own_part(admin: Admin, connection: Any) -> None:
    """Made of its endpoints' quarters of an hour; a quarter without any is no gap while somebody worked."""
    own = await make_endpoint(connection, "https://example.com/")
    foreign = await make_endpoint(connection, "https://example.org/", tenant="other")
    await count(connection, -900, ok=0)
    await count(connection, 0, ok=500)
    await count_endpoint(connection, own, 0, ok=315, failed=63)
    await count_endpoint(connection, foreign, 0, ok=5000)

    overview = await admin.overview(since=instant(-1800), until=instant(600), tenant="acme")

    series = overview.series
    assert series.step == 900
    assert series.delivered == (None, 0.0, 0.5)
    assert series.failed["5xx"] == (None, 0.0, 0.1)
    assert series.deaths == (None, 0, 1)
    assert series.p50 == series.due == series.cancelled == (None,) * 3
    assert overview.totals.attempts == 378
    assert overview.now.endpoints == 1
    assert overview.now.workers is None
    assert overview.now.mails_waiting is None


async def test_now_is_told_by_the_living_workers(admin: Admin, connection: Any) -> None:
    """Their backlogs add up; one that is gone does not count. Without any, nobody knows."""
    await make_endpoint(connection, "https://example.com/1")
    await make_endpoint(connection, "https://example.com/2", state="paused")
    await make_endpoint(connection, "https://example.com/3", state="disabled")
    failing = await make_endpoint(connection, "https://example.com/4")
    await make_endpoint(connection, "https://example.com/5", archived_at=instant(0))
    await connection.execute(
        "insert into dispatcher.endpoint_health (endpoint_id, failing_since) values ($1, now())", failing
    )
    before = (await admin.overview(since=instant(0), until=instant(60))).now
    for number, seconds in enumerate((60, 60, -60)):
        await connection.execute(
            """
            insert into dispatcher.workers
              (id, host, pid, roles, release, started_at, seen_at, expires_at, in_flight, due, oldest_due_seconds)
            values (gen_random_uuid(), 'here', $1::integer, '{deliver}', '1', now(), now(), now() + make_interval(secs => $2), 3, 10, $1::integer)
            """,
            number,
            float(seconds),
        )

    now = (await admin.overview(since=instant(0), until=instant(60))).now

    assert (before.workers, before.due, before.oldest_due_seconds) == (0, None, None)
    assert (now.endpoints, now.failing, now.disabled, now.paused) == (4, 1, 1, 1)
    assert (now.workers, now.in_flight, now.due, now.oldest_due_seconds) == (2, 6, 20, 1.0)
    assert (now.mails_waiting, now.oldest_mail_seconds) == (0, 0.0)


async def test_an_endpoint_has_a_series_of_its_own(admin: Admin, connection: Any) -> None:
    """Counts, not rates; to another tenant there is none."""
    endpoint_id = EndpointId(await make_endpoint(connection, "https://example.com/"))
    await count(connection, 0, ok=0)
    await count_endpoint(connection, endpoint_id, 0, ok=3, failed=2)
    await count_endpoint(connection, endpoint_id, 0, ok=1)

    series = await admin.endpoint_series(endpoint_id, since=instant(-900), until=instant(600), tenant="acme")

    assert series.times == (NOON - 900, NOON)
    assert series.delivered == (None, 4)
    assert series.failed["5xx"] == (None, 2)
    assert series.deaths == (None, 1)
    assert series.totals.success == 4 / 6
    with pytest.raises(NotFound):
        await admin.endpoint_series(endpoint_id, since=instant(-900), until=instant(600), tenant="other")


@pytest.mark.parametrize(
    "since, until",
    [
        pytest.param(10, 10, id="empty"),
        pytest.param(700, 800, id="ahead"),
        pytest.param(-86400 * 400, 0, id="too long"),
    ],
)
async def test_a_range_that_makes_no_sense_is_refused(admin: Admin, since: int, until: int) -> None:
    """With the field that is wrong."""
    with pytest.raises(InvalidInput) as refusal:
        await admin.overview(since=instant(since), until=instant(until))

    assert refusal.value.field == "since"


async def test_what_people_cancel_is_counted(admin: Admin, connection: Any) -> None:
    """One delivery, and all that an archived webhook had waiting."""
    webhook = await make_webhook(admin)
    events = [await send(admin) for _ in range(5)]
    await fan_out(connection)

    await admin.cancel_delivery(await pending_of(connection, events[0]))
    await admin.archive_webhook(webhook)

    overview = await admin.overview(since=instant(0), until=instant(3600))
    assert overview.totals.cancelled == 5
    assert overview.series.cancelled[-1] == 5
    assert overview.totals.attempts == 0


async def test_endpoints_are_listed_at_a_glance(admin: Admin, connection: Any) -> None:
    """The newest first, page by page: the last 24 hours, what waits, and when the next is tried."""
    first, second, third = [EndpointId(await make_endpoint(connection, f"https://example.com/{n}")) for n in range(3)]
    await count_endpoint(connection, second, -3600, ok=2)
    await count_endpoint(connection, second, -2700, ok=3, failed=4)
    await count_endpoint(connection, second, 0, ok=1)
    await count_endpoint(connection, second, -86400, ok=9)
    await insert_event(connection)
    await fan_out(connection)
    await connection.execute("update dispatcher.deliveries set due_at = $1", instant(700))
    await connection.execute(
        "insert into dispatcher.endpoint_health (endpoint_id, failing_since, cool_until) values ($1, $2, $3)",
        second,
        instant(0),
        instant(900),
    )
    await connection.execute("update dispatcher.endpoints set state = 'paused' where id = $1", first)

    page = await admin.endpoint_page(limit=2)
    rest = await admin.endpoint_page(limit=2, cursor=page.next_cursor)

    newest, glance = page.endpoints
    assert [newest.endpoint.id, glance.endpoint.id] == [third, second]
    assert [row.endpoint.id for row in rest.endpoints] == [first]
    assert rest.next_cursor is None
    assert page.hours[-1] == NOON
    assert glance.ok == (0,) * 22 + (5, 1)
    assert glance.failed == (0,) * 22 + (4, 0)
    assert glance.deaths == (0,) * 22 + (1, 0)
    assert (glance.pending, glance.next_attempt_at, glance.is_failing) == (1, instant(900), True)
    assert (newest.pending, newest.next_attempt_at, newest.is_failing) == (1, instant(700), False)
    assert (rest.endpoints[0].pending, rest.endpoints[0].next_attempt_at) == (1, None)


@pytest.mark.parametrize(
    "wanted, found",
    [
        pytest.param({}, ["d", "c", "b", "a"], id="all but archived ones"),
        pytest.param({"search": "EXAMPLE.com/A"}, ["a"], id="a part of the URL, in any case"),
        pytest.param({"search": "billing"}, ["b"], id="a part of the description"),
        pytest.param({"search": "oth"}, ["d"], id="a part of the tenant's name"),
        pytest.param({"search": "100%"}, [], id="no wildcard"),
        pytest.param({"state": "paused"}, ["c"], id="a state"),
        pytest.param({"state": "archived"}, ["e"], id="archived ones"),
        pytest.param({"failing": True}, ["a"], id="failing ones"),
        pytest.param({"failing": False, "tenant": "acme"}, ["c", "b"], id="a tenant's that do not fail"),
        pytest.param({"tenant": "other"}, ["d"], id="a tenant's"),
        pytest.param({"tenant": "other", "search": "example.com/a"}, [], id="nothing of another tenant"),
    ],
)
async def test_endpoints_are_found(admin: Admin, connection: Any, wanted: dict[str, Any], found: list[str]) -> None:
    """By text, state, health and tenant."""
    await endpoints(connection)

    page = await admin.endpoint_page(**wanted)

    assert [glance.endpoint.url[-1] for glance in page.endpoints] == found
    assert page.next_cursor is None


async def test_an_endpoint_is_found_by_its_id(admin: Admin, connection: Any) -> None:
    """Whole or its start."""
    ids = await endpoints(connection)

    for text in (str(ids["b"]), str(ids["b"])[:-1]):
        page = await admin.endpoint_page(search=text)

        assert ids["b"] in {glance.endpoint.id for glance in page.endpoints}


async def test_a_long_search_goes_on_page_by_page(
    admin: Admin, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks at so many endpoints for one page, then hands out a cursor."""
    monkeypatch.setattr("dispatcher.admin.overview.MOST_EXAMINED", 2)
    await endpoints(connection)
    found, cursor, pages = [], None, 0

    while True:
        page = await admin.endpoint_page(search="example.com/b", cursor=cursor)
        found += [glance.endpoint.url[-1] for glance in page.endpoints]
        pages, cursor = pages + 1, page.next_cursor
        if cursor is None:
            break

    assert found == ["b"]
    assert pages == 3


@pytest.mark.parametrize(
    "asked, field",
    [
        pytest.param({"limit": 0}, "limit", id="limit"),
        pytest.param({"state": "broken"}, "state", id="state"),
        pytest.param({"cursor": "x"}, "cursor", id="cursor"),
        pytest.param({"search": "\0"}, "search", id="search"),
    ],
)
async def test_a_page_that_cannot_be_is_refused(admin: Admin, asked: dict[str, Any], field: str) -> None:
    """With the field that is wrong."""
    with pytest.raises(InvalidInput) as refusal:
        await admin.endpoint_page(**asked)

    assert refusal.value.field == field


async def test_the_system_shows_what_there_is(database: str, admin: Admin) -> None:
    """A worker with its shards, tables with their days, migrations, the server."""
    nobody = await admin.system()
    async with stepping(database, FakeClock(time.time())) as worker:
        await worker.run("statistics")

        system = await admin.system()

    assert nobody.workers == ()
    assert {shard.owner for shard in nobody.shards} == {None}
    (worker_row,) = system.workers
    assert (worker_row.alive, worker_row.shards, worker_row.roles) == (True, 256, ("deliver",))
    assert [shard.shard for shard in system.shards] == list(range(256))
    assert {shard.owner for shard in system.shards} == {worker_row.id}
    tables = {table.name: table for table in system.tables}
    assert tables["endpoints"].partitions == ()
    days = [partition.day for partition in tables["attempts"].partitions]
    assert len(days) == 5
    assert days[-1] is None
    assert days[:-1] == sorted(day for day in days if day is not None)
    assert tables["attempts"].bytes == sum(partition.bytes for partition in tables["attempts"].partitions) > 0
    assert [table.bytes for table in system.tables] == sorted((table.bytes for table in system.tables), reverse=True)
    assert [migration.number for migration in system.migrations] == list(range(1, len(system.migrations) + 1))
    assert int(system.server_version.split(".")[0]) >= 14
    assert system.database_bytes > 0
