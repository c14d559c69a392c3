"""`GET /v1/events/{id}/explain`: each thing that can become of an event is told apart, for programs and for people."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from dispatcher.model import EndpointId
from support.admin import attempt, fan_out, pending_of
from support.api import Client, serving_api


@pytest.fixture
async def api(database: str) -> AsyncIterator[Client]:
    """The API with a tenant."""
    async with serving_api(database) as api:
        yield api


async def told(api: Client, event_id: UUID) -> tuple[str, str | None, str]:
    """Finding, cause and words for the one webhook that there is."""
    (found,) = (await api.ok("GET", f"/v1/events/{event_id}/explain"))["endpoints"]
    return found["finding"], found["cause"], found["why"]


async def read(api: Client, connection: Any, **fields: Any) -> UUID:
    """An event that a worker has read; its id."""
    event_id = UUID(await api.event("A.b", {"n": 1}, **fields))
    await fan_out(connection)
    return event_id


async def tried(connection: Any, event_id: UUID, *, next_in: float | None = None, error: str | None = None) -> None:
    """Let an attempt fail: with 503, or without an answer."""
    delivery_id = await pending_of(connection, event_id)
    await attempt(connection, delivery_id, status=503, next_in=next_in)
    if error is not None:
        for table, key in (("attempts", "delivery_id"), ("finished_deliveries", "id")):
            await connection.execute(
                f"update dispatcher.{table} set status = null, error = $2 where {key} = $1", delivery_id, error
            )


async def test_delivered(api: Client, connection: Any) -> None:
    """When, and by which attempt."""
    await api.webhook()
    event_id = await read(api, connection)
    await attempt(connection, await pending_of(connection, event_id), status=204)

    finding, cause, why = await told(api, event_id)

    assert (finding, cause) == ("delivered", None)
    assert why.endswith("by attempt 1; last answer: status 204.")


async def test_waiting_for_a_retry(api: Client, connection: Any) -> None:
    """Until when, and what failed."""
    await api.webhook()
    event_id = await read(api, connection)
    await tried(connection, event_id, next_in=3600)

    finding, cause, why = await told(api, event_id)
    (shown,) = (await api.ok("GET", f"/v1/events/{event_id}/explain"))["endpoints"]

    assert (finding, cause) == ("waiting", "retry")
    assert why.startswith("Attempt 1 failed (status 503); the next, retry 1 of 9, is due at ")
    assert datetime.fromisoformat(shown["nextAttemptDate"]) > datetime.now(UTC) + timedelta(minutes=50)


async def test_waiting_for_its_time(api: Client, connection: Any) -> None:
    """It was sent for later."""
    await api.webhook()
    event_id = await read(api, connection, deliverDate="2130-01-01T00:00:00Z")

    finding, cause, why = await told(api, event_id)

    assert (finding, cause, why) == (
        "waiting",
        "scheduled",
        "It is not to be delivered before 2130-01-01 00:00:00 UTC.",
    )


async def test_dead(api: Client, connection: Any) -> None:
    """Why, and after how many attempts."""
    await api.webhook()
    event_id = await read(api, connection)
    await tried(connection, event_id)

    finding, cause, why = await told(api, event_id)

    assert (finding, cause) == ("dead", "exhausted")
    assert "after 1 attempt: every attempt of its schedule failed; last answer: status 503." in why


async def test_not_subscribed(api: Client, connection: Any) -> None:
    """To what it is subscribed instead."""
    await api.webhook("B.*")
    event_id = await read(api, connection)

    assert await told(api, event_id) == ("not_subscribed", None, "It is subscribed to `B.*`, not to `A.b`.")


async def test_filtered_out(api: Client, connection: Any) -> None:
    """By which filter."""
    webhook = await api.webhook(filter="payload.n > 1")
    event_id = await read(api, connection)
    await connection.execute(
        "insert into dispatcher.filtered_events (event_id, event_at, endpoint_id, recorded_at) "
        "select id, inserted_at, $2, now() from dispatcher.outbox where id = $1",
        event_id,
        webhook["id"],
    )
    await connection.execute("delete from dispatcher.deliveries")

    finding, cause, why = await told(api, event_id)

    assert (finding, cause) == ("filtered", None)
    assert why.endswith("its filter, when the event was read, said no. It is now: `payload.n > 1`.")


async def test_paused(api: Client, connection: Any) -> None:
    """It waits until somebody resumes the webhook."""
    webhook = await api.webhook()
    await api.ok("POST", f"/v1/webhook/{webhook['id']}/pause")
    event_id = await read(api, connection)

    finding, cause, why = await told(api, event_id)

    assert (finding, cause) == ("waiting", "paused")
    assert why.startswith("The webhook is paused; it is sent after `POST /v1/webhook/")


async def test_disabled_at_the_time(api: Client, connection: Any) -> None:
    """Also when it is enabled again: from when to when it was not, and why."""
    webhook = await api.webhook()
    await api.ok("POST", f"/v1/webhook/{webhook['id']}/disable")
    event_id = await read(api, connection)
    during = await told(api, event_id)
    await api.ok("POST", f"/v1/webhook/{webhook['id']}/enable")
    after = await told(api, event_id)
    later = await told(api, await read(api, connection))

    assert (during[0], after[0], later[0]) == ("disabled", "disabled", "waiting")
    assert during[2].startswith("It is disabled since ")
    assert after[2].startswith("It was disabled when the event came in (from ")
    assert after[2].endswith("): Disabled by a person.")


async def test_a_disabling_is_recorded_however_often(api: Client, connection: Any) -> None:
    """Each span for itself; of a webhook that nobody ever disabled there is none."""
    webhook = await api.webhook()
    for _ in range(2):
        await api.ok("POST", f"/v1/webhook/{webhook['id']}/disable")
        await api.ok("POST", f"/v1/webhook/{webhook['id']}/enable")
    await api.webhook()

    spans = await connection.fetch("select * from dispatcher.disabled_spans order by began_at")

    assert {span["endpoint_id"] for span in spans} == {EndpointId(spans[0]["endpoint_id"])}
    assert [span["ended_at"] >= span["began_at"] for span in spans] == [True, True]


@pytest.mark.parametrize("next_in, finding", [(3600.0, "waiting"), (None, "dead")])
async def test_blocked_address(api: Client, connection: Any, next_in: float | None, finding: str) -> None:
    """Told apart from what did not answer, while it is tried again and when it has died of it."""
    await api.webhook()
    event_id = await read(api, connection)
    await tried(connection, event_id, next_in=next_in, error="blocked: 10.0.0.1 is a private address.")

    found, cause, why = await told(api, event_id)

    assert (found, cause) == (finding, "blocked")
    assert "blocked: 10.0.0.1 is a private address" in why
    assert ".." not in why


async def test_expired(api: Client, connection: Any) -> None:
    """Its time has passed."""
    await api.webhook()
    event_id = await read(api, connection)
    await tried(connection, event_id)
    await connection.execute(
        "update dispatcher.finished_deliveries set reason = 'expired', attempts = 0, status = null"
    )

    finding, cause, why = await told(api, event_id)

    assert (finding, cause) == ("dead", "expired")
    assert "after 0 attempts: the event expired." in why


async def test_cancelled(api: Client, connection: Any) -> None:
    """By a person."""
    await api.webhook()
    event_id = await read(api, connection)
    await api.admin.cancel_delivery(await pending_of(connection, event_id))

    finding, cause, why = await told(api, event_id)

    assert (finding, cause) == ("cancelled", "by_person")
    assert why.endswith(" by a person.")


async def test_an_unknown_event(api: Client) -> None:
    """A 404 that says what there is not."""
    answer = await api("GET", f"/v1/events/{uuid4()}/explain")

    assert (answer.status, answer.problem["type"]) == (404, "/docs#not-found")
    assert answer.problem["detail"] == "This tenant has no event with this id."
