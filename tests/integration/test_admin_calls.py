"""The log of all calls: every filter, in order, page by page, each to those it belongs to."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from dispatcher.admin import Admin, Call, CallFilter
from dispatcher.admin import calls as module
from dispatcher.errors import InvalidInput, NotFound
from dispatcher.model import DeliveryId, DeliveryState, EndpointId, EventId
from support.admin import attempt, fan_out, make_webhook, open_admin, pending_of, send


@pytest.fixture
async def admin(database: str) -> AsyncIterator[Admin]:
    """An `Admin` on a fresh database."""
    async with open_admin(database) as admin:
        yield admin


async def every(admin: Admin, chosen: CallFilter, **keywords: Any) -> list[Call]:
    """All pages, one after the other."""
    found: list[Call] = []
    cursor = None
    while True:
        page = await admin.calls(chosen, cursor=cursor, **keywords)
        found += page.calls
        if page.next_cursor is None:
            return found
        cursor = page.next_cursor


async def deliver(
    admin: Admin,
    connection: Any,
    *,
    status: int | None = 200,
    tenant: str = "acme",
    next_in: float | None = None,
    **fields: Any,
) -> DeliveryId:
    """Send an event that one webhook gets, with this answer; None: no attempt yet."""
    event_id = await send(admin, tenant, **fields)
    await fan_out(connection)
    delivery_id = await pending_of(connection, event_id)
    if status is not None:
        await attempt(connection, delivery_id, status=status, next_in=next_in)
    return delivery_id


async def test_all_is_there_the_newest_first(admin: Admin, connection: Any) -> None:
    """Pending, retried, delivered, dead and cancelled ones of two tenants, in one list."""
    await make_webhook(admin)
    await make_webhook(admin, "other")
    made = [
        await deliver(admin, connection),
        await deliver(admin, connection, tenant="other", status=None),
        await deliver(admin, connection, status=503, next_in=60),
        await deliver(admin, connection, status=500),
        await deliver(admin, connection, status=404, next_in=60),
    ]
    await admin.cancel_delivery(made[4])

    for limit in (1, 2, 50):
        calls = await every(admin, CallFilter(), limit=limit)

        assert made[::-1] == [call.id for call in calls]
        assert [call.state for call in calls] == ["cancelled", "dead", "pending", "pending", "delivered"]
        assert [call.last_status for call in calls] == [404, 500, 503, None, 200]


async def test_a_call_tells_what_it_is(admin: Admin, connection: Any) -> None:
    """Whose, to where, of which event, and what its last attempt came to."""
    endpoint_id = await make_webhook(admin)
    delivery_id = await deliver(admin, connection, status=500)
    event_id = (await admin.delivery(delivery_id)).delivery.event_id

    (call,) = (await admin.calls(CallFilter())).calls

    assert ("acme", endpoint_id, "https://example.com/hook") == (call.tenant, call.endpoint_id, call.url)
    assert (event_id, "appointment.created") == (call.event_id, call.event_type)
    assert (
        call.state,
        call.reason,
        call.attempts,
        call.last_status,
        call.last_error_class,
    ) == (DeliveryState.DEAD, "exhausted", 1, 500, None)
    assert (call.last_milliseconds, call.due_at) == (12, None)
    assert call.last_attempt_at is not None
    assert call.finished_at is not None


async def test_each_filter_keeps_what_it_means(admin: Admin, connection: Any) -> None:
    """Alone, over all endpoints, and with the endpoint or its tenant, which are walked in another way."""
    endpoint_id = await make_webhook(admin)
    await make_webhook(admin, "other")
    delivered = await deliver(admin, connection, event_type="b.c")
    retried = await deliver(admin, connection, status=503, next_in=60)
    dead = await deliver(admin, connection, status=500)
    cancelled = await deliver(admin, connection, status=404, next_in=60)
    await admin.cancel_delivery(cancelled)
    fresh = await deliver(admin, connection, status=None)
    other = await deliver(admin, connection, tenant="other")
    event = (await admin.delivery(dead)).delivery.event_id
    ours: list[tuple[CallFilter, list[DeliveryId]]] = [
        (CallFilter(), [fresh, cancelled, dead, retried, delivered]),
        (CallFilter(event_type="b.c"), [delivered]),
        (CallFilter(state=DeliveryState.PENDING), [fresh, retried]),
        (CallFilter(state=DeliveryState.DELIVERED), [delivered]),
        (CallFilter(state=DeliveryState.DEAD), [dead]),
        (CallFilter(state=DeliveryState.CANCELLED), [cancelled]),
        (CallFilter(status="200"), [delivered]),
        (CallFilter(status="5xx"), [dead, retried]),
        (CallFilter(status="404"), [cancelled]),
        (CallFilter(status="5xx", state=DeliveryState.PENDING), [retried]),
        (CallFilter(error_class="timeout"), []),
        (CallFilter(event=event), [dead]),
        (CallFilter(event=event, state=DeliveryState.PENDING), []),
    ]

    for chosen, ids in ours:
        for scoped in (replace(chosen, webhook=endpoint_id), replace(chosen, tenant="acme")):
            for limit in (1, 50):
                assert ids == [call.id for call in await every(admin, scoped, limit=limit)], (scoped, limit)
        assert ids == [call.id for call in await every(admin, chosen, tenant="acme")]
        assert ids == [call.id for call in await every(admin, chosen) if call.id != other]


async def test_an_error_class_is_that_of_the_last_attempt(admin: Admin, connection: Any) -> None:
    """Of pending deliveries, too, whose last attempt stands in the log of attempts alone."""
    await make_webhook(admin)
    retried = await deliver(admin, connection, status=503, next_in=60)
    dead = await deliver(admin, connection, status=500)
    await connection.execute("update dispatcher.attempts set status = null, error = 'timeout: no answer within 15 s'")
    await connection.execute(
        "update dispatcher.finished_deliveries set status = null, error = 'timeout: no answer within 15 s'"
    )

    found = (await admin.calls(CallFilter(error_class="timeout"))).calls

    assert [dead, retried] == [call.id for call in found]
    assert {("timeout", "no answer within 15 s")} == {(call.last_error_class, call.last_error) for call in found}
    assert (await admin.calls(CallFilter(error_class="dns"))).calls == ()


async def test_instants_bound_what_is_found(admin: Admin, connection: Any) -> None:
    """From one on, before the other; over all endpoints, and for one."""
    endpoint_id = await make_webhook(admin)
    ids = [await deliver(admin, connection, status=status) for status in (200, None, 500, 200, None)]
    start = datetime.now(UTC) - timedelta(hours=10)
    for number, delivery_id in enumerate(ids):
        for table in ("deliveries", "finished_deliveries"):
            await connection.execute(
                f"update dispatcher.{table} set created_at = $2 where id = $1",
                delivery_id,
                start + timedelta(hours=number),
            )
    hour = timedelta(hours=1)

    for chosen in (CallFilter(), CallFilter(webhook=endpoint_id)):
        bounded = replace(chosen, created_after=start + hour, created_before=start + 3 * hour)
        since = replace(chosen, created_after=start + 4 * hour)
        until = replace(chosen, created_before=start + hour)
        empty = replace(chosen, created_after=start + 4 * hour, created_before=start)

        assert [ids[2], ids[1]] == [call.id for call in await every(admin, bounded, limit=1)]
        assert [ids[4]] == [call.id for call in await every(admin, since)]
        assert [ids[0]] == [call.id for call in await every(admin, until)]
        assert await every(admin, empty) == []


async def test_a_rare_find_is_searched_page_by_page(
    admin: Admin, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page can be empty, says how far it searched, and its cursor reads on."""
    monkeypatch.setattr(module, "MOST_LOOKED_UP", 1)
    await make_webhook(admin)
    await connection.execute(
        "insert into dispatcher.finished_deliveries "
        "select n, endpoints.id, gen_random_uuid(), now(), now(), now(), endpoints.shard, 1, false, 'delivered', null, 200 "
        "from dispatcher.endpoints cross join generate_series(1, 600) as n"
    )

    page = await admin.calls(CallFilter(event_type="rare"))

    assert page.calls == ()
    assert page.searched_to is not None
    assert page.next_cursor is not None
    assert await every(admin, CallFilter(event_type="rare")) == []


async def test_nothing_is_shown_twice_when_it_ends_between_two_pages(admin: Admin, connection: Any) -> None:
    """It was on the first page as pending; on the next it is not there as delivered."""
    endpoint_id = await make_webhook(admin)
    ids = [await deliver(admin, connection, status=status) for status in (200, None, 200, None, 200)]

    for chosen in (CallFilter(), CallFilter(webhook=endpoint_id)):
        first = await admin.calls(chosen, limit=2)
        if chosen.webhook is None:
            await attempt(connection, ids[3], status=200)
        rest = await admin.calls(chosen, cursor=first.next_cursor)

        assert ids[::-1] == [call.id for call in (*first.calls, *rest.calls)]


async def test_others_things_do_not_exist(admin: Admin, connection: Any) -> None:
    """For a tenant: neither another one's webhook, nor its tenant, nor its event."""
    await make_webhook(admin)
    theirs = await make_webhook(admin, "other")
    other = await deliver(admin, connection, tenant="other")
    event = (await admin.delivery(other)).delivery.event_id

    assert (await admin.calls(CallFilter(), tenant="acme")).calls == ()
    assert (await admin.calls(CallFilter(event=event), tenant="acme")).calls == ()
    for chosen in (CallFilter(webhook=theirs), CallFilter(tenant="other"), CallFilter(tenant="none")):
        with pytest.raises(NotFound):
            await admin.calls(chosen, tenant="acme")
    with pytest.raises(NotFound):
        await admin.calls(CallFilter(webhook=EndpointId(uuid4())))


@pytest.mark.parametrize(
    "field, chosen, keywords",
    [
        ("status", CallFilter(status="9xx"), {}),
        ("status", CallFilter(status="'; --"), {}),
        ("error_class", CallFilter(error_class="bad luck"), {}),
        ("limit", CallFilter(), {"limit": 0}),
        ("limit", CallFilter(), {"limit": 251}),
        ("cursor", CallFilter(), {"cursor": "é"}),
        ("cursor", CallFilter(), {"cursor": "W10"}),
        ("cursor", CallFilter(), {"cursor": "bnVsbA"}),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    admin: Admin, field: str, chosen: CallFilter, keywords: dict[str, Any]
) -> None:
    """With the field that is to blame."""
    with pytest.raises(InvalidInput) as caught:
        await admin.calls(chosen, **keywords)

    assert field == caught.value.field


async def test_an_unknown_event_has_no_calls(admin: Admin) -> None:
    """And nothing is raised: it may be past retention."""
    page = await admin.calls(CallFilter(event=EventId(uuid4())))

    assert (page.calls, page.next_cursor, page.searched_to) == ((), None, None)
