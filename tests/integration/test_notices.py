"""From notices to mails that arrived: folding, cool-down, retries, crashes, two processes, a dead mail server."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest
from structlog.testing import capture_logs

from dispatcher.mailer import Mailer, MailRefused, MailUnavailable, SmtpMailer
from dispatcher.model import DeliveryId, EndpointId, EventId, NoticeKind
from dispatcher.notify import CLAIM_SECONDS, MAILBOX, SERVER, Notify
from dispatcher.store import notices as store
from dispatcher.store.notices import NewNotice
from dispatcher.store.pool import Pool, open_pool
from support.clock import FakeClock
from support.mail import HANG_UP, MailList, mail_server

HOUR = 3600.0


class Counts:
    """Metrics that a test can read."""

    def __init__(self) -> None:
        self.folded: Counter[str] = Counter()
        self.results: Counter[str] = Counter()
        self.oldest = 0.0

    def notices(self, kind: str, count: int) -> None:
        """Count notices."""
        self.folded[kind] += count

    def mails(self, result: str) -> None:
        """Count a mail."""
        self.results[result] += 1

    def oldest_unsent_mail(self, age: float) -> None:
        """Keep the age."""
        self.oldest = age


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """Connections for steps that work at once."""
    pool = await open_pool(database, maximum=4)
    yield pool
    await pool.close()


def step(pool: Pool, mailer: Mailer | None, clock: FakeClock, **changes: Any) -> Notify:
    """The step under test, with hourly digests."""
    options: dict[str, Any] = {"sender": "webhooks@example.com", "digest_every": HOUR}
    return Notify(pool, mailer, clock=clock, **(options | changes))


async def run(*steps: Notify) -> int:
    """Run steps, in turn, until none has anything left to do."""
    total = 0
    while did := sum([await step.run_once() for step in steps]):
        total += did
    return total


async def make_endpoint(connection: Any, email: str | None = "ops@example.org", *additional: str) -> EndpointId:
    """A row that notices can refer to."""
    await connection.execute(
        "insert into dispatcher.tenants (name, root, shard) values ('acme', 'acme', 7) on conflict do nothing"
    )
    made: EndpointId = await connection.fetchval(
        """
        insert into dispatcher.endpoints
          (tenant, shard, url, description, notification_email, additional_notification_emails)
        values ('acme', 7, 'https://example.org/hook?token=secret', 'Booking', $1, $2)
        returning id
        """,
        email,
        list(additional),
    )
    return made


def death(endpoint_id: EndpointId, number: int = 1, **changes: Any) -> NewNotice:
    """Delivery `number` died after ten attempts."""
    values: dict[str, Any] = {
        "kind": NoticeKind.DELIVERIES_DEAD,
        "endpoint_id": endpoint_id,
        "delivery_id": DeliveryId(number),
        "event_id": EventId(uuid4()),
        "event_type": "appointment.created",
        "attempts": 10,
        "first_attempt_at": 1_767_000_000.0,
        "last_attempt_at": 1_767_225_000.0,
        "reason": "exhausted",
        "status": 500,
    }
    return NewNotice(**(values | changes))


def health(endpoint_id: EndpointId, kind: NoticeKind, **changes: Any) -> NewNotice:
    """Something about the endpoint as a whole."""
    return NewNotice(kind=kind, endpoint_id=endpoint_id, **changes)


async def write(connection: Any, clock: FakeClock, *notices: NewNotice) -> None:
    """Write notices as `deliver` does."""
    async with connection.transaction():
        await store.write(connection, notices, now=clock.override())


def instant(clock: FakeClock) -> datetime:
    """The time by the clock, for SQL."""
    return datetime.fromtimestamp(clock.now(), UTC)


def subjects(mails: MailList) -> list[str]:
    """What arrived, in order, without what all have in common."""
    return [str(mail["Subject"]).removeprefix("[dispatcher] ") for mail in mails]


def server_down(_message: EmailMessage) -> None:
    """A mail server that cannot be reached."""
    raise MailUnavailable("no connection", server=True)


async def notices_by_mail(connection: Any) -> dict[UUID | None, int]:
    """How many notices are in which mail."""
    rows = await connection.fetch("select mail_id, count(*) from dispatcher.notices group by mail_id")
    return dict(rows)


# writing


async def test_everything_written_can_be_read(transaction: Any, clock: FakeClock) -> None:
    """A notice comes back as it went in; durations and floats became instants by the database's clock."""
    endpoint_id = await make_endpoint(transaction)
    fresh = death(endpoint_id, 5, error="timeout: no answer", answer="oops", deadline=1_767_300_000.5, deliveries=3)

    await store.write(transaction, [fresh], now=clock.override())

    [written] = await store.list_notices(transaction, endpoint_id=endpoint_id)
    assert written.created_at.timestamp() == clock.now()
    assert written.first_attempt_at is not None
    assert written.first_attempt_at.timestamp() == fresh.first_attempt_at
    assert written.deadline is not None
    assert written.deadline.timestamp() == fresh.deadline
    for name in ("kind", "delivery_id", "event_id", "event_type", "attempts", "reason", "status", "error", "answer"):
        assert getattr(written, name) == getattr(fresh, name)
    assert (written.deliveries, written.mail_id) == (3, None)


async def test_without_an_override_the_database_says_when(transaction: Any) -> None:
    """`now` is only for tests."""
    endpoint_id = await make_endpoint(transaction)

    await store.write(transaction, [death(endpoint_id)], now=None)

    [written] = await store.list_notices(transaction)
    assert written.created_at == await transaction.fetchval("select now()")


async def test_no_text_can_break_a_batch(transaction: Any, clock: FakeClock) -> None:
    """NUL and lone surrogates, which Postgres refuses, are gone; texts are cut."""
    endpoint_id = await make_endpoint(transaction)
    nasty = "\0a\ud800\r\nb\x1b" + "x" * 1000

    await store.write(
        transaction, [death(endpoint_id, event_type=nasty, error=nasty, answer=nasty)], now=clock.override()
    )

    [written] = await store.list_notices(transaction)
    assert written.answer == "a b " + "x" * (store.ANSWER_LIMIT - 5) + "…"
    assert written.error == "a b " + "x" * (store.TEXT_LIMIT - 5) + "…"


async def test_nobody_to_tell_means_no_notice(transaction: Any, clock: FakeClock) -> None:
    """A null notification address gets nothing, whatever stands beside it; the others of the batch get theirs."""
    silent = await make_endpoint(transaction, None, "extra@example.org")
    told = await make_endpoint(transaction)

    await store.write(transaction, [death(silent, 1), death(told, 2), death(silent, 3)], now=clock.override())

    assert [notice.delivery_id for notice in await store.list_notices(transaction)] == [2]


async def test_an_unknown_endpoint_breaks_nothing(transaction: Any, clock: FakeClock) -> None:
    """A notice about an endpoint that is gone is nobody's."""
    await store.write(transaction, [death(EndpointId(uuid4()))], now=clock.override())
    await store.write(transaction, [], now=clock.override())

    assert await store.list_notices(transaction) == []


@pytest.mark.parametrize(
    "before, told",
    [
        ([], False),
        ([NoticeKind.DELIVERIES_DEAD], False),
        ([NoticeKind.ENDPOINT_FAILING], True),
        ([NoticeKind.ENDPOINT_FAILING, NoticeKind.DELIVERIES_DEAD], True),
        ([NoticeKind.ENDPOINT_FAILING, NoticeKind.ENDPOINT_DISABLED], True),
        ([NoticeKind.ENDPOINT_FAILING, NoticeKind.ENDPOINT_RECOVERED], False),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
async def test_recovery_is_told_only_after_trouble(
    transaction: Any, clock: FakeClock, before: list[NoticeKind], *, told: bool
) -> None:
    """Who was not warned is not congratulated."""
    endpoint_id = await make_endpoint(transaction)
    for kind in before:
        await store.write(transaction, [health(endpoint_id, kind)], now=clock.override())

    await store.write(transaction, [health(endpoint_id, NoticeKind.ENDPOINT_RECOVERED)], now=clock.override())

    newest = (await store.list_notices(transaction, limit=1))[:1]
    assert len(await store.list_notices(transaction)) == len(before) + told
    assert [notice.kind for notice in newest if told] == [NoticeKind.ENDPOINT_RECOVERED] * told


# folding


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


# sending


async def test_a_wave_of_deaths_with_the_mail_server_down(pool: Pool, connection: Any, clock: FakeClock) -> None:
    """10,000 deaths in a row while nothing can be sent: no mail meanwhile, few after, every notice in exactly one."""
    endpoint_id = await make_endpoint(connection)
    mails = MailList()
    mails.fail = server_down
    notify = step(pool, mails, clock)
    for start in range(0, 10_000, 500):
        await write(connection, clock, *(death(endpoint_id, number) for number in range(start, start + 500)))
        await run(notify)
        clock.advance(HOUR / 2)
    made_meanwhile = await connection.fetchval("select count(*) from dispatcher.mails")

    mails.fail = None
    for _ in range(3):
        clock.advance(SERVER.longest)
        await run(notify)

    assert made_meanwhile == 1
    assert subjects(mails) == [
        "500 deliveries to https://example.org/hook were given up",
        "9,500 deliveries to https://example.org/hook were given up",
    ]
    sent = {mail.id: mail.notices for mail in await store.list_mails(connection) if mail.sent_at}
    assert await notices_by_mail(connection) == sent
    assert sum(sent.values()) == 10_000


async def test_a_wave_of_deaths_with_the_mail_server_up(pool: Pool, connection: Any, clock: FakeClock) -> None:
    """10,000 deaths over ten hours: one mail at once, one an hour after, none lost, none twice."""
    endpoint_id = await make_endpoint(connection)
    mails = MailList()
    notify = step(pool, mails, clock)
    for start in range(0, 10_000, 500):
        await write(connection, clock, *(death(endpoint_id, number) for number in range(start, start + 500)))
        await run(notify)
        clock.advance(HOUR / 2)

    clock.advance(HOUR)
    await run(notify)

    assert [int(subject.split()[0].replace(",", "")) for subject in subjects(mails)] == [500, *[1000] * 9, 500]
    assert None not in await notices_by_mail(connection)


async def test_a_dead_mail_server_is_left_alone(pool: Pool, connection: Any, clock: FakeClock) -> None:
    """One try, however many mails wait; then pauses that grow, and all of them go at once when it is back."""
    mails, counts = MailList(), Counts()
    mails.fail = server_down
    notify = step(pool, mails, clock, metrics=counts)
    for number in range(30):
        await write(connection, clock, death(await make_endpoint(connection), number))

    tries = []
    for _ in range(4):
        await run(notify)
        tries.append(mails.tries)
        clock.advance(SERVER.first)
    mails.fail = None
    clock.advance(SERVER.longest)
    await run(notify)

    assert tries == [1, 2, 2, 3]
    assert (len(mails), counts.results) == (30, {"postponed": 3, "sent": 30})
    assert counts.oldest > SERVER.longest


async def test_a_full_mailbox_is_tried_for_days(pool: Pool, connection: Any, clock: FakeClock) -> None:
    """After a minute, then ever less often, at least once an hour; nobody else waits for it."""
    mails = MailList()

    def full(message: EmailMessage) -> None:
        if message["To"] == "full@example.org":
            raise MailUnavailable("452 Mailbox full", server=False)

    mails.fail = full
    notify = step(pool, mails, clock)
    patient = await make_endpoint(connection, "full@example.org")
    await write(connection, clock, death(patient), death(await make_endpoint(connection), 2))
    await run(notify)
    assert [mail["To"] for mail in mails] == ["ops@example.org"]

    for _ in range(3 * 24):
        clock.advance(MAILBOX.longest)
        await run(notify)
    [waiting] = await store.list_mails(connection, endpoint_id=patient)
    mails.fail = None
    clock.advance(MAILBOX.longest)
    await run(notify)

    assert waiting.attempts == 1 + 3 * 24
    assert waiting.last_error == "full@example.org: 452 Mailbox full"
    assert [mail["To"] for mail in mails] == ["ops@example.org", "full@example.org"]


async def test_a_new_address_does_not_wait_for_the_old_one(pool: Pool, connection: Any, clock: FakeClock) -> None:
    """A mail that its mailbox never takes holds up digests only until somebody mends the address."""
    mails = MailList()

    def full(message: EmailMessage) -> None:
        if message["To"] == "full@example.org":
            raise MailUnavailable("452 Mailbox full", server=False)

    mails.fail = full
    notify = step(pool, mails, clock)
    endpoint_id = await make_endpoint(connection, "full@example.org")
    await write(connection, clock, death(endpoint_id))
    await run(notify)
    clock.advance(HOUR)
    await write(connection, clock, death(endpoint_id, 2))
    await run(notify)
    held_back = (await notices_by_mail(connection)).get(None)

    await connection.execute("update dispatcher.endpoints set notification_email = 'new@example.org'")
    await run(notify)

    assert held_back == 1
    assert [mail["To"] for mail in mails] == ["new@example.org"]


async def test_a_refused_mail_is_given_up_and_stays_visible(pool: Pool, connection: Any, clock: FakeClock) -> None:
    """No retry, the reason is kept, and later deaths are still folded and tried."""
    mails, counts = MailList(), Counts()

    def refuse(_message: EmailMessage) -> None:
        raise MailRefused("550 No such user")

    mails.fail = refuse
    notify = step(pool, mails, clock, metrics=counts)
    endpoint_id = await make_endpoint(connection)
    await write(connection, clock, death(endpoint_id))
    await run(notify)
    clock.advance(2 * HOUR)
    await run(notify)

    [mail] = await store.list_mails(connection)
    assert mail.given_up_at is not None
    assert (mail.sent_at, mail.refused, mail.last_error) == (
        None,
        ("ops@example.org",),
        "ops@example.org: 550 No such user",
    )
    assert counts.results == {"refused": 1}
    await write(connection, clock, death(endpoint_id, 2))
    assert await run(notify) == 2


async def test_everybody_gets_a_mail_of_their_own(pool: Pool, connection: Any, clock: FakeClock) -> None:
    """The additional addresses too, each once however often it is given, nobody seeing the others."""
    endpoint_id = await make_endpoint(
        connection, "ops@example.org", "b@example.org", "OPS@example.org", "b@example.org"
    )
    mails = MailList()
    await write(connection, clock, death(endpoint_id))

    await run(step(pool, mails, clock))

    assert [mail["To"] for mail in mails] == ["ops@example.org", "b@example.org"]
    assert len({mail["Message-ID"] for mail in mails}) == 1


async def test_a_bad_extra_address_stops_nobody(pool: Pool, connection: Any, clock: FakeClock) -> None:
    """One is refused, one is no address at all, one must wait: the others get the mail once, and the next digest."""
    mails = MailList()

    def pick(message: EmailMessage) -> None:
        if message["To"] == "refused@example.org":
            raise MailRefused("550 No such user")
        if message["To"] == "later@example.org":
            raise MailUnavailable("450 Greylisted", server=False)

    mails.fail = pick
    endpoint_id = await make_endpoint(
        connection, "ops@example.org", "refused@example.org", "no address", "later@example.org", "last@example.org"
    )
    notify = step(pool, mails, clock)
    await write(connection, clock, death(endpoint_id))
    await run(notify)
    clock.advance(HOUR)
    await write(connection, clock, death(endpoint_id, 2))

    await run(notify)
    mails.fail = None
    clock.advance(HOUR)
    await run(notify)

    assert Counter(mail["To"] for mail in mails) == {
        "ops@example.org": 2,
        "last@example.org": 2,
        "later@example.org": 2,
    }
    finished = await store.list_mails(connection)
    assert all(mail.sent_at for mail in finished)
    assert {mail.refused for mail in finished} == {("refused@example.org", "no address")}


async def test_two_processes_send_each_mail_once(pool: Pool, connection: Any, clock: FakeClock) -> None:
    """They fold and send at the same time; no notice is told twice, none is left."""
    mails = MailList()
    notifies = [step(pool, mails, clock) for _ in range(2)]
    endpoints = [await make_endpoint(connection) for _ in range(40)]
    await write(connection, clock, *(death(endpoint, place) for place in range(5) for endpoint in endpoints))

    while any(await asyncio.gather(*(notify.run_once() for notify in notifies))):
        pass

    assert len({mail["Message-ID"] for mail in mails}) == len(mails) == 40
    assert set((await notices_by_mail(connection)).values()) == {5}


async def test_two_processes_never_fold_one_group_twice(pool: Pool, clock: FakeClock) -> None:
    """While one holds the lock the other does not even look."""
    async with pool.acquire() as first, pool.acquire() as second:
        async with first.transaction():
            assert await store.lock_folding(first)
            async with second.transaction():
                assert not await store.lock_folding(second)

        async with second.transaction():
            assert await store.lock_folding(second)


class Crash(BaseException):
    """The process ends here."""


class CrashesAfter:
    """A mailer whose process dies right after the server took the mail."""

    def __init__(self, mails: MailList) -> None:
        self._mails = mails

    async def send(self, message: EmailMessage) -> None:
        """Send, then die."""
        await self._mails.send(message)
        raise Crash


async def test_a_crash_after_the_server_took_it_sends_the_same_mail_again(
    pool: Pool, connection: Any, clock: FakeClock
) -> None:
    """Another process takes over after the claim ends, and the Message-ID shows that it is the same mail."""
    await write(connection, clock, death(await make_endpoint(connection)))
    mails = MailList()
    with pytest.raises(Crash):
        await run(step(pool, CrashesAfter(mails), clock))
    other = step(pool, mails, clock)

    await run(other)
    sent_while_claimed = len(mails)
    clock.advance(CLAIM_SECONDS)
    await run(other)
    clock.advance(10 * CLAIM_SECONDS)
    await run(other)

    assert sent_while_claimed == 1
    assert len(mails) == 2
    assert mails[0].as_bytes() == mails[1].as_bytes()


async def test_no_connection_is_held_while_a_mail_is_sent(database: str, connection: Any, clock: FakeClock) -> None:
    """A pool of one connection is free during the dialogue with the mail server."""
    pool = await open_pool(database, maximum=1)
    mails = MailList()
    idle = []
    mails.fail = lambda _message: idle.append(pool.get_idle_size())
    await write(connection, clock, death(await make_endpoint(connection)))

    await run(step(pool, mails, clock))
    await pool.close()

    assert idle == [1]


async def test_a_slow_mail_server_does_not_outlast_the_claim(pool: Pool, connection: Any, clock: FakeClock) -> None:
    """When half of the claim is used up the rest of the batch is given back, for whoever comes next."""
    mails = MailList()
    mails.fail = lambda _message: clock.advance(CLAIM_SECONDS / 6)
    for number in range(5):
        await write(connection, clock, death(await make_endpoint(connection), number))

    await step(pool, mails, clock).run_once()
    first = len(mails)
    await step(pool, mails, clock).run_once()

    assert (first, len(mails)) == (3, 5)


def once(reply: str) -> Callable[[str, str], str | None]:
    """Answer the first DATA with `reply`."""
    left = [reply]
    return lambda stage, _address: left.pop() if stage == "DATA" and left else None


async def test_over_real_smtp(pool: Pool, connection: Any, clock: FakeClock) -> None:
    """The whole way, with a server that loses the connection after taking a mail: it comes twice, the same."""
    endpoint_id = await make_endpoint(connection, "ops@example.org", "b@example.org")
    await write(connection, clock, death(endpoint_id, event_type="a\r\nBcc: evil@example.net", answer="<b>\r\n.\r\n"))
    async with mail_server() as sink:
        sink.answer = once(HANG_UP)
        mailer = SmtpMailer("127.0.0.1", sink.port)
        notify = step(pool, mailer, clock)
        await run(notify)
        clock.advance(SERVER.longest)
        await run(notify)
        await mailer.close()

    assert [mail.recipients for mail in sink.mails] == [("ops@example.org",), ("ops@example.org",), ("b@example.org",)]
    assert sink.mails[0].content == sink.mails[1].content
    assert sink.mails[0].message["Subject"] == "[dispatcher] 1 delivery to https://example.org/hook was given up"
    for mail in sink.mails:
        assert not {"Bcc", "Cc"} & set(mail.message.keys())
        assert b"secret" not in mail.content


# looking and forgetting


async def test_lists_are_filtered_and_paged(connection: Any, pool: Pool, clock: FakeClock) -> None:
    """By endpoint, by mail, by what is unfinished, from the newest back."""
    first, second = await make_endpoint(connection), await make_endpoint(connection)
    notify = step(pool, MailList(), clock)
    await write(connection, clock, death(first, 1), death(second, 2))
    await run(notify)
    clock.advance(1)
    await write(connection, clock, death(first, 3), death(first, 4))

    newest, older = await store.list_notices(connection, endpoint_id=first, limit=2)
    [oldest] = await store.list_notices(connection, endpoint_id=first, before=older.id)
    [mail] = await store.list_mails(connection, endpoint_id=second)

    assert [notice.delivery_id for notice in (newest, older, oldest)] == [4, 3, 1]
    assert [notice.delivery_id for notice in await store.list_notices(connection, mail_id=mail.id)] == [2]
    assert len(await store.list_notices(connection, unfolded=True)) == 2
    assert await store.list_mails(connection, unfinished=True) == []
    assert await store.list_mails(connection, before=mail.created_at) == []


async def test_old_notices_and_mails_are_forgotten(connection: Any, pool: Pool, clock: FakeClock) -> None:
    """Sent or not, after their time; younger ones stay, and a mail stays as long as a notice belongs to it."""
    endpoint_id = await make_endpoint(connection)
    notify = step(pool, MailList(), clock)
    await write(connection, clock, *(death(endpoint_id, number) for number in range(3)))
    await run(notify)
    clock.advance(30 * 86400)
    await write(connection, clock, death(endpoint_id, 4))

    removed = []
    for _ in range(4):
        async with connection.transaction():
            removed.append(await store.forget(connection, older_than=86400, limit=2, now=clock.override()))

    assert removed == [2, 2, 0, 0]
    assert [notice.delivery_id for notice in await store.list_notices(connection)] == [4]
    assert await store.list_mails(connection) == []


async def test_a_finished_mail_stays_finished(connection: Any, pool: Pool, clock: FakeClock) -> None:
    """A process that took too long and reports late changes nothing."""
    await write(connection, clock, death(await make_endpoint(connection)))
    await run(step(pool, MailList(), clock))
    [before] = await store.list_mails(connection)

    async with connection.transaction():
        await store.settle_mail(
            connection, before.id, accepted=[], refused=[], error="late", delay=60, now=clock.override()
        )
        await store.release_mails(connection, [before.id])

    assert await store.list_mails(connection) == [before]


async def test_a_mail_cannot_be_both_done_and_waiting(connection: Any, pool: Pool, clock: FakeClock) -> None:
    """The table itself refuses a state that makes no sense."""
    await write(connection, clock, death(await make_endpoint(connection)))
    await run(step(pool, MailList(), clock))

    with pytest.raises(asyncpg.CheckViolationError, match="mails_unfinished_while_somebody_waits"):
        await connection.execute("update dispatcher.mails set sent_at = null")
