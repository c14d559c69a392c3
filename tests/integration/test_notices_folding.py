"""From notices to mails: what is told at once, what waits for a digest, what a mail says."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import orjson
from structlog.testing import capture_logs

from dispatcher.model import NoticeKind
from dispatcher.store import notices as store
from dispatcher.store.pool import Pool
from support.clock import FakeClock
from support.mail import MailList
from support.notices import HOUR, Counts, death, health, instant, make_endpoint, run, step, subjects, write


async def test_the_first_death_is_told_at_once(pool: Pool, connection: Any, clock: FakeClock) -> None:
    """One notice, one mail, no waiting."""
    endpoint_id = await make_endpoint(connection)
    mails, counts = MailList(), Counts()
    await write(connection, clock, death(endpoint_id))

    await run(step(pool, mails, clock, metrics=counts))

    assert subjects(mails) == ["1 delivery to https://example.org/hook was given up"]
    assert mails[0]["To"] == "ops@example.org"
    assert (counts.folded, counts.results) == ({"deliveries_dead": 1}, {"sent": 1})


async def test_later_deaths_wait_for_the_digest(pool: Pool, connection: Any, clock: FakeClock) -> None:
    """Not before an hour after the first mail; then all in one, then nothing."""
    endpoint_id = await make_endpoint(connection)
    mails = MailList()
    notify = step(pool, mails, clock)
    await write(connection, clock, death(endpoint_id))
    await run(notify)

    for number in range(2, 5):
        clock.advance(HOUR / 3 - 1)
        await write(connection, clock, death(endpoint_id, number))
        await run(notify)
    assert len(mails) == 1
    clock.advance(3)
    await run(notify)
    clock.advance(10 * HOUR)
    await run(notify)

    assert subjects(mails)[1:] == ["3 deliveries to https://example.org/hook were given up"]


async def test_the_cool_down_is_each_endpoints_own_and_survives_a_restart(
    pool: Pool, connection: Any, clock: FakeClock
) -> None:
    """It stands in the database: another process knows it, another endpoint is not held up by it."""
    first, second = await make_endpoint(connection), await make_endpoint(connection)
    mails = MailList()
    await write(connection, clock, death(first))
    await run(step(pool, mails, clock))

    await write(connection, clock, death(first, 2), death(second, 3))
    await run(step(pool, mails, clock))

    rows = await connection.fetch("select delivery_id from dispatcher.notices where mail_id is null")
    assert (len(mails), [row["delivery_id"] for row in rows]) == (2, [2])


async def test_health_is_never_held_back(pool: Pool, connection: Any, clock: FakeClock) -> None:
    """Warning, disabling and recovery go out at once, in the middle of a cool-down."""
    endpoint_id = await make_endpoint(connection)
    mails = MailList()
    notify = step(pool, mails, clock)
    await write(connection, clock, death(endpoint_id))
    await run(notify)

    for kind in (NoticeKind.ENDPOINT_FAILING, NoticeKind.ENDPOINT_DISABLED, NoticeKind.ENDPOINT_RECOVERED):
        clock.advance(1)
        await write(connection, clock, health(endpoint_id, kind, deadline=clock.now() + 4 * 86400))
        await run(notify)

    assert subjects(mails)[1:] == [
        "https://example.org/hook is failing and will be disabled on 5 January 2026",
        "https://example.org/hook was disabled",
        "https://example.org/hook works again",
    ]


async def test_an_address_that_was_taken_away_gets_no_mail(pool: Pool, connection: Any, clock: FakeClock) -> None:
    """The address counts when the mail is made; one that comes later gets what waits."""
    endpoint_id = await make_endpoint(connection)
    mails = MailList()
    notify = step(pool, mails, clock)
    await write(connection, clock, death(endpoint_id))
    await connection.execute("update dispatcher.endpoints set notification_email = null")
    await run(notify)
    assert mails == []

    await connection.execute("update dispatcher.endpoints set notification_email = 'new@example.org'")
    await run(notify)

    assert [mail["To"] for mail in mails] == ["new@example.org"]


async def test_a_mail_counts_what_died_with_its_endpoint(pool: Pool, connection: Any, clock: FakeClock) -> None:
    """Deliveries that died when it was disabled and those about to, not those that died before."""
    endpoint_id = await make_endpoint(connection)
    now, long_ago = instant(clock), instant(clock) - timedelta(days=2)
    await connection.executemany(
        """
        insert into dispatcher.finished_deliveries
          (id, endpoint_id, event_id, event_at, created_at, finished_at, shard, attempts, manual, state, reason)
        values ($1, $2, $3, $4, $4, $4, 7, 1, false, 'dead', $5)
        """,
        [
            (1, endpoint_id, uuid4(), long_ago, "endpoint_disabled"),
            (2, endpoint_id, uuid4(), now, "exhausted"),
            (3, endpoint_id, uuid4(), now, "gone"),
            (4, endpoint_id, uuid4(), now, "endpoint_disabled"),
        ],
    )
    await connection.execute(
        """
        insert into dispatcher.deliveries (endpoint_id, event_id, event_at, created_at, due_at, shard)
        select $1, gen_random_uuid(), $2, $2, $2, 7 from generate_series(1, 5)
        """,
        endpoint_id,
        now,
    )
    await connection.execute("update dispatcher.endpoints set state = 'disabled', disabled_at = $1", now)
    mails = MailList()
    await write(connection, clock, health(endpoint_id, NoticeKind.ENDPOINT_DISABLED, reason="it kept failing"))

    await run(step(pool, mails, clock))

    assert "7 pending, given up" in str(mails[0].get_body(("plain",)).get_content())  # type: ignore[union-attr]


async def test_a_death_without_last_attempt_shows_the_attempts_before(
    pool: Pool, connection: Any, clock: FakeClock
) -> None:
    """What expired while it waited is told of with what its last attempt came to."""
    endpoint_id = await make_endpoint(connection)
    await connection.executemany(
        """
        insert into dispatcher.attempts
          (delivery_id, endpoint_id, event_id, started_at, milliseconds, number, shard, outcome, status, verdict, error)
        values (9, $1, $2, $3, 5, $4, 7, $5, $6, 'retry', $7)
        """,
        [
            (endpoint_id, uuid4(), instant(clock), 1, "answered", 503, None),
            (
                endpoint_id,
                uuid4(),
                instant(clock) + timedelta(minutes=5),
                2,
                "unreachable",
                None,
                "refused: nobody there",
            ),
        ],
    )
    mails = MailList()
    expired = death(
        endpoint_id, 9, attempts=2, first_attempt_at=None, last_attempt_at=None, status=None, reason="expired"
    )
    await write(connection, clock, expired)

    await run(step(pool, mails, clock))

    text = str(mails[0].get_body(("plain",)).get_content())  # type: ignore[union-attr]
    assert "2, from 1 January 2026, 00:00:00 UTC to 1 January 2026, 00:05:00 UTC" in text
    assert "refused: nobody there" in text


async def test_without_a_mail_server_notices_wait(pool: Pool, connection: Any, clock: FakeClock) -> None:
    """Nothing is folded, all can be seen, a log line says so, and it goes out once there is a server."""
    endpoint_id = await make_endpoint(connection)
    await write(connection, clock, *(death(endpoint_id, number) for number in range(3)))

    notify = step(pool, None, clock)
    with capture_logs() as logs:
        did = await run(notify)
        clock.advance(HOUR)
        await run(notify)

    assert did == 0
    assert [(line["event"], line["notices_waiting"]) for line in logs] == [("mail.unconfigured", 3)]
    figures = await store.figures(connection, now=clock.override())
    assert (figures.notices_waiting, figures.mails_waiting, figures.oldest_unsent_age) == (3, 0, 0)
    mails = MailList()
    await run(step(pool, mails, clock))
    assert subjects(mails) == ["3 deliveries to https://example.org/hook were given up"]


async def test_folding_reads_no_more_than_it_must(connection: Any, clock: FakeClock) -> None:
    """Finding what to fold jumps along the index, however many notices wait and however many are done with."""
    endpoint_id = await make_endpoint(connection)
    await connection.execute(
        """
        insert into dispatcher.notices (endpoint_id, kind, created_at)
        select $1, 'deliveries_dead', $2 from generate_series(1, 20000)
        """,
        endpoint_id,
        clock.override(),
    )
    await connection.execute("analyze dispatcher.notices")

    plan = await connection.fetchval(f"explain (analyze, format json) {store.SQL.foldable}", HOUR, 10, clock.override())

    assert "Seq Scan" not in [node["Node Type"] for node in scans_of(plan, "notices")]
    assert sum(node["Actual Rows"] * node["Actual Loops"] for node in scans_of(plan, "notices")) <= 2


def scans_of(plan: str, relation: str) -> list[dict[str, Any]]:
    """The nodes of a plan that read a table."""
    found, rest = [], [orjson.loads(plan)[0]["Plan"]]
    while rest:
        node = rest.pop()
        rest += node.get("Plans", [])
        if node.get("Relation Name") == relation:
            found.append(node)
    return found
