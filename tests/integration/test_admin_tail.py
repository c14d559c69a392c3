"""The live tail: what was written down since the last look, each attempt once, however late its transaction committed."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from dispatcher.admin import Admin, TailFilter, cursors
from dispatcher.errors import InvalidInput, NotFound
from support.admin import attempt, fan_out, make_webhook, open_admin, pending_of, send


@pytest.fixture
async def admin(database: str) -> AsyncIterator[Admin]:
    """An `Admin` on a fresh database."""
    async with open_admin(database) as admin:
        yield admin


async def deliver(admin: Admin, connection: Any, tenant: str = "acme", *, status: int = 200, **fields: Any) -> int:
    """Send an event that one webhook gets, with this answer."""
    event_id = await send(admin, tenant, **fields)
    await fan_out(connection)
    delivery_id = await pending_of(connection, event_id)
    await attempt(connection, delivery_id, status=status)
    return delivery_id


async def test_each_look_shows_what_came_since(admin: Admin, connection: Any) -> None:
    """The first what is there; the next what came after it; then nothing."""
    await make_webhook(admin)
    first = await deliver(admin, connection)

    begin = await admin.attempts_since(None, TailFilter())
    later = [await deliver(admin, connection), await deliver(admin, connection, status=500)]
    second = await admin.attempts_since(begin.mark, TailFilter())
    third = await admin.attempts_since(second.mark, TailFilter())

    assert [first] == [one.delivery_id for one in begin.attempts]
    assert begin.left_out is None
    assert later[::-1] == [one.delivery_id for one in second.attempts]
    assert [(one.tenant, one.event_type, one.verdict, one.status) for one in second.attempts] == [
        ("acme", "appointment.created", "give_up", 500),
        ("acme", "appointment.created", "done", 200),
    ]
    assert (third.attempts, second.left_out, third.left_out) == ((), 0, 0)


async def test_what_commits_late_comes_late(admin: Admin, connection: Any, database: str) -> None:
    """A transaction that began before a look and ended after it is in the next look, and in no other."""
    await make_webhook(admin)
    event_id = await send(admin)
    await fan_out(connection)
    delivery_id = await pending_of(connection, event_id)
    slow = await asyncpg.connect(database)
    late = slow.transaction()
    await late.start()
    await slow.execute(
        "insert into dispatcher.attempts "
        "(delivery_id, endpoint_id, event_id, started_at, milliseconds, number, shard, outcome, status, verdict) "
        "select id, endpoint_id, event_id, now() - interval '20 seconds', 20000, 1, shard, 'answered', 503, 'retry' "
        "from dispatcher.deliveries"
    )

    before = await admin.attempts_since(None, TailFilter())
    early = await deliver(admin, connection)
    during = await admin.attempts_since(before.mark, TailFilter())
    await late.commit()
    await slow.close()
    after = await admin.attempts_since(during.mark, TailFilter())
    end = await admin.attempts_since(after.mark, TailFilter())

    assert [[], [early], [delivery_id], []] == [
        [one.delivery_id for one in look.attempts] for look in (before, during, after, end)
    ]


async def test_what_is_too_much_is_counted(admin: Admin, connection: Any) -> None:
    """The newest are shown, and how many are not."""
    await make_webhook(admin)
    begin = await admin.attempts_since(None, TailFilter())
    ids = [await deliver(admin, connection) for _ in range(5)]

    look = await admin.attempts_since(begin.mark, TailFilter(), limit=2)

    assert [ids[4], ids[3]] == [one.delivery_id for one in look.attempts]
    assert look.left_out == 3


async def test_each_filter_keeps_what_it_means(admin: Admin, connection: Any) -> None:
    """At the beginning, and behind a mark."""
    ours = await make_webhook(admin)
    await make_webhook(admin, "other")
    begin = await admin.attempts_since(None, TailFilter())
    good = await deliver(admin, connection, event_type="b.c")
    bad = await deliver(admin, connection, status=503)
    other = await deliver(admin, connection, "other")

    for mark in (None, begin.mark):
        for chosen, tenant, ids in (
            (TailFilter(), None, [other, bad, good]),
            (TailFilter(), "acme", [bad, good]),
            (TailFilter(tenant="acme"), None, [bad, good]),
            (TailFilter(webhook=ours), None, [bad, good]),
            (TailFilter(event_type="b.c"), None, [good]),
            (TailFilter(status="5xx"), None, [bad]),
            (TailFilter(verdict="done"), None, [other, good]),
            (TailFilter(error_class="dns"), None, []),
        ):
            look = await admin.attempts_since(mark, chosen, tenant=tenant)
            assert ids == [one.delivery_id for one in look.attempts], chosen


async def test_an_old_mark_begins_anew(admin: Admin, connection: Any) -> None:
    """What came meanwhile is not read; how much it was is not known."""
    await make_webhook(admin)
    begin = await admin.attempts_since(None, TailFilter())
    delivery_id = await deliver(admin, connection)
    stale = await admin.attempts_since(begin.mark, TailFilter())

    snapshot, at = cursors.read(stale.mark, "tail", 2)
    look = await admin.attempts_since(
        cursors.written("tail", snapshot, datetime.fromisoformat(at) - timedelta(hours=1)), TailFilter()
    )

    assert [delivery_id] == [one.delivery_id for one in look.attempts]
    assert look.left_out is None


async def test_others_things_do_not_exist(admin: Admin) -> None:
    """For a tenant: neither another one's webhook, nor its tenant."""
    await make_webhook(admin)
    theirs = await make_webhook(admin, "other")

    for chosen in (TailFilter(webhook=theirs), TailFilter(tenant="other"), TailFilter(tenant="none")):
        with pytest.raises(NotFound):
            await admin.attempts_since(None, chosen, tenant="acme")


@pytest.mark.parametrize("snapshot", ["", "x", "5:3:", "3:5:9", "3:9:5,4", "0:1:", "1", "99999999999999999999:1:"])
async def test_a_mark_that_is_none_is_refused(admin: Admin, snapshot: str) -> None:
    """Postgres is not bothered with what it would not read."""
    with pytest.raises(InvalidInput) as caught:
        await admin.attempts_since(cursors.written("tail", snapshot, datetime.now(UTC)), TailFilter())

    assert caught.value.field == "mark"
