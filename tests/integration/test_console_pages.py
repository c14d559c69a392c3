"""The console's other pages: overview, system, notices, catalogue, live tail, audit log."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest

from dispatcher.admin import WebhookDraft
from dispatcher.catalog.catalog import Catalog
from dispatcher.doorkeeper import Doorkeeper
from dispatcher.embedded import EmbeddedPostgres
from dispatcher.model import DeliveryId
from dispatcher.store.pool import connect
from support.admin import attempt, fan_out, pending_of, send
from support.pages import Served, Visitor, serving_pages
from support.postgres import shared_clone

HERO = Path(__file__).parents[2] / "examples" / "hero" / "asyncapi.yaml"


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


async def answered(served: Served, rows: Any, *, status: int, **event: Any) -> DeliveryId:
    """Make a delivery of a tenant of its own that was answered like this."""
    tenant = f"t-{uuid4().hex[:8]}"
    await served.admin.create_tenant(tenant)
    await served.admin.create_webhook(tenant, WebhookDraft(url="https://example.com/hook", subscriptions=["*"]))
    event_id = await send(served.admin, tenant, **event)
    await fan_out(rows)
    delivery = await pending_of(rows, event_id)
    await attempt(rows, delivery, status=status)
    return delivery


@pytest.mark.parametrize(
    "path",
    [
        *("/?range=" + span for span in ("1h", "6h", "24h", "7d", "30d", "nonsense")),
        "/system",
        "/notices",
        "/catalogue",
    ],
)
async def test_pages_stand_when_there_is_nothing_to_show(served: Served, path: str) -> None:
    """On the first day there is no worker, no mail, no event."""
    answer = await (await served.operator()).get(path)

    assert answer.status == 200
    assert len(answer.page.having("h1")) == 1


async def test_the_overview_tells_where_work_stands(served: Served, rows: Any) -> None:
    """Without a worker nothing is told of what is due; endpoints are counted."""
    await answered(served, rows, status=503)
    operator = await served.operator()

    page = (await operator.get("/")).page

    assert "0 workers" in page.text.replace("\u202f", "") or "- workers" in page.text
    assert page.having("div", data_plot="#rate-data")


async def test_plots_carry_their_figures(served: Served) -> None:
    """As JSON for the script, with one value for each instant."""
    answer = await (await served.operator()).get("/?range=24h")
    begin = answer.html.index('id="latency-data">') + len('id="latency-data">')

    plot = orjson.loads(answer.html[begin : answer.html.index("</script>", begin)])

    assert [line["label"] for line in plot["lines"]] == ["p50", "p95", "p99"]
    assert all(len(line["values"]) == len(plot["times"]) for line in plot["lines"])


async def test_the_system_page_says_that_no_worker_runs(served: Served) -> None:
    """And which of the shards nobody has."""
    text = (await (await served.operator()).get("/system")).text

    assert "No worker is running" in text
    assert "256 of 256 shards have no worker" in text


async def test_an_examination_is_there_where_one_can_be_made(served: Served) -> None:
    """Here nobody has said how."""
    operator = await served.operator()

    assert "/system/doctor" not in (await operator.get("/system")).page.links.values()
    assert (await operator.get("/system/doctor")).status == 404


async def test_a_mail_is_shown_and_previewed(served: Served, rows: Any) -> None:
    """The preview is cut off from everything: nothing in it runs, whatever a subscriber answered."""
    tenant = f"t-{uuid4().hex[:8]}"
    await served.admin.create_tenant(tenant)
    draft = WebhookDraft(url="https://example.com/hook", subscriptions=["*"], notification_email="o@example.com")
    webhook = (await served.admin.create_webhook(tenant, draft)).id
    mail = uuid4()
    await rows.execute(
        """
        insert into dispatcher.mails (id, endpoint_id, kind, recipients, waiting, message_id, subject, text_body, html_body, notices, created_at, due_at)
        values ($1, $2, 'deliveries_dead', '{o@example.com}', '{o@example.com}', '<1@x>', 'It died', 'Words', '<p>Words</p>',
          1, now(), now())
        """,
        mail,
        webhook,
    )
    operator = await served.operator()

    listed = await operator.get(f"/notices?tenant={tenant}")
    shown = await operator.get(listed.page.links["It died"])
    preview = await operator.get(shown.page.links["As its reader sees it"])

    assert "waiting" in listed.text
    assert "Words" in shown.text
    assert preview.html == "<p>Words</p>"
    assert "sandbox" in preview.headers["Content-Security-Policy"]


@pytest.mark.parametrize("query", ["kind=x", "state=x", "webhook=x", "cursor=x"])
async def test_a_filter_of_mails_that_cannot_be_meant_is_named(served: Served, query: str) -> None:
    """With a word why."""
    answer = await (await served.operator()).get(f"/notices?{query}")

    assert answer.status == 422


async def test_the_catalogue_is_searched_and_read(database: str) -> None:
    """Each event type with its fields and an example."""
    async with serving_pages(database, doorkeeper=Doorkeeper(files=[HERO])) as served:
        operator = await served.operator()

        found = await operator.get("/catalogue?q=prescription")
        shown = await operator.get(found.page.links["prescription.issued"])
        missing = await operator.get("/catalogue/nonsense")

    assert "appointment.confirmed" not in found.text
    assert "A prescription was issued." in shown.text
    assert missing.status == 404
    assert len(Catalog.read([HERO]).event_types) == 9


async def test_the_tail_shows_the_latest_attempts(served: Served, rows: Any) -> None:
    """Also without JavaScript: as of loading."""
    delivery = await answered(served, rows, status=503)

    page = (await (await served.operator()).get("/tail")).page

    assert page.links[str(delivery)] == f"/deliveries/{delivery}"


async def test_the_tail_sends_attempts_as_they_are_made(served: Served, rows: Any) -> None:
    """As rows that are ready to be shown, behind the mark of the page; markup in them is escaped."""
    operator = await served.operator()
    (tail,) = (await operator.get("/tail")).page.having("tbody", id="tail")
    address = f"{operator.url}{tail['data-stream']}"

    async with operator.session.get(address, params={"mark": tail["data-mark"]}) as stream:
        delivery = await answered(served, rows, status=200, event_type="<b>x</b>")
        rest = await _told(stream.content, str(delivery))

    assert stream.headers["Content-Type"] == "text/event-stream"
    assert f">{delivery}<" in rest["rows"]
    assert "&lt;b&gt;x&lt;/b&gt;" in rest["rows"]
    assert rest["leftOut"] == 0


async def _told(content: Any, wanted: str) -> Any:
    """Read a stream until an attempt of a delivery is told of."""
    async with asyncio.timeout(30):
        async for line in content:
            if line.startswith(b"data: ") and wanted.encode() in line:
                return orjson.loads(line.removeprefix(b"data: "))
    raise AssertionError("the stream ended")


@pytest.mark.parametrize("query", ["verdict=x", "error_class=x", "status=x", "webhook=x"])
async def test_a_filter_of_the_tail_that_cannot_be_meant_is_named(served: Served, query: str) -> None:
    """On the page, and for who asks for the stream alone."""
    operator: Visitor = await served.operator()

    assert (await operator.get(f"/tail?{query}")).status == 422
    assert (await operator.get(f"/tail/stream?{query}")).status == 422
