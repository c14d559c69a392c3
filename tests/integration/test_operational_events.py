"""Operational events: what a tenant's own subscribers hear of the tenant's webhooks, and that it never goes round."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dispatcher.admin import Admin
from dispatcher.model import EndpointId
from support.admin import open_admin
from support.receiver import Receiver, answer
from support.world import finished, insert_event, insert_events, make_endpoint, make_tenant, until, working


@pytest.fixture
async def admin(database: str) -> AsyncIterator[Admin]:
    """An administration of a fresh database."""
    async with open_admin(database) as admin:
        yield admin


async def heard(connection: Any) -> list[tuple[str, dict[str, Any]]]:
    """The operational events in the outbox: type and payload, in their order."""
    rows = await connection.fetch(
        "select event_type, payload from dispatcher.outbox where event_type like 'dispatcher.%' order by inserted_at"
    )
    return [(row["event_type"], json.loads(row["payload"])) for row in rows]


async def test_a_death_is_told_to_who_subscribes(database: str, connection: Any) -> None:
    """The tenant's endpoint for `dispatcher.*` gets a signed POST that says which delivery died, and why."""
    async with Receiver() as receiver, working(database, retry__schedule="50ms"):
        receiver.on("/bad", answer(503))
        bad = await make_endpoint(connection, f"{receiver.url}/bad", subscriptions=["*"])
        await make_endpoint(connection, f"{receiver.url}/ops", subscriptions=["dispatcher.*"])
        event_id = await insert_event(connection)

        (request,) = await receiver.wait_for(1, path="/ops")

        body = json.loads(request.body)
        delivery_id = await connection.fetchval(
            "select id from dispatcher.finished_deliveries where endpoint_id = $1", bad
        )
        assert body["type"] == "dispatcher.delivery.dead"
        assert body["data"] == {
            "webhookId": str(bad),
            "deliveryId": delivery_id,
            "eventId": str(event_id),
            "eventType": "appointment.created",
            "reason": "exhausted",
            "attemptCount": 2,
            "isManual": False,
            "lastStatus": 503,
            "lastError": None,
        }
        await finished(connection, 2)
        assert [request.path for request in receiver.received] == ["/bad", "/bad", "/ops"]


async def test_nobody_is_told_who_does_not_subscribe(database: str, connection: Any) -> None:
    """Without a subscriber of the tenant nothing is written, whatever dies: `*`, other tenants and disabled ones are none."""
    async with Receiver() as receiver, working(database, retry__schedule="[]"):
        receiver.on("/bad", answer(500))
        await make_endpoint(connection, f"{receiver.url}/bad", subscriptions=["*"])
        await make_endpoint(connection, f"{receiver.url}/other", tenant="other", subscriptions=["dispatcher.*"])
        await make_endpoint(
            connection, f"{receiver.url}/disabled", subscriptions=["dispatcher.delivery.dead"], state="disabled"
        )
        await insert_event(connection)

        await finished(connection)

        assert await heard(connection) == []


async def test_health_is_told(database: str, connection: Any) -> None:
    """Failing and disabled for one endpoint, failing and recovered for the other, with what people need to act."""
    schedule = ",".join(["100ms"] * 8)
    async with Receiver() as receiver, working(database, retry__schedule=schedule):
        receiver.on("/bad", answer(500))
        receiver.on("/mended", answer(500), answer(500), answer(500), answer(500), answer(204))
        endpoints = {}
        for path, disable_after in {"bad": 0.5, "mended": 3600.0}.items():
            endpoints[path] = str(
                await make_endpoint(
                    connection,
                    f"{receiver.url}/{path}",
                    subscriptions=["x"],
                    warn_after=0.15,
                    disable_after=disable_after,
                )
            )
        await make_endpoint(connection, f"{receiver.url}/ops", subscriptions=["dispatcher.endpoint.*"])
        await insert_event(connection, "x")

        async def all_of_it() -> list[tuple[str, dict[str, Any]]]:
            told = await heard(connection)
            return told if len(told) >= 4 else []

        told = await until(all_of_it)
        by_path = {
            path: [(kind, data) for kind, data in told if data["webhookId"] == webhook]
            for path, webhook in endpoints.items()
        }
        assert [kind for kind, _ in by_path["bad"]] == ["dispatcher.endpoint.failing", "dispatcher.endpoint.disabled"]
        assert [kind for kind, _ in by_path["mended"]] == [
            "dispatcher.endpoint.failing",
            "dispatcher.endpoint.recovered",
        ]
        failing, disabled = (data for _, data in by_path["bad"])
        assert set(failing) == {"webhookId", "failingSince", "disableDate", "lastStatus", "lastError"}
        assert datetime.fromisoformat(failing["disableDate"]) > datetime.fromisoformat(failing["failingSince"])
        assert disabled == {
            "webhookId": endpoints["bad"],
            "reason": "it kept failing",
            "lastStatus": 500,
            "lastError": None,
        }


async def test_what_dies_with_its_endpoint_is_told_of_once(database: str, connection: Any) -> None:
    """410 disables: one event says so, none follows for the deliveries that die with the endpoint."""
    async with Receiver() as receiver, working(database):
        receiver.on("/gone", answer(410))
        await make_endpoint(connection, f"{receiver.url}/gone", subscriptions=["x"])
        await make_endpoint(connection, f"{receiver.url}/ops", subscriptions=["dispatcher.*"])
        await connection.execute(
            "insert into dispatcher.outbox (tenant, event_type, payload, deliver_at) "
            "select 'acme', 'x', '{}', now() + interval '1 hour' from generate_series(1, 20)"
        )
        await insert_event(connection, "x")

        await finished(connection, 22)

        assert [kind for kind, _ in await heard(connection)] == ["dispatcher.endpoint.disabled"]


async def test_a_person_who_disables_a_webhook_is_told_of(connection: Any, admin: Admin) -> None:
    """In the same transaction; not when it was disabled already, nor for a pause."""
    webhook = EndpointId(await make_endpoint(connection, "https://example.com/", subscriptions=["x"]))
    await make_endpoint(connection, "https://example.com/ops", subscriptions=["dispatcher.*"])

    await admin.pause_webhook(webhook)
    await admin.disable_webhook(webhook)
    await admin.disable_webhook(webhook)

    assert await heard(connection) == [
        (
            "dispatcher.endpoint.disabled",
            {"webhookId": str(webhook), "reason": "Disabled by a person.", "lastStatus": None, "lastError": None},
        )
    ]


async def test_expired_deliveries_are_told_of(database: str, connection: Any) -> None:
    """A death without an attempt counts like any other."""
    await make_endpoint(connection, "https://example.com/", subscriptions=["x"])
    await make_endpoint(connection, "https://example.com/ops", subscriptions=["dispatcher.*"], state="paused")
    await insert_event(connection, "x", expires_at=datetime.now(UTC) - timedelta(seconds=1))

    async with working(database):
        await finished(connection)
        ((kind, data),) = await until(lambda: heard(connection))

    assert (kind, data["reason"], data["attemptCount"]) == ("dispatcher.delivery.dead", "expired", 0)


async def test_operational_events_never_cause_another(database: str, connection: Any) -> None:
    """A subscriber of them that fails, is warned about, disabled and loses deliveries makes none: no loop."""
    schedule = ",".join(["60ms"] * 6)
    async with Receiver() as receiver, working(database, retry__schedule=schedule):
        receiver.on("/ops", answer(500))
        await make_endpoint(
            connection, f"{receiver.url}/ops", subscriptions=["dispatcher.*"], warn_after=0.1, disable_after=0.25
        )
        await make_endpoint(connection, f"{receiver.url}/other", subscriptions=["dispatcher.endpoint.disabled"])
        told = await insert_event(connection, "dispatcher.delivery.dead", "{}")

        await until(
            lambda: connection.fetchval(
                "select count(*) = 1 from dispatcher.endpoints where state = 'disabled' and url like '%/ops'"
            )
        )
        await finished(connection)

        ids = await connection.fetch("select id from dispatcher.outbox")
        assert [row["id"] for row in ids] == [told]


async def test_a_burst_of_deaths_is_told_in_full(database: str, connection: Any) -> None:
    """Two hundred deaths make two hundred events, each delivered once."""
    async with Receiver() as receiver, working(database, retry__schedule="[]"):
        receiver.on("/bad", answer(404))
        await make_endpoint(connection, f"{receiver.url}/bad", subscriptions=["appointment.*"])
        await make_endpoint(connection, f"{receiver.url}/ops", subscriptions=["dispatcher.delivery.dead"])
        await insert_events(connection, 200)

        requests = await receiver.wait_for(200, timeout=20, path="/ops")

        dead = await connection.fetch("select id from dispatcher.finished_deliveries where state = 'dead'")
        told = [json.loads(request.body)["data"]["deliveryId"] for request in requests]
        assert sorted(told) == sorted(row["id"] for row in dead)


@pytest.mark.parametrize(
    "event_type, patterns",
    [
        ("x", {"x", "*"}),
        ("a.b.c", {"a.b.c", "a.b.*", "a.*", "*"}),
        ("dispatcher.delivery.dead", {"dispatcher.delivery.dead", "dispatcher.delivery.*", "dispatcher.*"}),
        ("dispatchers.x", {"dispatchers.x", "dispatchers.*", "*"}),
        ("dispatcher", {"dispatcher", "*"}),
    ],
)
async def test_a_star_does_not_match_operational_types(transaction: Any, event_type: str, patterns: set[str]) -> None:
    """Who takes all business events gets none of ours, unless asked for by name."""
    await make_tenant(transaction)

    found = await transaction.fetchval("select dispatcher.patterns_of($1)", event_type)

    assert set(found) == patterns
