"""The console's log of calls, each call in detail, and what can be done with it; events and replays beside it."""

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from dispatcher.admin import LogFilter
from dispatcher.embedded import EmbeddedPostgres
from dispatcher.model import DeliveryId, EndpointId, EventId
from dispatcher.store.pool import connect
from support.admin import attempt, fan_out, make_webhook, pending_of
from support.admin import send as send_event
from support.pages import Served, Visitor, serving_pages
from support.postgres import shared_clone

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def database(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """One for all: each test has a tenant of its own."""
    with shared_clone(postgres_server) as url:
        yield url


@pytest.fixture
async def served(database: str) -> AsyncIterator[Served]:
    """Both listeners."""
    async with serving_pages(database) as served:
        yield served


@pytest.fixture
async def rows(database: str) -> AsyncIterator[Any]:
    """A connection that does what workers do."""
    connection = await connect(database, application_name="test")
    yield connection
    await connection.close()


@pytest.fixture
async def operator(served: Served) -> Visitor:
    """Somebody who has signed in."""
    return await served.operator()


async def made(
    served: Served, rows: Any, *, status: int | None = None, tenant: str | None = None, **event: Any
) -> tuple[DeliveryId, EventId, EndpointId]:
    """Make a delivery of a webhook of its own, pending or ended by an attempt."""
    owner = tenant or f"t-{uuid4().hex[:8]}"
    webhook = await make_webhook(served.admin, owner)
    event_id = await send_event(served.admin, owner, **event)
    await fan_out(rows)
    (found,) = (await served.admin.log(webhook, LogFilter())).deliveries
    delivery = await pending_of(rows, event_id) if tenant is None else found.entry.id
    if status is not None:
        await attempt(rows, delivery, status=status)
    return delivery, event_id, webhook


async def test_the_log_shows_calls_with_their_last_answer(served: Served, operator: Visitor, rows: Any) -> None:
    """The newest first, each with a link to all that is known of it."""
    first, _, _ = await made(served, rows, status=503)
    second, _, _ = await made(served, rows, status=200)

    page = (await operator.get("/deliveries")).page

    places = [page.text.index(f" {one} ") for one in (second, first)]
    assert places == sorted(places)
    assert page.links[str(first)] == f"/deliveries/{first}"
    assert "dead" in page.text
    assert "503" in page.text


@pytest.mark.parametrize(
    "query, seen",
    [
        ("state=dead", True),
        ("state=delivered", False),
        ("status=503", True),
        ("status=5xx", True),
        ("status=404", False),
        ("event_type=appointment.created", True),
        ("event_type=other", False),
        ("error_class=timeout", False),
        ("created_after=2020-01-01T00:00", True),
        ("created_before=2020-01-01T00:00", False),
    ],
)
async def test_the_log_is_filtered(served: Served, operator: Visitor, rows: Any, query: str, *, seen: bool) -> None:
    """By what the last answer was, what it was about, and when."""
    delivery, _, webhook = await made(served, rows, status=503)

    page = (await operator.get(f"/deliveries?webhook={webhook}&{query}")).page

    assert (str(delivery) in page.links) == seen


@pytest.mark.parametrize(
    "query, said",
    [
        ("webhook=none", "That is no id"),
        ("event=1", "That is no id"),
        ("state=lost", "There is pending, delivered, dead, cancelled."),
        ("status=abc", "abc is no status"),
        ("created_after=yesterday", "That is no instant"),
        ("cursor=abc", "cursor"),
    ],
)
async def test_a_filter_that_cannot_be_meant_is_named(operator: Visitor, query: str, said: str) -> None:
    """What was typed stays in the form."""
    answer = await operator.get(f"/deliveries?{query}")

    assert answer.status == 422
    assert said in answer.text


async def test_a_number_leads_to_its_delivery(served: Served, operator: Visitor, rows: Any) -> None:
    """Whoever has one from a log line need not search."""
    delivery, _, _ = await made(served, rows)

    answer = await operator.get(f"/deliveries?id={delivery}")

    assert (answer.status, answer.path) == (200, f"/deliveries/{delivery}")


async def test_a_delivery_says_why_it_died(served: Served, operator: Visitor, rows: Any) -> None:
    """In words, with the attempt's answer below."""
    delivery, _, _ = await made(served, rows, status=503)

    text = (await operator.get(f"/deliveries/{delivery}")).text

    assert "every attempt of its schedule failed" in text
    assert "Server: test" in text
    assert "answer" in text
    assert "192.0.2.1:443" in text


async def test_a_dead_delivery_is_sent_again(served: Served, operator: Visitor, rows: Any) -> None:
    """By a new one, to which the page leads; who did it is in the audit log."""
    delivery, _, _ = await made(served, rows, status=503)

    answer = await operator.submit(await operator.get(f"/deliveries/{delivery}"), "/retry")

    (deed,) = (await served.admin.audit_page(target=str(delivery))).entries
    assert answer.status == 200
    assert "It is sent again" in answer.text
    assert "pending" in answer.text
    assert (deed.who, deed.action) == ("anna", "delivery.retried")


async def test_a_pending_delivery_is_cancelled(served: Served, operator: Visitor, rows: Any) -> None:
    """And says so from then on."""
    delivery, _, _ = await made(served, rows)

    answer = await operator.submit(await operator.get(f"/deliveries/{delivery}"), "/cancel")

    assert "It is cancelled" in answer.text
    assert (await served.admin.delivery(delivery)).delivery.state == "cancelled"


async def test_what_cannot_be_done_any_more_is_said(served: Served, operator: Visitor, rows: Any) -> None:
    """A page that was loaded while the delivery was still pending."""
    delivery, _, _ = await made(served, rows)
    page = await operator.get(f"/deliveries/{delivery}")
    await attempt(rows, delivery, status=200)

    answer = await operator.submit(page, "/cancel")

    assert answer.status == 409
    assert "delivered already" in answer.text
    assert not (await served.admin.audit_page(target=str(delivery))).entries


async def test_an_attempt_is_checked(served: Served, operator: Visitor, rows: Any) -> None:
    """Here nothing is recorded of what was written, so that it cannot be told."""
    delivery, _, _ = await made(served, rows, status=200)

    answer = await operator.get(f"/deliveries/{delivery}?check=1")

    assert answer.status == 200
    assert (await operator.get(f"/deliveries/{delivery}?check=7")).status == 404


async def test_what_events_bring_along_is_only_text(served: Served, operator: Visitor, rows: Any) -> None:
    """Markup in a type, a key or a payload is shown, never obeyed."""
    delivery, event, _ = await made(served, rows, status=503, event_type=SCRIPT, ordering_key=SCRIPT)

    pages = [
        await operator.get(path)
        for path in ("/deliveries", f"/deliveries/{delivery}", "/events", f"/events/{event}", "/tail")
    ]

    assert [page.status for page in pages] == [200] * 5
    assert all(SCRIPT not in page.html and "&lt;script&gt;" in page.html for page in pages)


@pytest.mark.parametrize("path", ["/deliveries/1x", "/deliveries/99999999999999999999", "/events/1", "/replays/1"])
async def test_what_is_no_id_leads_nowhere(operator: Visitor, path: str) -> None:
    """As if there were no such thing."""
    assert (await operator.get(path)).status == 404


# events


async def test_an_event_is_explained_endpoint_by_endpoint(served: Served, operator: Visitor, rows: Any) -> None:
    """Who got it, who did not, and why."""
    _, event, _ = await made(served, rows, status=503)

    page = (await operator.get(f"/events/{event}")).page

    assert "1 dead" in page.text
    assert "every attempt of its schedule failed" in page.text


async def test_events_are_listed_with_what_became_of_them(served: Served, operator: Visitor, rows: Any) -> None:
    """One line each, filtered by tenant."""
    _, event, webhook = await made(served, rows, status=503)
    tenant = (await served.admin.webhook(webhook)).tenant

    page = (await operator.get(f"/events?tenant={tenant}")).page

    assert page.links[str(event)] == f"/events/{event}"
    assert "1 dead" in page.text


async def test_an_event_that_nobody_wants_says_so(served: Served, operator: Visitor, rows: Any) -> None:
    """Its tenant is not even registered."""
    event = await send_event(served.admin, "nobody")
    await fan_out(rows)

    assert "no webhook wanted it" in (await operator.get(f"/events/{event}")).text


# replays


async def test_a_replay_is_counted_then_begun_and_cancelled(served: Served, operator: Visitor, rows: Any) -> None:
    """The count changes nothing; the form keeps what was typed."""
    _, _, webhook = await made(served, rows, status=503)
    form = await operator.get(f"/replays/new?webhook={webhook}")
    fields = {"webhook": str(webhook), "states": ["dead", "cancelled"], "rate": "5"}

    counted = await operator("POST", "/replays/count", data=_pairs(form.page.form("/replays/create").fields | fields))
    begun = await operator.submit(counted, "/replays/create")
    cancelled = await operator.submit(begun, "/cancel")

    assert "1 would be sent again" in counted.text
    assert counted.page.form("/replays/create").fields["states"] == ["dead", "cancelled"]
    assert "It has begun" in begun.text
    assert "5 a second" in begun.text
    assert "It is cancelled" in cancelled.text
    (replay,) = await served.admin.list_replays(webhook=webhook)
    assert replay.state == "cancelled"


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"webhook": "x"}, "That is no id"),
        ({"states": None}, "at least one state"),
        ({"causes": "timeuot"}, "Did you mean timeout ?"),
        ({"rate": "fast"}, "A rate is a number"),
        ({"since": "x"}, "That is no instant"),
    ],
    ids=lambda value: "".join(value) if isinstance(value, dict) else "",
)
async def test_a_replay_that_cannot_be_meant_is_refused(
    served: Served, operator: Visitor, rows: Any, fields: dict[str, Any], said: str
) -> None:
    """With the reason at the field."""
    _, _, webhook = await made(served, rows, status=503)
    form = await operator.get(f"/replays/new?webhook={webhook}")

    answer = await operator.submit(form, "/replays/create", **fields)

    assert answer.status == 422
    assert said in answer.text
    assert not await served.admin.list_replays(webhook=webhook)


async def test_replays_are_listed(served: Served, operator: Visitor, rows: Any) -> None:
    """With how far they have come."""
    _, _, webhook = await made(served, rows, status=503)
    await operator.submit(await operator.get(f"/replays/new?webhook={webhook}"), "/replays/create")

    page = (await operator.get(f"/replays?webhook={webhook}")).page

    assert "running" in page.text
    assert "0 of 1" in page.text


# tenants' own view


async def test_a_tenant_sees_its_own_calls_alone(served: Served, rows: Any) -> None:
    """In the list, by id, and by whatever filter."""
    mine, _, webhook = await made(served, rows, status=503)
    other, _, others = await made(served, rows, status=503)
    guest = await served.guest((await served.admin.webhook(webhook)).tenant)

    log = (await guest.get("/portal/deliveries")).page
    foreign = await guest.get(f"/portal/deliveries?webhook={others}")

    assert str(mine) in log.links
    assert str(other) not in log.links
    assert foreign.status == 404
    assert (await guest.get(f"/portal/deliveries/{mine}")).status == 200


async def test_a_tenant_is_not_sent_to_a_command_line(served: Served, rows: Any) -> None:
    """It has none; operators have, and are told."""
    delivery, _, webhook = await made(served, rows, status=503)
    guest = await served.guest((await served.admin.webhook(webhook)).tenant)

    theirs = await guest.get(f"/portal/deliveries/{delivery}")
    missing = await guest.get("/portal/deliveries/999999")
    ours = await (await served.operator()).get(f"/deliveries/{delivery}")

    assert "every attempt of its schedule failed" in theirs.text
    assert "dispatcher delivery" in ours.text
    assert "dispatcher delivery" not in theirs.text + missing.text
    assert missing.text.endswith("There is no delivery 999999, or it is past retention. To the beginning")


@pytest.mark.parametrize("path", ["/events", "/tail", "/notices", "/catalogue", "/system", "/audit", "/system/doctor"])
async def test_a_tenant_has_nothing_else(served: Served, rows: Any, path: str) -> None:
    """Operators' pages are not there for it."""
    _, _, webhook = await made(served, rows)
    guest = await served.guest((await served.admin.webhook(webhook)).tenant)

    assert (await guest.get(f"/portal{path}")).status == 404


def _pairs(fields: dict[str, Any]) -> Any:
    pairs = [(name, one) for name, value in fields.items() for one in (value if isinstance(value, list) else [value])]
    return aiohttp.FormData(pairs)
