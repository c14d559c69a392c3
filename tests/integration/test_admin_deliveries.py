"""Deliveries as people list, look at, retry and cancel them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from dispatcher.admin import Admin, views
from dispatcher.errors import InvalidInput, NotFound
from dispatcher.model import DeliveryId, DeliveryState, EndpointId
from support.admin import attempt, fan_out, make_webhook, open_admin, pending_of, send


@pytest.fixture
async def admin(database: str) -> AsyncIterator[Admin]:
    """An administration of a fresh database."""
    async with open_admin(database) as admin:
        yield admin


async def deliver(admin: Admin, connection: Any, status: int | None, **fields: Any) -> DeliveryId:
    """Send an event to the tenant's one webhook, and log an attempt unless `status` is None."""
    event_id = await send(admin, **fields)
    await fan_out(connection)
    delivery_id = await pending_of(connection, event_id)
    if status is not None:
        await attempt(connection, delivery_id, status=status)
    return delivery_id


async def test_a_page_has_pending_ones_first_then_the_latest(admin: Admin, connection: Any) -> None:
    """The soonest due comes first, the longest finished last."""
    await make_webhook(admin)
    delivered = await deliver(admin, connection, 200)
    dead = await deliver(admin, connection, 500)
    later = await deliver(admin, connection, None)
    sooner = await deliver(admin, connection, None)
    await connection.execute("update dispatcher.deliveries set due_at = now() + interval '1 h' where id = $1", later)

    page = await admin.deliveries()

    assert [row.id for row in page.deliveries] == [sooner, later, dead, delivered]
    assert page.next_cursor is None


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
async def test_cursors_lead_through_all(admin: Admin, connection: Any, limit: int) -> None:
    """Page by page every delivery comes once, those that wait for an earlier one included."""
    await make_webhook(admin)
    expected = {await deliver(admin, connection, 200) for _ in range(3)}
    for _ in range(4):
        expected.add(await deliver(admin, connection, None, ordering_key="one"))

    seen: list[DeliveryId] = []
    cursor = None
    for _ in range(10):
        page = await admin.deliveries(limit=limit, cursor=cursor)
        seen += [row.id for row in page.deliveries]
        cursor = page.next_cursor
        if cursor is None:
            break

    assert sorted(seen) == sorted(expected)


async def test_deliveries_are_filtered_by_webhook_tenant_and_state(admin: Admin, connection: Any) -> None:
    """Each filter shows what it says, and no other tenant's."""
    acme, other = await make_webhook(admin, "acme"), await make_webhook(admin, "other")
    pending = await deliver(admin, connection, None, tenant="acme")
    delivered = await deliver(admin, connection, 200, tenant="acme")
    dead = await deliver(admin, connection, 404, tenant="acme")
    foreign = await deliver(admin, connection, 404, tenant="other")
    cancelled = await deliver(admin, connection, None, tenant="acme")
    await admin.cancel_delivery(cancelled)

    async def ids(**filters: Any) -> set[DeliveryId]:
        return {row.id for row in (await admin.deliveries(**filters)).deliveries}

    assert await ids(webhook=acme) == {pending, delivered, dead, cancelled}
    assert await ids(webhook=other) == {foreign}
    assert await ids(tenant="other") == {foreign}
    assert await ids(state=DeliveryState.DEAD) == {dead, foreign}
    assert await ids(state=DeliveryState.DEAD, tenant="acme") == {dead}
    assert await ids(state=DeliveryState.DELIVERED) == {delivered}
    assert await ids(state=DeliveryState.PENDING) == {pending}
    assert await ids(state=DeliveryState.CANCELLED) == {cancelled}


async def test_a_filter_that_means_nothing_is_said_so(admin: Admin) -> None:
    """An unknown tenant or a made-up cursor is refused, not answered with an empty page."""
    with pytest.raises(NotFound, match="no tenant"):
        await admin.deliveries(tenant="nobody")
    for cursor in ("x", "é", "bm9uZQ==", "WzEsMiwzXQ=="):
        with pytest.raises(InvalidInput) as refused:
            await admin.deliveries(cursor=cursor)
        assert refused.value.field == "cursor"


async def test_a_delivery_is_shown_with_its_attempts(admin: Admin, connection: Any) -> None:
    """Each attempt says what was answered and when the next one comes."""
    webhook_id = await make_webhook(admin)
    delivery_id = await deliver(admin, connection, None)
    await attempt(connection, delivery_id, status=503, next_in=5)
    await attempt(connection, delivery_id, status=200)

    shown = views.delivery_details_json(await admin.delivery(delivery_id))

    assert (shown["id"], shown["state"], shown["attemptCount"]) == (delivery_id, "delivered", 2)
    assert (shown["webhookId"], shown["eventType"], shown["tenant"]) == (str(webhook_id), "appointment.created", "acme")
    first, second = shown["attempts"]
    assert (first["number"], first["status"], first["verdict"]) == (1, 503, "retry")
    assert first["nextAttemptDate"].endswith("Z")
    assert (second["number"], second["verdict"], second["nextAttemptDate"]) == (2, "done", None)
    assert second["responseBody"] == "answer"


async def test_another_tenants_delivery_does_not_exist(admin: Admin, connection: Any) -> None:
    """Show, retry and cancel answer it as one that does not exist."""
    await make_webhook(admin)
    delivery_id = await deliver(admin, connection, None)

    for call in (admin.delivery, admin.retry_delivery, admin.cancel_delivery):
        for one in (delivery_id, DeliveryId(999_999), DeliveryId(2**70), DeliveryId(-1)):
            with pytest.raises(NotFound, match="no delivery"):
                await call(one, tenant="other")
    assert (await admin.delivery(delivery_id, tenant="acme")).delivery.state is DeliveryState.PENDING


async def test_a_pending_delivery_is_retried_at_once(admin: Admin, connection: Any) -> None:
    """It is due now instead of later, and its worker is told."""
    await make_webhook(admin)
    delivery_id = await deliver(admin, connection, None)
    await attempt(connection, delivery_id, status=500, next_in=3600)
    touched = await connection.fetchval("select changed_at from dispatcher.endpoints")

    retried = await admin.retry_delivery(delivery_id)

    assert (retried.id, retried.state, retried.attempts) == (delivery_id, DeliveryState.PENDING, 1)
    assert await connection.fetchval("select due_at <= now() from dispatcher.deliveries")
    assert touched < await connection.fetchval("select changed_at from dispatcher.endpoints")


@pytest.mark.parametrize("status", [200, 404], ids=["delivered", "dead"])
async def test_a_finished_delivery_is_sent_anew(admin: Admin, connection: Any, status: int) -> None:
    """A new manual delivery of the same event is made; the old one stays as it ended."""
    await make_webhook(admin)
    old = await deliver(admin, connection, status)

    new = await admin.retry_delivery(old)

    assert new.id != old
    assert (new.state, new.manual, new.attempts) == (DeliveryState.PENDING, True, 0)
    assert new.event_id == (await admin.delivery(old)).delivery.event_id
    assert (await admin.delivery(old)).delivery.state is not DeliveryState.PENDING


async def test_a_retry_to_a_webhook_that_gets_nothing_is_refused(admin: Admin, connection: Any) -> None:
    """Disabled says how to enable, archived says so."""
    webhook_id = await make_webhook(admin)
    delivery_id = await deliver(admin, connection, 404)

    await admin.disable_webhook(webhook_id)
    with pytest.raises(InvalidInput, match="webhook enable"):
        await admin.retry_delivery(delivery_id)
    await admin.archive_webhook(webhook_id)
    with pytest.raises(InvalidInput, match="archived"):
        await admin.retry_delivery(delivery_id)


async def test_an_event_past_retention_cannot_be_sent_again(admin: Admin, connection: Any) -> None:
    """Without its payload there is nothing to send."""
    await make_webhook(admin)
    delivery_id = await deliver(admin, connection, 404)
    await connection.execute("delete from dispatcher.outbox")

    with pytest.raises(InvalidInput, match="past retention"):
        await admin.retry_delivery(delivery_id)

    assert views.delivery_json((await admin.delivery(delivery_id)).delivery)["eventType"] is None


async def test_a_cancelled_delivery_goes_to_history(admin: Admin, connection: Any) -> None:
    """It is not pending any more, and cannot be cancelled twice."""
    await make_webhook(admin)
    delivery_id = await deliver(admin, connection, None)

    cancelled = await admin.cancel_delivery(delivery_id)

    assert cancelled.state is DeliveryState.CANCELLED
    assert await connection.fetchval("select count(*) from dispatcher.deliveries") == 0
    with pytest.raises(InvalidInput, match="cancelled already"):
        await admin.cancel_delivery(delivery_id)


async def test_cancelling_the_first_lets_the_next_of_its_key_go(admin: Admin, connection: Any) -> None:
    """The one behind becomes due; a waiting one that is cancelled frees nobody."""
    await make_webhook(admin)
    first, second, third = [await deliver(admin, connection, None, ordering_key="one") for _ in range(3)]

    with pytest.raises(InvalidInput, match="waits for an earlier one with the ordering key `one`"):
        await admin.retry_delivery(second)
    await admin.cancel_delivery(second)
    assert (await admin.delivery(third)).delivery.due_at is None
    await admin.cancel_delivery(first)

    assert (await admin.delivery(third)).delivery.due_at is not None


async def test_lists_read_along_indexes(admin: Admin, connection: Any) -> None:
    """No list of deliveries reads a table whole, whatever its size."""
    from dispatcher.store.history import DAWN, DUSK, LAST_ID, SQL

    webhook_id: EndpointId = await make_webhook(admin)
    shard = (await admin.webhook(webhook_id)).shard
    await connection.execute("set enable_seqscan = off")
    plans = {
        name: "\n".join(row[0] for row in await connection.fetch(f"explain {SQL[name]}", *arguments))
        for name, arguments in {
            "pending_of_endpoints": ([webhook_id], [shard], DAWN, 0, 10),
            "finished_of_endpoints": ([webhook_id], DUSK, LAST_ID, 10),
            "delivered_of_endpoints": ([webhook_id], DUSK, LAST_ID, 10),
            "undelivered_of_endpoints": ([webhook_id], DUSK, LAST_ID, 10, "dead"),
            "pending": (1,),
            "finished": (1,),
            "attempts": ([1],),
            "pending_of_event": (webhook_id,),
            "finished_of_event": (webhook_id,),
            "event": (webhook_id,),
        }.items()
    }

    for name, plan in plans.items():
        assert "Seq Scan" not in plan, f"{name}\n{plan}"
