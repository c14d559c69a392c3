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
        assert ["cancelled", "dead", "pending", "pending", "delivered"] == [call.state for call in calls]
        assert [404, 500, 503, None, 200] == [call.last_status for call in calls]


async def test_a_call_tells_what_it_is(admin: Admin, connection: Any) -> None:
    """Whose, to where, of which event, and what its last attempt came to."""
    endpoint_id = await make_webhook(admin)
    delivery_id = await deliver(admin, connection, status=500)
    event_id = (await admin.delivery(delivery_id)).delivery.event_id

    (call,) = (await admin.calls(CallFilter())).calls

    assert ("acme", endpoint_id, "https://example.com/hook") == (call.tenant, call.endpoint_id, call.url)
    assert (event_id, "appointment.created") == (call.event_id, call.event_type)
    assert (DeliveryState.DEAD, "exhausted", 1, 500, None) == (
        call.state,
        call.reason,
        call.attempts,
        call.last_status,
        call.last_error_class,
    )
    assert (12, None) == (call.last_milliseconds, call.due_at)
    assert call.last_attempt_at is not None
    assert call.finished_at is not None
