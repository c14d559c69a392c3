"""From mails to people: retries, crashes, two processes, a dead mail server, waves of deaths."""

import asyncio
from collections import Counter
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

import pytest

from dispatcher.mailer import COMMANDS, MailRefused, MailUnavailable, SmtpMailer
from dispatcher.notify import CLAIM_SECONDS, MAILBOX, SEND_SECONDS, SERVER
from dispatcher.store import notices as store
from dispatcher.store.pool import Pool, open_pool
from support.clock import FakeClock
from support.mail import HANG_UP, MailList, mail_server
from support.notices import (
    HOUR,
    Counts,
    death,
    make_endpoint,
    notices_by_mail,
    run,
    server_down,
    step,
    subjects,
    write,
)


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
    """The claim is renewed between mails: after each, however long it took, nobody else finds any of the batch."""
    mails = MailList()
    mails.fail = lambda _message: clock.advance(COMMANDS * 20.0)
    await write(connection, clock, death(await make_endpoint(connection, "a@example.org", "b@example.org")))
    others: list[int] = []

    class Looks:
        """A mailer that lets another process look for work after each mail."""

        async def send(self, message: EmailMessage) -> None:
            await mails.send(message)
            async with pool.acquire() as second, second.transaction():
                found = await store.claim_mails(second, limit=20, seconds=60.0, now=clock.override())
                others.append(len(found))

    await step(pool, Looks(), clock).run_once()

    assert others == [0, 0]


async def test_a_batch_ends_in_time(pool: Pool, connection: Any, clock: FakeClock) -> None:
    """When a slow mail server has used up its time the rest is given back, for whoever comes next."""
    mails = MailList()
    mails.fail = lambda _message: clock.advance(SEND_SECONDS / 3)
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
