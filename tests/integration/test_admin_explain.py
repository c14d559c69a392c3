"""What became of an event: every "why" has an answer."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from dispatcher.admin import Admin, EndpointFinding, Finding, WebhookChanges, views
from dispatcher.errors import NotFound
from dispatcher.model import EndpointId, EventId, Health
from dispatcher.store import endpoints as store
from support.admin import attempt, fan_out, make_webhook, open_admin, pending_of, send


@pytest.fixture
async def admin(database: str) -> AsyncIterator[Admin]:
    """An administration of a fresh database."""
    async with open_admin(database) as admin:
        yield admin


async def only(admin: Admin, event_id: EventId) -> EndpointFinding:
    """The one finding about an event."""
    (finding,) = (await admin.explain(event_id)).endpoints
    return finding


async def own_all_shards(connection: Any) -> None:
    """Let a worker hold every lease for an hour."""
    await connection.execute(
        "update dispatcher.shard_leases set owner = gen_random_uuid(), expires_at = now() + interval '1 h'"
    )


async def test_an_unknown_event_is_not_found(admin: Admin) -> None:
    """There is nothing to explain."""
    with pytest.raises(NotFound, match="no event"):
        await admin.explain(EventId(uuid4()))


async def test_an_event_that_nobody_read_says_who_should(admin: Admin, connection: Any) -> None:
    """Without a worker it says how to start one; with one, that it is next."""
    webhook_id = await make_webhook(admin)
    event_id = await send(admin)

    without = await admin.explain(event_id)
    await own_all_shards(connection)
    with_one = await admin.explain(event_id)

    assert without.summary == (
        "No worker has read it from the outbox yet. No worker is running: start `dispatcher serve`."
    )
    assert "A worker is there for it" in with_one.summary
    assert [(one.endpoint_id, one.finding) for one in without.endpoints] == [(webhook_id, Finding.NOT_READ_YET)]


async def test_an_event_of_an_unknown_tenant_says_so(admin: Admin, connection: Any) -> None:
    """The likely typing error is named."""
    await admin.create_tenant("acme")
    event_id = await send(admin, "acne")
    await fan_out(connection)

    explanation = await admin.explain(event_id)

    assert explanation.summary.startswith("It was read, and no webhook wanted it. There is no tenant `acne`.")
    assert "Did you mean `acme`?" in explanation.summary
    assert explanation.endpoints == ()


async def test_a_delivered_event_says_when_and_by_which_attempt(admin: Admin, connection: Any) -> None:
    """The answer is named."""
    await make_webhook(admin)
    event_id = await send(admin)
    await fan_out(connection)
    await attempt(connection, await pending_of(connection, event_id), status=204)

    explanation = await admin.explain(event_id)

    assert explanation.summary == "Of 1 webhook of the tenant: 1 delivered."
    (finding,) = explanation.endpoints
    assert finding.finding is Finding.DELIVERED
    assert finding.why.endswith("by attempt 1; last answer: status 204.")


async def test_a_dead_delivery_says_why_and_how_to_send_it_again(admin: Admin, connection: Any) -> None:
    """Reason, last answer and the command."""
    await make_webhook(admin)
    event_id = await send(admin)
    await fan_out(connection)
    delivery_id = await pending_of(connection, event_id)
    await attempt(connection, delivery_id, status=500)

    finding = await only(admin, event_id)

    assert finding.finding is Finding.DEAD
    assert "after 1 attempt: every attempt of its schedule failed; last answer: status 500." in finding.why
    assert f"`dispatcher delivery retry {delivery_id}`" in finding.why


async def test_a_retry_says_which_and_when(admin: Admin, connection: Any) -> None:
    """Retry n of m, what failed, and the next instant."""
    await make_webhook(admin, retry_schedule="5s,1h,2h")
    event_id = await send(admin)
    await fan_out(connection)
    await attempt(connection, await pending_of(connection, event_id), status=503, next_in=3600)

    finding = await only(admin, event_id)

    assert finding.finding is Finding.WAITING
    assert "Attempt 1 failed (status 503); the next, retry 1 of 3, is due at" in finding.why
    assert finding.next_attempt_at is not None


@pytest.mark.parametrize(
    "change, words",
    [
        pytest.param(
            {"pause": True}, "The webhook is paused; it is sent after `dispatcher webhook resume", id="paused"
        ),
        pytest.param({"disable": True}, "The webhook is disabled; the delivery is about to be given up", id="disabled"),
        pytest.param({"worker": False}, "No worker is running: start `dispatcher serve`", id="no worker"),
        pytest.param({"cool": True}, "The whole webhook cools down until", id="cooling down"),
        pytest.param({"hung": True}, "only one request at a time", id="hung"),
        pytest.param({"rate": True}, "the webhook gets 2 requests a second", id="rate"),
        pytest.param({}, "waits for its turn, or is being sent", id="due"),
    ],
)
async def test_what_a_due_delivery_waits_for_is_named(
    admin: Admin, connection: Any, change: dict[str, bool], words: str
) -> None:
    """Each thing that can hold a delivery has its own words."""
    webhook_id = await make_webhook(admin)
    event_id = await send(admin)
    await fan_out(connection)
    if change.get("worker", True):
        await own_all_shards(connection)
    if change.get("pause"):
        await admin.pause_webhook(webhook_id)
    if change.get("disable"):
        await admin.disable_webhook(webhook_id)
    if change.get("rate"):
        await admin.update_webhook(webhook_id, WebhookChanges(rate_limit=2))
    cool_until = (datetime.now(UTC) + timedelta(hours=1)).timestamp() if change.get("cool") else None
    health = Health(cool_until=cool_until, hung=change.get("hung", False))
    await store.write_health(connection, [store.HealthWrite(webhook_id, health)])

    finding = await only(admin, event_id)

    assert finding.finding is Finding.WAITING
    assert words in finding.why


async def test_a_delivery_behind_another_names_the_ordering_key(admin: Admin, connection: Any) -> None:
    """It waits for an earlier one of its key."""
    await make_webhook(admin)
    await send(admin, ordering_key="patient 1")
    event_id = await send(admin, ordering_key="patient 1")
    await fan_out(connection)

    finding = await only(admin, event_id)

    assert finding.why == "It waits for an earlier delivery of this webhook with the ordering key `patient 1`."
    assert finding.next_attempt_at is None


async def test_an_event_for_later_says_when(admin: Admin, connection: Any) -> None:
    """`deliver_at` is the reason."""
    await make_webhook(admin)
    event_id = await send(admin, deliver_at=datetime(2130, 1, 1, tzinfo=UTC))
    await fan_out(connection)

    finding = await only(admin, event_id)

    assert finding.why == "It is not to be delivered before 2130-01-01 00:00:00 UTC."


async def test_who_got_nothing_is_told_why(admin: Admin, connection: Any) -> None:
    """Not subscribed, disabled, registered later, subscribed later; who was archived before is left out."""
    delivered = await make_webhook(admin)
    unsubscribed = await make_webhook(admin, "acme", "visit.*", "lab")
    disabled, archived, changed = [await make_webhook(admin) for _ in range(3)]
    await admin.disable_webhook(disabled)
    await admin.archive_webhook(archived)
    await admin.update_webhook(changed, WebhookChanges(subscriptions=["visit.*"]))
    event_id = await send(admin)
    await fan_out(connection)
    await admin.update_webhook(changed, WebhookChanges(subscriptions=["*"]))
    later = await make_webhook(admin)
    await admin.cancel_delivery(await pending_of(connection, event_id))

    findings = {one.endpoint_id: one for one in (await admin.explain(event_id)).endpoints}

    assert {endpoint_id: one.finding for endpoint_id, one in findings.items()} == {
        delivered: Finding.CANCELLED,
        unsubscribed: Finding.NOT_SUBSCRIBED,
        disabled: Finding.DISABLED,
        changed: Finding.UNKNOWN,
        later: Finding.REGISTERED_LATER,
    }
    assert findings[unsubscribed].why == "It is subscribed to `lab`, `visit.*`, not to `appointment.created`."
    assert "Disabled by a person." in findings[disabled].why
    assert "changed since" in findings[changed].why
    assert archived not in findings


async def test_a_test_is_explained_as_one(admin: Admin, connection: Any) -> None:
    """The webhooks that it was not for are left out."""
    tested, _ = await make_webhook(admin), await make_webhook(admin)
    delivery = await admin.delivery(await admin.test_webhook(tested))

    explanation = await admin.explain(delivery.delivery.event_id)

    assert explanation.summary.startswith("A test of one webhook: 1 waiting.")
    assert [one.endpoint_id for one in explanation.endpoints] == [tested]


async def test_another_tenants_webhooks_are_not_mentioned(admin: Admin, connection: Any) -> None:
    """An explanation holds its own tenant's webhooks alone."""
    own: EndpointId = await make_webhook(admin, "acme")
    await make_webhook(admin, "other")
    event_id = await send(admin)
    await fan_out(connection)

    shown = views.explanation_json(await admin.explain(event_id, tenant="acme"))

    assert [one["webhookId"] for one in shown["endpoints"]] == [str(own)]
    assert shown["event"]["id"] == str(event_id)
    assert shown["endpoints"][0]["finding"] == "waiting"
    assert shown["endpoints"][0]["deliveries"][0]["state"] == "pending"
