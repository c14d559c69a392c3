"""Notices and mails as rows: what is written, read back, refused and forgotten."""

from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from dispatcher.model import EndpointId, NoticeKind
from dispatcher.store import notices as store
from dispatcher.store.pool import Pool
from support.clock import FakeClock
from support.mail import MailList
from support.notices import death, health, make_endpoint, run, step, write

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
