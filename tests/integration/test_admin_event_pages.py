"""The list of events: the latest inserted first, filtered, page by page, with what became of each."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from dispatcher.admin import Admin, Fates, ListedEvent
from dispatcher.admin import event_pages as module
from dispatcher.errors import InvalidInput
from support.admin import attempt, fan_out, make_webhook, open_admin, pending_of, send

HOUR = timedelta(hours=1)


@pytest.fixture
async def admin(database: str) -> AsyncIterator[Admin]:
    """An `Admin` on a fresh database."""
    async with open_admin(database) as admin:
        yield admin


async def every(admin: Admin, **keywords: Any) -> list[ListedEvent]:
    """All pages, one after the other."""
    found: list[ListedEvent] = []
    cursor = None
    while True:
        page = await admin.event_page(**keywords, cursor=cursor)
        found += page.events
        if page.next_cursor is None:
            return found
        cursor = page.next_cursor


async def insert(
    connection: Any, ages: list[timedelta], *, tenant: str = "acme", event_type: str = "a.b"
) -> list[UUID]:
    """Write events as old as that; their ids say nothing of their order."""
    ids, now = [uuid4() for _ in ages], datetime.now(UTC)
    await connection.executemany(
        "insert into dispatcher.outbox (id, tenant, event_type, payload, inserted_at) values ($1, $2, $3, '{}', $4)",
        [(event_id, tenant, event_type, now - age) for event_id, age in zip(ids, ages, strict=True)],
    )
    return ids


async def test_the_latest_inserted_come_first(admin: Admin, connection: Any) -> None:
    """Whatever their ids are, however far apart they are; in pages of any size."""
    ids = await insert(connection, [HOUR * 0, HOUR / 3600, HOUR / 60, HOUR, HOUR * 25, HOUR * 24 * 60])

    for limit in (1, 2, 50):
        assert [event.id for event in await every(admin, limit=limit)] == ids


async def test_events_of_one_instant_come_once_each(admin: Admin, connection: Any) -> None:
    """A page may end among them."""
    ids, now = [uuid4() for _ in range(5)], datetime.now(UTC)
    await connection.executemany(
        "insert into dispatcher.outbox (id, tenant, event_type, payload, inserted_at) values ($1, 'acme', 'a', '{}', $2)",
        [(event_id, now) for event_id in ids],
    )

    for limit in (1, 2, 50):
        assert [event.id for event in await every(admin, limit=limit)] == sorted(ids, reverse=True)


async def test_a_crowd_is_read_bit_by_bit(admin: Admin, connection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window that holds too many is halved until it does not; a page that looked at enough is short."""
    monkeypatch.setattr(module, "WIDEST", 10)
    monkeypatch.setattr(module, "MOST_LOOKED_AT", 20)
    ids = await insert(connection, [HOUR * 30 + timedelta(milliseconds=n) for n in range(200)])
    rare = await insert(connection, [HOUR * 31], event_type="rare")

    first = await admin.event_page(event_type="rare")

    assert [event.id for event in await every(admin)] == [*ids, *rare]
    assert (first.events, first.next_cursor is None, first.searched_to is None) == ((), False, False)
    assert [event.id for event in await every(admin, event_type="rare")] == rare


async def test_filters_keep_what_they_mean(admin: Admin, connection: Any) -> None:
    """Tenant, type, instants: from, and strictly before."""
    ours = await insert(connection, [HOUR, HOUR * 2, HOUR * 3])
    (theirs,) = await insert(connection, [HOUR * 4], tenant="other", event_type="c")
    listed = await every(admin)
    instants = [event.inserted_at for event in listed]

    assert [event.id for event in await every(admin, tenant="acme")] == ours
    assert [event.id for event in await every(admin, event_type="c")] == [theirs]
    assert [event.id for event in await every(admin, tenant="acme", event_type="c")] == []
    assert [event.id for event in await every(admin, since=instants[1])] == ours[:2]
    assert [event.id for event in await every(admin, until=instants[1])] == [ours[2], theirs]
    assert [event.id for event in await every(admin, since=instants[2], until=instants[1], limit=1)] == [ours[2]]


async def test_each_event_says_what_became_of_it(admin: Admin, connection: Any) -> None:
    """Deliveries by state; unmatched; refused."""
    await make_webhook(admin, "acme", "a.*")
    await make_webhook(admin, "acme", "a.b")
    matched = await send(admin, event_type="a.b")
    unmatched = await send(admin, event_type="c")
    await fan_out(connection)
    rows = await connection.fetch("select id from dispatcher.deliveries where event_id = $1 order by id", matched)
    await attempt(connection, rows[0]["id"], status=200)
    await attempt(connection, rows[1]["id"], status=500)
    retried = await send(admin, event_type="a.c")
    await fan_out(connection)
    await attempt(connection, await pending_of(connection, retried), status=500, next_in=60)
    refused = await send(admin, event_type="a.d")
    await connection.execute(
        "insert into dispatcher.refused_events (event_id, event_at, tenant, event_type, recorded_at, reason) "
        "select id, inserted_at, tenant, event_type, now(), 'Unknown.' from dispatcher.outbox where id = $1",
        refused,
    )

    found = {event.id: event for event in await every(admin)}
    only_refused = await every(admin, refused=True)

    assert found[matched].fates == Fates(0, 1, 1, 0)
    assert found[retried].fates == Fates(1, 0, 0, 0)
    assert (found[unmatched].fates.total, found[unmatched].is_unmatched) == (0, True)
    assert (found[refused].refused_because, found[refused].is_unmatched) == ("Unknown.", False)
    assert [event.id for event in only_refused] == [refused]
    assert await every(admin, refused=True, tenant="other") == []


@pytest.mark.parametrize("keywords", [{"limit": 0}, {"limit": 251}, {"cursor": "x"}, {"cursor": "WyJldmVudHMiLDEsMl0"}])
async def test_what_cannot_be_meant_is_refused(admin: Admin, keywords: dict[str, Any]) -> None:
    """A limit out of bounds, a cursor that is none."""
    with pytest.raises(InvalidInput):
        await admin.event_page(**keywords)
