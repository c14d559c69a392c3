"""Who gets an event: filters and the tenant tree, through the whole service; what did not go out is explained."""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from dispatcher.admin import Finding, NewEvent, WebhookChanges, WebhookDraft
from dispatcher.errors import InvalidInput, NotFound
from dispatcher.metrics import Metrics
from dispatcher.model import EndpointId, EventId, Shard
from dispatcher.store import outbox
from support.admin import fan_out, open_admin
from support.receiver import Receiver
from support.world import finished, insert_event, make_endpoint, make_tenant, until, working

SHARDS = [Shard(number) for number in range(256)]

LARGE = "payload.amount > 1000"


async def filtered_rows(connection: Any) -> dict[tuple[UUID, UUID], str | None]:
    """What is recorded: event and endpoint → fault."""
    rows = await connection.fetch("select event_id, endpoint_id, fault from dispatcher.filtered_events")
    return {(row["event_id"], row["endpoint_id"]): row["fault"] for row in rows}


async def test_a_filter_decides_event_by_event(database: str, connection: Any) -> None:
    """What meets the condition arrives, the rest is recorded; an endpoint without a filter gets all of it."""
    async with Receiver() as receiver:
        picky = await make_endpoint(connection, f"{receiver.url}/picky", filter=LARGE)
        await make_endpoint(connection, f"{receiver.url}/all")
        events = [await insert_event(connection, payload=json.dumps({"amount": n * 500})) for n in range(6)]
        metrics = Metrics()
        async with working(database, metrics=metrics):
            await finished(connection, 9)

        amounts = sorted(json.loads(one.body)["data"]["amount"] for one in receiver.received if one.path == "/picky")
        assert amounts == [1500, 2000, 2500]
        assert len([one for one in receiver.received if one.path == "/all"]) == 6
        assert await filtered_rows(connection) == {(event, picky): None for event in events[:3]}
        assert b'dispatcher_events_filtered_total{result="held"} 3.0' in metrics.render()


async def test_what_only_filters_refused_is_unmatched(database: str, connection: Any) -> None:
    """An event that every filter refuses is recorded as one that nobody wanted."""
    await make_endpoint(connection, "http://127.0.0.1:9/", filter="false")
    event = await insert_event(connection)

    async with working(database):
        await until(lambda: connection.fetchval("select 1 from dispatcher.unmatched_events where event_id = $1", event))

    assert await connection.fetchval("select count(*) from dispatcher.deliveries") == 0


@pytest.mark.parametrize("ordering_key", [None, "visit-1"])
async def test_a_filter_that_fails_holds_nothing_back(database: str, connection: Any, ordering_key: str | None) -> None:
    """The event is delivered, and why the filter came to nothing is kept; others go on."""
    async with Receiver() as receiver:
        endpoint = await make_endpoint(connection, f"{receiver.url}/", filter=LARGE)
        lacking = await insert_event(connection, payload='{"total": 1}', ordering_key=ordering_key)
        held = await insert_event(connection, payload='{"amount": 1}', ordering_key=ordering_key)
        await insert_event(connection, payload='{"amount": 2000}', ordering_key=ordering_key)
        async with working(database):
            await finished(connection, 2)

        rows = await filtered_rows(connection)
        assert rows[lacking, endpoint] == f'`{LARGE}` failed: Key not found in map : "amount".'
        assert rows[held, endpoint] is None
        assert len(rows) == 2


async def test_a_broken_filter_in_the_table_breaks_nothing(database: str, connection: Any) -> None:
    """Written by hand, never accepted at the door: its endpoint gets all, others are not touched."""
    async with Receiver() as receiver:
        await make_endpoint(connection, f"{receiver.url}/broken", filter="payload.amount >")
        await make_endpoint(connection, f"{receiver.url}/other", filter="true")
        await insert_event(connection)
        async with working(database):
            await finished(connection, 2)

        assert sorted(one.path for one in receiver.received) == ["/broken", "/other"]


async def test_filters_are_undone_and_applied_when_met(connection: Any) -> None:
    """The fast statement says that it met a filter, whether it made a delivery or not; and again for another filter."""
    endpoint = await make_endpoint(connection, "http://127.0.0.1:9/", filter="true")
    await insert_event(connection, ordering_key="a")
    await insert_event(connection, ordering_key="a")
    unread = await outbox.read(connection, dict.fromkeys(SHARDS, 0), per_shard=10, limit=10)

    for judged in (None, outbox.Judged({}, []), outbox.Judged({EndpointId(endpoint): "false"}, [])):
        with pytest.raises(outbox.UnjudgedFilters):
            async with connection.transaction():
                await outbox.fan_out(connection, unread, now=None, judged=judged)
    async with connection.transaction():
        made = await outbox.fan_out(
            connection, unread, now=None, judged=outbox.Judged({EndpointId(endpoint): "true"}, [])
        )

    assert len(made) == 1  # the second waits for its turn
    assert await connection.fetchval("select count(*) from dispatcher.deliveries") == 2


async def test_a_filter_that_changes_while_events_flow_is_obeyed_exactly(database: str, connection: Any) -> None:
    """Whenever it changes: an event inserted after the change is judged by the new filter."""
    async with Receiver() as receiver, working(database):
        endpoint = await make_endpoint(connection, f"{receiver.url}/")
        for number in range(20):
            wanted = number % 2
            condition = f"payload.n == {number}" if wanted else "false"
            await connection.execute("update dispatcher.endpoints set filter = $2 where id = $1", endpoint, condition)
            await insert_event(connection, payload=json.dumps({"n": number}))
            await asyncio.sleep(0)
        await until(lambda: connection.fetchval("select count(*) = 0 from dispatcher.outbox_unread"))
        await finished(connection, 1)
        await until(lambda: connection.fetchval("select count(*) = 0 from dispatcher.deliveries"))

        arrived = {json.loads(one.body)["data"]["n"] for one in receiver.received}
        # the last change is what all read after it were judged by; an earlier event may have been read late
        assert arrived <= {number for number in range(20) if number % 2}


async def test_explain_tells_of_filters(database: str, connection: Any) -> None:
    """Held back and failed alike are explained, with the webhook's own words."""
    async with open_admin(database) as admin:
        await admin.create_tenant("acme")
        draft = WebhookDraft(url="https://example.com/hook", subscriptions=["*"], filter=LARGE)
        webhook = (await admin.create_webhook("acme", draft)).id
        small = await admin.send_event(NewEvent(tenant="acme", event_type="a", payload='{"amount": 1}'))
        lacking = await admin.send_event(NewEvent(tenant="acme", event_type="a", payload="{}"))
        assert small is not None
        assert lacking is not None
        unread = await outbox.read(connection, dict.fromkeys(SHARDS, 0), per_shard=10, limit=10)
        filtered = [outbox.Filtered(webhook, small, None), outbox.Filtered(webhook, lacking, "no `amount`.")]
        async with connection.transaction():
            await outbox.fan_out(connection, unread, now=None, judged=outbox.Judged({webhook: LARGE}, filtered))

        of_small, of_lacking = await admin.explain(small), await admin.explain(lacking)

    assert of_small.summary == "It was read, and no webhook wanted it: their filters said no."
    assert [one.finding for one in of_small.endpoints] == [Finding.FILTERED]
    assert f"It is now: `{LARGE}`." in of_small.endpoints[0].why
    assert [one.finding for one in of_lacking.endpoints] == [Finding.WAITING]
    assert of_lacking.endpoints[0].why.endswith(
        "Its filter came to nothing, so that it gets the event all the same: no `amount`."
    )


async def test_a_bad_filter_is_refused_at_the_door(database: str) -> None:
    """On creation and on change, naming the place; an empty one takes the filter away."""
    async with open_admin(database) as admin:
        await admin.create_tenant("acme")
        with pytest.raises(InvalidInput, match="at column 17") as refusal:
            await admin.create_webhook(
                "acme", WebhookDraft(url="https://example.com/", subscriptions=["*"], filter="payload.amount >")
            )
        created = await admin.create_webhook(
            "acme", WebhookDraft(url="https://example.com/", subscriptions=["*"], filter=LARGE)
        )
        with pytest.raises(InvalidInput, match="no condition"):
            await admin.update_webhook(created.id, WebhookChanges(filter="1"))
        changed = await admin.update_webhook(created.id, WebhookChanges(filter=None))

    assert refusal.value.field == "filter"
    assert (created.filter, changed.filter) == (LARGE, None)


# --- the tenant tree --------------------------------------------------------------------------------------------------


async def family(connection: Any) -> None:
    """A group with two clinics, one of which has a department; and a stranger."""
    await make_tenant(connection, "group")
    await make_tenant(connection, "north", parent="group")
    await make_tenant(connection, "south", parent="group")
    await make_tenant(connection, "ward", parent="north")
    await make_tenant(connection, "stranger")


async def test_who_asks_for_it_gets_the_events_of_tenants_below(database: str, connection: Any) -> None:
    """From any depth; its own too, once; and nobody gets those of tenants above or beside."""
    await family(connection)
    async with Receiver() as receiver, AsyncExitStack() as stack:
        for tenant, asks in [("group", True), ("north", True), ("south", False), ("ward", True)]:
            endpoint = await make_endpoint(connection, f"{receiver.url}/{tenant}", tenant=tenant)
            await connection.execute(
                "update dispatcher.endpoints set include_descendants = $2 where id = $1", endpoint, asks
            )
            await connection.execute(
                "update dispatcher.subscriptions set include_descendants = $2 where endpoint_id = $1", endpoint, asks
            )
        await make_endpoint(connection, f"{receiver.url}/shy", tenant="group")
        tenants = ("group", "north", "south", "ward", "stranger")
        for tenant in tenants:
            await insert_event(connection, tenant=tenant, payload=json.dumps({"of": tenant}))
        await stack.enter_async_context(working(database))
        await finished(connection, 4 + 2 + 1 + 1 + 1)

        got = {
            path: sorted(json.loads(one.body)["data"]["of"] for one in receiver.received if one.path == path)
            for path in ("/group", "/north", "/south", "/ward", "/shy")
        }
    assert got == {
        "/group": ["group", "north", "south", "ward"],
        "/north": ["north", "ward"],
        "/south": ["south"],
        "/ward": ["ward"],
        "/shy": ["group"],
    }


async def test_patterns_and_filters_hold_for_tenants_below(database: str, connection: Any) -> None:
    """A pattern that matches twice makes one delivery; the filter sees whose event it is."""
    await family(connection)
    async with Receiver() as receiver, open_admin(database) as admin:
        endpoint = await make_endpoint(
            connection, f"{receiver.url}/", tenant="group", subscriptions=("visit.*", "visit.ended")
        )
        await admin.update_webhook(
            EndpointId(endpoint), WebhookChanges(include_descendants=True, filter="event.tenant != 'south'")
        )
        for tenant in ("north", "south"):
            await insert_event(connection, "visit.ended", tenant=tenant)
            await insert_event(connection, "user.created", tenant=tenant)
        async with working(database):
            await finished(connection, 1)
            await until(lambda: connection.fetchval("select count(*) = 0 from dispatcher.outbox_unread"))

        assert len(receiver.received) == 1
        assert len(await filtered_rows(connection)) == 1


async def test_asking_for_it_can_be_taken_back(database: str, connection: Any) -> None:
    """The flag follows the webhook, also into subscriptions that come later."""
    await family(connection)
    async with open_admin(database) as admin:
        draft = WebhookDraft(url="https://example.com/", subscriptions=["a"], include_descendants=True)
        webhook = await admin.create_webhook("group", draft)
        await admin.update_webhook(webhook.id, WebhookChanges(subscriptions=["a", "b"]))
        both = await connection.fetch("select pattern, include_descendants from dispatcher.subscriptions order by 1")
        after = await admin.update_webhook(webhook.id, WebhookChanges(include_descendants=False))
        none = await connection.fetch("select pattern, include_descendants from dispatcher.subscriptions order by 1")

    assert (webhook.include_descendants, after.include_descendants) == (True, False)
    assert [tuple(row) for row in both] == [("a", True), ("b", True)]
    assert [tuple(row) for row in none] == [("a", False), ("b", False)]


async def test_each_sees_its_own_side_of_an_event(database: str, connection: Any) -> None:
    """The tenant above is told of its webhook, the one below of its own; a stranger sees nothing; an operator all."""
    await family(connection)
    async with open_admin(database) as admin:
        wants_all = WebhookDraft(url="https://example.com/", subscriptions=["*"])
        above = await admin.create_webhook("group", replace(wants_all, include_descendants=True))
        await admin.create_webhook("group", wants_all)
        own = await admin.create_webhook("ward", wants_all)
        event = await admin.send_event(NewEvent(tenant="ward", event_type="a", payload="{}"))
        assert event is not None
        await fan_out(connection)

        seen = {tenant: await findings(admin, event, tenant) for tenant in ("group", "ward", None)}
        with pytest.raises(NotFound):
            await admin.explain(event, tenant="stranger")
        with pytest.raises(NotFound):
            await admin.explain(event, tenant="south")

    assert seen == {"group": {above.id}, "ward": {own.id}, None: {above.id, own.id}}


async def findings(admin: Any, event: EventId, tenant: str | None) -> set[UUID]:
    """The webhooks that an explanation speaks of."""
    return {one.endpoint_id for one in (await admin.explain(event, tenant=tenant)).endpoints}


async def test_old_tenants_know_their_ancestors(connection: Any) -> None:
    """The chain upwards is stamped on every tenant, nearest first."""
    await family(connection)

    rows = await connection.fetch("select name, ancestors from dispatcher.tenants")

    assert {row["name"]: row["ancestors"] for row in rows} == {
        "group": [],
        "north": ["group"],
        "south": ["group"],
        "ward": ["north", "group"],
        "stranger": [],
    }
