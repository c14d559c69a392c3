"""Events sent without SQL, tests of one webhook, and the lists of both."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from dispatcher.admin import Admin, NewEvent, views
from dispatcher.errors import InvalidInput, NotFound
from dispatcher.model import DeliveryState, EventId
from support.admin import attempt, fan_out, make_webhook, open_admin, send

EVENT = NewEvent(tenant="acme", event_type="appointment.created", payload='{"b":1.10,"a":12345678901234567890123}')


@pytest.fixture
async def admin(database: str) -> AsyncIterator[Admin]:
    """An administration of a fresh database."""
    async with open_admin(database) as admin:
        yield admin


async def test_a_sent_event_keeps_every_byte(admin: Admin) -> None:
    """The payload is stored as it was written, for a tenant that nobody registered, too."""
    event_id = await admin.send_event(EVENT)

    assert event_id is not None
    event = await admin.event(event_id)
    assert event.payload == EVENT.payload
    assert (event.tenant, event.event_type) == ("acme", "appointment.created")
    assert views.event_json(event)["payload"] == {"b": 1.1, "a": 12345678901234567890123}


async def test_all_columns_of_the_outbox_can_be_given(admin: Admin) -> None:
    """What a producer with SQL can set, one without can, too."""
    instant = datetime(2030, 1, 1, tzinfo=UTC)
    given = replace(
        EVENT,
        id=EventId(uuid4()),
        occurred_at=instant,
        deliver_at=instant + timedelta(hours=1),
        expires_at=instant + timedelta(hours=2),
        idempotency_key="once",
        ordering_key="patient 1",
    )

    assert await admin.send_event(given) == given.id

    shown = views.event_json(await admin.event(given.id or EventId(UUID(int=0))))
    assert shown["occurredDate"] == "2030-01-01T00:00:00Z"
    assert (shown["deliverDate"], shown["expiresDate"]) == ("2030-01-01T01:00:00Z", "2030-01-01T02:00:00Z")
    assert (shown["idempotencyKey"], shown["orderingKey"]) == ("once", "patient 1")


async def test_an_idempotency_key_is_used_once(admin: Admin) -> None:
    """The second event with a tenant's key is skipped; another tenant's is not."""
    given = replace(EVENT, idempotency_key="once")

    sent = [await admin.send_event(given), await admin.send_event(given)]

    assert (sent[0] is None, sent[1] is None) == (False, True)
    assert await admin.send_event(replace(given, tenant="other")) is not None


@pytest.mark.parametrize(
    "fields, field",
    [
        pytest.param({"payload": "{"}, "payload", id="no JSON"),
        pytest.param({"payload": ""}, "payload", id="nothing"),
        pytest.param({"payload": "{}\x00"}, "payload", id="NUL"),
        pytest.param({"payload": '"\ud800"'}, "payload", id="half a surrogate pair"),
        pytest.param({"tenant": ""}, "tenant", id="no tenant"),
        pytest.param({"tenant": "a\nb"}, "tenant", id="control character in the tenant"),
        pytest.param({"event_type": "x" * 256}, "event_type", id="long type"),
        pytest.param({"idempotency_key": ""}, "idempotency_key", id="empty idempotency key"),
        pytest.param({"ordering_key": "x" * 256}, "ordering_key", id="long ordering key"),
        pytest.param(
            {"deliver_at": datetime(2030, 1, 2, tzinfo=UTC), "expires_at": datetime(2030, 1, 1, tzinfo=UTC)},
            "expires_at",
            id="expired before it is due",
        ),
    ],
)
async def test_what_the_outbox_refuses_is_refused_by_field(admin: Admin, fields: dict[str, Any], field: str) -> None:
    """The table's constraints come out as refusals of a field, and nothing is inserted."""
    with pytest.raises(InvalidInput) as refused:
        await admin.send_event(replace(EVENT, **fields))

    assert refused.value.field == field
    assert await admin.list_events() == []


async def test_an_event_of_another_tenant_does_not_exist(admin: Admin) -> None:
    """Show and explain answer another tenant's event as one that does not exist."""
    event_id, nothing = await send(admin), EventId(uuid4())

    for call in (admin.event, admin.explain):
        messages = []
        for one in (event_id, nothing):
            with pytest.raises(NotFound) as missing:
                await call(one, tenant="other")
            messages.append(str(missing.value).replace(str(one), ""))
        assert messages[0] == messages[1]
        await call(event_id, tenant="acme")


async def test_events_are_listed_the_latest_first(admin: Admin) -> None:
    """By tenant and by type, within a day unless told otherwise."""
    first = await send(admin, "acme", "a")
    second = await send(admin, "acme", "b")
    third = await send(admin, "other", "a")

    async def ids(tenant: str | None = None, **filters: Any) -> list[EventId]:
        return [event.id for event in await admin.list_events(tenant, **filters)]

    assert await ids() == [third, second, first]
    assert await ids("acme") == [second, first]
    assert await ids(event_type="a") == [third, first]
    assert await ids(limit=1) == [third]
    assert await ids(since=datetime.now(UTC) + timedelta(minutes=1)) == []


@pytest.mark.parametrize("limit", [0, -1, 1001])
async def test_a_list_has_a_sensible_length(admin: Admin, limit: int) -> None:
    """Anything else is refused by field."""
    with pytest.raises(InvalidInput) as refused:
        await admin.list_events(limit=limit)

    assert refused.value.field == "limit"


async def test_a_test_goes_to_one_webhook_alone(admin: Admin, connection: Any) -> None:
    """`test.created` makes one manual delivery, due now, and is not fanned out to the others that want all."""
    tested, _ = await make_webhook(admin, "acme", "visit.*"), await make_webhook(admin, "acme", "*")
    before = (await send(admin), await send(admin))
    touched = await connection.fetchval("select changed_at from dispatcher.endpoints where id = $1", tested)

    delivery_id = await admin.test_webhook(tested)

    details = await admin.delivery(delivery_id)
    assert details.event is not None
    assert (details.event.event_type, details.delivery.endpoint_id, details.delivery.manual) == (
        "test.created",
        tested,
        True,
    )
    assert details.event.payload == (
        f'{{"resource_id":"{tested}","resource_id_type":"Test","event_type":"test.created","changed_fields":[]}}'
    )
    unread = {row["event_id"] for row in await connection.fetch("select event_id from dispatcher.outbox_unread")}
    assert unread == set(before)
    assert touched < await connection.fetchval("select changed_at from dispatcher.endpoints where id = $1", tested)


async def test_a_test_of_a_webhook_that_gets_nothing_is_refused(admin: Admin, connection: Any) -> None:
    """Disabled, paused or archived: the refusal says what to do, and no event is written."""
    webhook_id = await make_webhook(admin)

    await admin.pause_webhook(webhook_id)
    with pytest.raises(InvalidInput, match=r"paused.*webhook resume"):
        await admin.test_webhook(webhook_id)
    await admin.disable_webhook(webhook_id)
    with pytest.raises(InvalidInput, match=r"disabled.*webhook enable"):
        await admin.test_webhook(webhook_id)
    await admin.archive_webhook(webhook_id)
    with pytest.raises(InvalidInput, match="archived"):
        await admin.test_webhook(webhook_id)

    assert await connection.fetchval("select count(*) from dispatcher.outbox") == 0


async def test_waiting_for_an_attempt_ends_with_it(admin: Admin, connection: Any) -> None:
    """The first attempt is returned as soon as it is logged."""
    delivery_id = await admin.test_webhook(await make_webhook(admin))
    looks = 0

    async def sleep(_seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            await attempt(connection, delivery_id, status=200)

    made = await admin.wait_for_attempt(delivery_id, 60, sleep=sleep)

    assert made is not None
    assert (made.number, made.status, made.verdict, looks) == (1, 200, "done", 2)
    assert views.attempt_json(made)["responseHeaders"] == [["Server", "test"]]
    assert (await admin.delivery(delivery_id)).delivery.state is DeliveryState.DELIVERED


async def test_waiting_for_an_attempt_ends_in_time(admin: Admin) -> None:
    """Without a worker nothing comes."""
    delivery_id = await admin.test_webhook(await make_webhook(admin))

    assert await admin.wait_for_attempt(delivery_id, 0) is None


async def test_a_webhook_made_later_gets_no_test_of_another(admin: Admin, connection: Any) -> None:
    """A test is read by no fan-out, so that it reaches nobody else."""
    await admin.test_webhook(await make_webhook(admin))
    await make_webhook(admin)

    await fan_out(connection)

    assert await connection.fetchval("select count(*) from dispatcher.deliveries") == 1
