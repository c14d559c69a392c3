"""Delivery attempts over HTTP: the log with the published filters, paging, one entry whole, sending by hand."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import asyncpg
import pytest

from support.admin import attempt, fan_out, pending_of
from support.api import Client, serving_api

PUBLISHED = {
    "id",
    "type",
    "data",
    "createdDate",
    "alertId",
    "deliveredDate",
    "lastDeliveryAttemptDate",
    "lastDeliveryAttemptStatus",
    "lastDeliveryAttemptError",
}


@dataclass(frozen=True, slots=True)
class World:
    """A webhook with its log."""

    api: Client
    connection: Any
    webhook: str

    async def event(self, event_type: str = "A.b", payload: Any = None, **fields: Any) -> str:
        """Send an event and let it be fanned out."""
        event_id = await self.api.event(event_type, payload, **fields)
        await fan_out(self.connection)
        return event_id

    async def delivery(self, event_type: str = "A.b", *statuses: int, **fields: Any) -> str:
        """Make a delivery whose attempts were answered so; the last failure is the end."""
        event_id = await self.event(event_type, **fields)
        delivery_id = await pending_of(self.connection, UUID(event_id))
        for place, status in enumerate(statuses, start=1):
            await attempt(self.connection, delivery_id, status=status, next_in=None if place == len(statuses) else 60)
        return str(delivery_id)

    async def log(self, query: str = "") -> Any:
        """A page of the log."""
        return await self.api.ok("GET", f"/v1/webhook/{self.webhook}/delivery-attempts/list{query}")

    async def ids(self, query: str = "") -> list[str]:
        """The ids of a page."""
        return [entry["id"] for entry in (await self.log(query))["deliveryAttempts"]]


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    """A webhook that gets all."""
    connection = await asyncpg.connect(database)
    async with serving_api(database) as api:
        yield World(api, connection, (await api.webhook())["id"])
    await connection.close()


async def test_an_entry_has_the_published_names_and_nulls(world: World) -> None:
    """One that waits for its first attempt: what did not happen is null."""
    event_id = await world.event("PATIENT_CREATED", {"resource_id": "67890"})

    (entry,) = (await world.log())["deliveryAttempts"]

    assert set(entry) > PUBLISHED
    assert (entry["type"], entry["data"], entry["alertId"]) == ("PATIENT_CREATED", {"resource_id": "67890"}, event_id)
    assert (entry["state"], entry["isDelivered"], entry["attemptCount"]) == ("pending", False, 0)
    assert [entry[name] for name in PUBLISHED if name.startswith(("last", "delivered"))] == [None] * 4


async def test_an_entry_tells_of_its_last_attempt(world: World) -> None:
    """Whether it is pending, delivered or dead."""
    for statuses in [(500, 503), (500, 200), (404,)]:
        await world.delivery("A.b", *statuses)
    await world.event()
    waiting = await pending_of(world.connection, (await world.log())["deliveryAttempts"][0]["eventId"])
    await attempt(world.connection, waiting, status=502, next_in=60)

    entries = (await world.log("?sort_direction=asc"))["deliveryAttempts"]

    assert [(one["state"], one["lastDeliveryAttemptStatus"], one["attemptCount"]) for one in entries] == [
        ("dead", 503, 2),
        ("delivered", 200, 2),
        ("dead", 404, 1),
        ("pending", 502, 1),
    ]
    assert [one["deliveredDate"] is not None for one in entries] == [False, True, False, False]
    assert all(one["lastDeliveryAttemptDate"] is not None for one in entries)


async def test_the_payload_is_shown_as_it_was_inserted(world: World) -> None:
    """Numbers keep their spelling, names their order."""
    payload = '{"z": 1.10, "a": 1e3, "big": 12345678901234567890123}'
    await world.connection.execute(
        "insert into dispatcher.outbox (tenant, event_type, payload) values ('acme', 'A.b', $1)", payload
    )
    await fan_out(world.connection)
    headers = {"TENANT": "acme", "API-KEY": world.api.key}
    path = f"{world.api.url}/v1/webhook/{world.webhook}/delivery-attempts/list"

    async with world.api.session.get(path, headers=headers) as answer:
        text = await answer.text()

    assert payload in text


@dataclass(frozen=True, slots=True)
class Log:
    """Six entries, the oldest first: delivered, dead, delivered, cancelled, pending and failed, pending."""

    world: World
    ids: Sequence[str]
    created: Sequence[str]


@pytest.fixture
async def log(world: World) -> Log:
    """A log with something of everything, a second apart."""
    ids = [
        await world.delivery("A.b", 200),
        await world.delivery("A.c", 500, 503),
        await world.delivery("A.b", 500, 204),
        await world.delivery("A.b"),
        await world.delivery("A.c"),
        await world.delivery("A.b"),
    ]
    await world.api.admin.cancel_delivery(int(ids[3]))  # type: ignore[arg-type]  # NewType
    await attempt(world.connection, int(ids[4]), status=503, next_in=60)
    start = datetime(2026, 1, 31, 9, tzinfo=UTC)
    for table in ("deliveries", "finished_deliveries"):
        for place, delivery_id in enumerate(ids):
            await world.connection.execute(
                f"update dispatcher.{table} set created_at = $1 where id = $2",
                start + timedelta(seconds=place),
                int(delivery_id),
            )
    await world.connection.execute(
        "update dispatcher.finished_deliveries set error = 'timeout: no answer within 15 s' where id = $1", int(ids[3])
    )
    await world.connection.execute("update dispatcher.attempts set started_at = $1", start + timedelta(hours=1))
    return Log(world, ids, [(start + timedelta(seconds=place)).isoformat() for place in range(len(ids))])


FILTERS: dict[str, tuple[str, list[int]]] = {
    "none": ("", [5, 4, 3, 2, 1, 0]),
    "ascending": ("sort_direction=asc", [0, 1, 2, 3, 4, 5]),
    "type": ("event_type=A.c", [4, 1]),
    "type, ascending": ("event_type=A.c&sort_direction=asc", [1, 4]),
    "no such type": ("event_type=A", []),
    "delivered": ("is_delivered=true", [2, 0]),
    "not delivered": ("is_delivered=false", [5, 4, 3, 1]),
    "not delivered, ascending": ("is_delivered=false&sort_direction=asc", [1, 3, 4, 5]),
    "created after": ("created_after={2}", [5, 4, 3, 2]),
    "created before": ("created_before={2}", [1, 0]),
    "created between": ("created_after={1}&created_before={4}&sort_direction=asc", [1, 2, 3]),
    "created between, not delivered": ("created_after={2}&created_before={5}&is_delivered=false", [4, 3]),
    "status": ("last_delivery_attempt_status=503", [4, 1]),
    "status of what was delivered": ("last_delivery_attempt_status=204", [2]),
    "status of a failure that was delivered": ("last_delivery_attempt_status=503&is_delivered=true", []),
    "status 200": ("last_delivery_attempt_status=200", [0]),
    "error": ("last_delivery_attempt_error=TimeOut", [3]),
    "by delivery": ("sort_by=delivery_date", [2, 0]),
    "by delivery, ascending": ("sort_by=delivery_date&sort_direction=asc", [0, 2]),
    "by delivery, not delivered": ("sort_by=delivery_date&is_delivered=false", []),
    "delivered after": ("delivery_date_after=2026-01-01T00:00:00Z", [2, 0]),
    "delivered before": ("delivery_date_before=2026-01-01T00:00:00Z", []),
    "delivered long ago, by delivery": ("delivery_date_before=2026-01-01&sort_by=delivery_date", []),
    "delivered after, of a type": ("delivery_date_after=2026-01-01&event_type=A.c", []),
    "limit": ("limit=2", [5, 4]),
    "offset": ("limit=2&offset=3", [2, 1]),
    "offset with a filter": ("limit=1&offset=1&event_type=A.b", [3]),
    "beyond the end": ("offset=6", []),
    "all together": (
        "event_type=A.c&is_delivered=false&last_delivery_attempt_status=503&created_after={0}&created_before={3}",
        [1],
    ),
}


async def test_filters_and_order_choose(log: Log) -> None:
    """Each filter alone, and with others, in both orders."""
    found = {}
    for name, (query, _) in FILTERS.items():
        ids = await log.world.ids("?" + query.format(*map(quote, log.created)))
        found[name] = [log.ids.index(one) for one in ids]

    assert found == {name: expected for name, (_, expected) in FILTERS.items()}


ORDERS = (
    "",
    "&sort_direction=asc",
    "&is_delivered=false",
    "&is_delivered=false&sort_direction=asc",
    "&event_type=A.b",
    "&sort_by=delivery_date",
    "&sort_by=delivery_date&sort_direction=asc",
)


async def test_a_cursor_reads_on_to_the_end(log: Log) -> None:
    """Page by page comes what one page would hold, each once, in every order."""
    for query in ORDERS:
        whole = await log.world.ids(f"?limit=100{query}")

        pages = [page async for page in pages_of(log.world, f"?limit=1{query}")]

        assert [one for page in pages for one in page] == whole
        assert all(len(page) == 1 for page in pages)


async def pages_of(world: World, query: str) -> AsyncIterator[list[str]]:
    """Read a log page by page."""
    cursor = ""
    while True:
        page = await world.log(f"{query}{cursor}")
        yield [entry["id"] for entry in page["deliveryAttempts"]]
        if page["nextCursor"] is None:
            return
        cursor = f"&cursor={page['nextCursor']}"


async def test_a_rare_find_is_searched_bit_by_bit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short page with a cursor: what a filter leaves out is bounded for each call, and nothing is missed."""
    monkeypatch.setattr("dispatcher.admin.log.WINDOW", 2)
    monkeypatch.setattr("dispatcher.admin.log.MOST_EXAMINED", 4)
    rare = await world.delivery("rare", 200)
    for _ in range(9):
        await world.event("frequent")

    first = await world.log("?event_type=rare")
    second = await world.log(f"?event_type=rare&cursor={first['nextCursor']}")
    third = await world.log(f"?event_type=rare&cursor={second['nextCursor']}")

    assert [len(page["deliveryAttempts"]) for page in (first, second)] == [0, 0]
    assert [entry["id"] for entry in third["deliveryAttempts"]] == [rare]


WRONG = {
    "limit=0": "limit",
    "limit=251": "limit",
    "offset=-1": "offset",
    "offset=10001": "offset",
    "cursor=x": "cursor",
    "cursor=WzFd": "cursor",
    "sort_by=name": "sort_by",
    "created_after=yesterday": "created_after",
    "is_delivered=perhaps": "is_delivered",
    "last_delivery_attempt_status=abc": "last_delivery_attempt_status",
    "eventType=A.b": "eventType",
}


async def test_a_wrong_parameter_is_named(world: World) -> None:
    """422, and which one."""
    named = {}
    for query in WRONG:
        answer = await world.api("GET", f"/v1/webhook/{world.webhook}/delivery-attempts/list?{query}")
        named[query] = (answer.status, [wrong["parameter"] for wrong in answer.problem["errors"]])

    assert named == {query: (422, [parameter]) for query, parameter in WRONG.items()}


async def test_a_cursor_goes_on_in_its_own_order_only(log: Log) -> None:
    """Another order would skip or repeat."""
    page = await log.world.log("?limit=1")

    path = f"/v1/webhook/{log.world.webhook}/delivery-attempts/list"
    answer = await log.world.api("GET", f"{path}?sort_direction=asc&cursor={page['nextCursor']}")

    assert answer.status == 422


async def test_a_plus_in_a_query_may_come_unescaped(log: Log) -> None:
    """Many programs forget it in offsets like +00:00."""
    path = f"/v1/webhook/{log.world.webhook}/delivery-attempts/list?created_after={log.created[4]}"

    answer = await log.world.api("GET", path)

    assert [entry["id"] for entry in answer.body["deliveryAttempts"]] == [log.ids[5], log.ids[4]]


async def test_a_delivery_attempt_is_shown_whole(world: World) -> None:
    """The last request, or the one whose number is asked for, and all of them."""
    delivery = await world.delivery("A.b", 500, 200)

    last = await world.api.ok("GET", f"/v1/webhook/events/{delivery}")
    first = await world.api.ok("GET", f"/v1/webhook/events/{delivery}-1")
    none = await world.api("GET", f"/v1/webhook/events/{delivery}-3")

    assert (last["attempt"]["number"], last["attempt"]["status"]) == (2, 200)
    assert (first["attempt"]["id"], first["attempt"]["status"]) == (f"{delivery}-1", 500)
    assert first["attempts"] == last["attempts"] == [first["attempt"], last["attempt"]]
    assert last["attempt"]["responseHeaders"] == [["Server", "test"]]
    assert last["attempt"]["responseBody"] == "answer"
    assert none.status == 404


async def test_what_is_no_id_leads_to_nothing(world: World) -> None:
    """404, whatever it is."""
    ids = ("0", "-1", "01", "1.0", "9223372036854775808", "99999999999999999999", "1-0", "x")

    answers = [await world.api("GET", f"/v1/webhook/events/{one}") for one in ids]

    assert {answer.status for answer in answers} == {404}
    assert {answer.problem["title"] for answer in answers} == {"There is no such thing"}


async def test_sending_by_hand_makes_a_new_delivery_of_the_same_event(world: World) -> None:
    """For what is finished; the answer shows it."""
    delivery = await world.delivery("A.b", 500)

    sent = await world.api("POST", f"/v1/webhook/events/{delivery}/send")

    assert (sent.status, sent.body["state"], sent.body["isManual"]) == (202, "pending", True)
    assert sent.body["id"] != delivery
    assert await world.ids() == [sent.body["id"], delivery]


async def test_sending_a_pending_one_by_hand_makes_it_due(world: World) -> None:
    """It keeps its id, and goes out now instead of later."""
    delivery = await world.delivery("A.b")
    await attempt(world.connection, int(delivery), status=500, next_in=3600)

    sent = await world.api.ok("POST", f"/v1/webhook/events/{delivery}/send")

    assert sent["id"] == delivery
    assert datetime.fromisoformat(sent["dueDate"]) <= datetime.now(UTC)


@pytest.mark.parametrize("query, notify", [("", False), ("?notify_failure=true", True)], ids=["no", "yes"])
async def test_whoever_sends_by_hand_says_whether_a_failure_is_mailed(world: World, query: str, notify: bool) -> None:  # noqa: FBT001
    """As a rule it is not: they look for themselves."""
    delivery = await world.delivery("A.b", 500)

    sent = await world.api.ok("POST", f"/v1/webhook/events/{delivery}/send{query}")

    kept = await world.connection.fetchval("select notify from dispatcher.deliveries where id = $1", int(sent["id"]))
    assert kept is notify


async def test_sending_to_a_disabled_webhook_is_a_conflict(world: World) -> None:
    """Nothing would be sent."""
    delivery = await world.delivery("A.b", 500)
    await world.api.ok("POST", f"/v1/webhook/{world.webhook}/disable")

    answer = await world.api("POST", f"/v1/webhook/events/{delivery}/send")

    assert answer.status == 409


async def test_under_an_idempotency_key_one_delivery_is_made(world: World) -> None:
    """A person's second click sends nothing."""
    delivery = await world.delivery("A.b", 500)
    headers = {"Idempotency-Key": "click"}

    first = await world.api.ok("POST", f"/v1/webhook/events/{delivery}/send", headers=headers)
    second = await world.api.ok("POST", f"/v1/webhook/events/{delivery}/send", headers=headers)

    assert json.dumps(second) == json.dumps(first)
    assert len(await world.ids()) == 2
