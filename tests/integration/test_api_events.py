"""Events over HTTP: committed when the answer comes, byte for byte, all or none."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from dispatcher.catalog.documents import read
from dispatcher.doorkeeper import Mode
from support.admin import attempt, fan_out, pending_of
from support.api import HOOK, Answer, Client, serving_api

EXAMPLES = Path(__file__).parents[2] / "examples"

AS_JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def api(database: str) -> AsyncIterator[Client]:
    """A client of one tenant."""
    async with serving_api(database) as client:
        yield client


async def raw(api: Client, path: str, text: str) -> Answer:
    """Post a text as it is."""
    return await api("POST", path, data=text.encode(), headers=AS_JSON)


async def test_an_event_is_committed_when_the_answer_comes(api: Client, connection: Any) -> None:
    """Another connection sees it."""
    sent = await api("POST", "/v1/events", {"type": "A.b", "payload": {"x": 1}})

    row = await connection.fetchrow("select * from dispatcher.outbox")
    assert sent.status == 201
    assert sent.body == {"id": str(row["id"]), "isDuplicate": False}
    assert (row["tenant"], row["event_type"]) == ("acme", "A.b")


PAYLOADS = [
    '{"z": 1.10, "a": 1e3, "a": 2, "big": 123456789012345678901234567890}',
    "{ }",
    "null",
    '"text with \\u00e9 and \\"quotes\\" and ,}]"',
    "[1,\n\t2]",
    "-0.0",
]


async def test_a_payload_goes_out_as_it_was_written(api: Client, connection: Any) -> None:
    """One or many: blanks, numbers, double names and all."""
    for payload in PAYLOADS:
        one = await raw(api, "/v1/events", f'{{ "payload" : {payload} , "type":"one"}}')
        batch = f'{{"events":[ {{"type":"many","payload":{payload}}} ,{{"payload":1,"type":"n"}}]}}'
        many = await raw(api, "/v1/events/batch", batch)
        assert (one.status, many.status) == (201, 201)

    for kind in ("one", "many"):
        rows = await connection.fetch(
            "select payload::text from dispatcher.outbox where event_type = $1 order by inserted_at", kind
        )
        assert [row["payload"] for row in rows] == PAYLOADS


async def test_an_event_comes_back_with_all_that_was_said(api: Client) -> None:
    """Own id, times, keys; times in UTC."""
    event = {
        "type": "A.b",
        "payload": {"x": [1, None]},
        "id": str(uuid4()),
        "occurredDate": "2026-01-31T10:00:00+01:00",
        "deliverDate": "2030-01-01T00:00:00Z",
        "expiresDate": "2030-01-02T00:00:00Z",
        "idempotencyKey": "one",
        "orderingKey": "patient 7",
    }
    await api.ok("POST", "/v1/events", event)

    got = await api.ok("GET", f"/v1/events/{event['id']}")

    changed = {"occurredDate": "2026-01-31T09:00:00Z", "tenant": "acme", "refusedDate": None, "refusedReason": None}
    assert {name: value for name, value in got.items() if name != "insertedDate"} == event | changed


async def test_an_event_with_a_used_idempotency_key_is_skipped(api: Client) -> None:
    """In the body it is the outbox's own: 200, no id; in a batch the others are sent, and 200 says that there are none."""
    first = await api("POST", "/v1/events", {"type": "A.b", "payload": 1, "idempotencyKey": "k"})
    second = await api("POST", "/v1/events", {"type": "A.b", "payload": 1, "idempotencyKey": "k"})
    many = {"events": [{"type": "A.b", "payload": n, "idempotencyKey": key} for n, key in enumerate("klkl")]}
    batch, again = [await api("POST", "/v1/events/batch", many) for _ in range(2)]

    assert (first.status, second.status, batch.status, again.status) == (201, 200, 201, 200)
    assert second.body == {"id": None, "isDuplicate": True}
    assert [one["isDuplicate"] for one in batch.body["events"]] == [True, False, True, True]
    assert again.body["events"] == [{"id": None, "isDuplicate": True}] * 4


async def test_under_an_idempotency_key_of_http_the_same_answer_comes_again(api: Client, connection: Any) -> None:
    """A producer that repeats a call that timed out sends nothing twice, and learns the id."""
    headers = {"Idempotency-Key": "k"}
    event = {"type": "A.b", "payload": 1}

    together = await asyncio.gather(*(api("POST", "/v1/events", event, headers=headers) for _ in range(3)))

    assert len({answer.body["id"] for answer in together}) == 1
    assert {answer.status for answer in together} == {201}
    assert await connection.fetchval("select count(*) from dispatcher.outbox") == 1


async def test_a_batch_is_sent_whole_in_its_order(api: Client, connection: Any) -> None:
    """The ids are those of the events that were given."""
    own = str(uuid4())
    events: list[dict[str, Any]] = [{"type": f"A.{n}", "payload": n} for n in range(1000)]
    events[500]["id"] = own

    sent = await api("POST", "/v1/events/batch", {"events": events})

    rows = await connection.fetch("select id, event_type from dispatcher.outbox")
    types = {str(row["id"]): row["event_type"] for row in rows}
    assert sent.status == 201
    assert [types[one["id"]] for one in sent.body["events"]] == [event["type"] for event in events]
    assert sent.body["events"][500]["id"] == own


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no type": ({"type": None}, "/type"),
    "empty type": ({"type": ""}, "/type"),
    "long type": ({"type": "x" * 256}, "/type"),
    "control character": ({"type": "a\x01"}, "/type"),
    "NUL": ({"orderingKey": "a\x00"}, "/orderingKey"),
    "NUL in the payload": ({"type": "a\x00"}, "/type"),
    "no UUID": ({"id": "x"}, "/id"),
    "no time": ({"deliverDate": "soon"}, "/deliverDate"),
    "time out of range": ({"deliverDate": "0001-01-01T00:00:00+14:00"}, "/deliverDate"),
    "expires too early": (
        {"deliverDate": "2030-01-02T00:00:00Z", "expiresDate": "2030-01-01T00:00:00Z"},
        "/expiresDate",
    ),
    "unknown": ({"eventType": "x"}, "/eventType"),
}


async def test_a_wrong_event_is_refused_and_nothing_sent(api: Client, connection: Any) -> None:
    """Alone, or in a batch, whose other events are not sent either."""
    good = {"type": "A.b", "payload": 1}
    for name, (given, pointer) in WRONG.items():
        alone = await api("POST", "/v1/events", good | given)
        batch = await api("POST", "/v1/events/batch", {"events": [good, good | given, good]})

        assert (name, alone.status, batch.status) == (name, 422, 422)
        assert alone.problem["errors"][0]["pointer"] == pointer
        assert batch.problem["errors"][0]["pointer"] == f"/events/1{pointer}"
    assert await connection.fetchval("select count(*) from dispatcher.outbox") == 0


async def test_a_missing_payload_is_refused_and_null_is_not(api: Client) -> None:
    """Null is a payload like any other."""
    missing = await api("POST", "/v1/events", {"type": "A.b"})
    null = await api("POST", "/v1/events", {"type": "A.b", "payload": None})

    assert (missing.status, null.status) == (422, 201)
    assert missing.problem["errors"] == [{"detail": "`payload` is required, and is not there.", "pointer": "/payload"}]


async def test_two_events_of_a_batch_cannot_share_an_id(api: Client) -> None:
    """The second is named."""
    event = {"type": "A.b", "payload": 1, "id": str(uuid4())}

    answer = await api("POST", "/v1/events/batch", {"events": [event, event]})

    assert answer.status == 422
    assert answer.problem["errors"][0]["pointer"] == "/events/1/id"


async def test_an_event_is_explained_webhook_by_webhook(database: str, api: Client) -> None:
    """Who got it, who did not, and why."""
    connection = await asyncpg.connect(database)
    wanted, unwanted = await api.webhook("A.*"), await api.webhook("B.*")
    event_id = await api.event("A.b", {"n": 1.0})
    before = await api.ok("GET", f"/v1/events/{event_id}/explain")
    await fan_out(connection)
    await attempt(connection, await pending_of(connection, UUID(event_id)), status=200)

    after = await api.ok("GET", f"/v1/events/{event_id}/explain")
    await connection.close()

    assert before["endpoints"][0]["finding"] == "not_read_yet"
    findings = {one["webhookId"]: one["finding"] for one in after["endpoints"]}
    assert findings == {wanted["id"]: "delivered", unwanted["id"]: "not_subscribed"}
    assert after["event"]["payload"] == {"n": 1.0}


async def test_without_a_catalogue_there_are_no_event_types(api: Client) -> None:
    """The list is there, and empty."""
    assert await api.ok("GET", "/v1/event-types") == {"eventTypes": []}


async def test_the_catalogues_event_types_are_listed(api: Client) -> None:
    """With what they are for, and what is deprecated."""
    catalog = await api.admin.import_catalog(read([EXAMPLES / "decoda" / "asyncapi.yaml"]))

    listed = (await api.ok("GET", "/v1/event-types"))["eventTypes"]

    assert [one["name"] for one in listed] == [one.name for one in catalog.event_types]
    assert set(listed[0]) == {"aliases", "deprecated", "description", "name", "summary", "tags"}


async def test_an_unknown_subscription_names_near_misses(api: Client) -> None:
    """Where a catalogue is loaded, and to be held against."""
    await api.admin.import_catalog(read([EXAMPLES / "decoda" / "asyncapi.yaml"]))
    api.admin._doorkeeper.mode = Mode.ENFORCE

    answer = await api("POST", "/v1/webhook/create", {"url": HOOK, "subscriptions": ["PATIENT_CREATD"]})

    assert answer.status == 422
    assert answer.problem["errors"][0]["pointer"] == "/subscriptions"
    assert "`PATIENT_CREATED`" in answer.problem["detail"]


async def test_a_far_future_time_is_taken(api: Client) -> None:
    """Up to the last day that can be written."""
    event_id = await api.event(expiresDate="9999-12-31T23:59:59Z", occurredDate="0001-01-02T00:00:00Z")

    got = await api.ok("GET", f"/v1/events/{event_id}")

    assert datetime.fromisoformat(got["expiresDate"]) == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
