"""The catalogue at work: at the door, when events are read, and as something that is imported."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog

from dispatcher.addresses import AddressPolicy
from dispatcher.admin import Admin, Finding, NewEvent, WebhookChanges, WebhookDraft
from dispatcher.catalog.documents import parse
from dispatcher.doorkeeper import Doorkeeper
from dispatcher.errors import CatalogError, Conflict, InvalidInput
from dispatcher.formats.definition import check
from dispatcher.metrics import Metrics
from dispatcher.model import EventId
from dispatcher.sealing import Sealer
from dispatcher.store.pool import open_pool
from support.admin import URL
from support.catalogs import SMALL, path_of
from support.receiver import Receiver
from support.world import finished, insert_event, make_endpoint, until, working

GOOD = '{"id":"v1"}'
BAD = '{"id":1}'


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A catalogue of `visit.ended` and `visit.created` as a file."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Any]:
    """Connections to a fresh database."""
    pool = await open_pool(database, maximum=2)
    yield pool
    await pool.close()


async def admin_of(pool: Any, mode: str = "enforce", *files: Path) -> Admin:
    """An administration with a catalogue, and the tenant `acme`."""
    admin = Admin(pool, sealer=Sealer(), policy=AddressPolicy(), doorkeeper=Doorkeeper(mode, files=files))
    if not await admin.list_tenants():
        await admin.create_tenant("acme")
    return admin


def draft(*subscriptions: str) -> WebhookDraft:
    """A webhook with these subscriptions."""
    return WebhookDraft(url=URL, subscriptions=subscriptions)


# subscriptions


@pytest.mark.parametrize("mode", ["warn", "enforce"])
@pytest.mark.parametrize(
    "pattern, message",
    [
        pytest.param("visit.endet", "no event type `visit.endet`. Did you mean `visit.ended`?", id="name"),
        pytest.param(
            "vist.*", "No event type of the catalogue matches `vist.*`. Did you mean `visit.*`?", id="pattern"
        ),
    ],
)
async def test_unknown_subscriptions_are_refused(pool: Any, small: Path, mode: str, pattern: str, message: str) -> None:
    """At the door, with what may have been meant; on a change, too."""
    admin = await admin_of(pool, mode, small)
    webhook = await admin.create_webhook("acme", draft("visit.*", "*", "visit.created"))

    with pytest.raises(InvalidInput) as creating:
        await admin.create_webhook("acme", draft("visit.ended", pattern))
    with pytest.raises(InvalidInput) as changing:
        await admin.update_webhook(webhook.id, WebhookChanges(subscriptions=[pattern]))

    assert message in str(creating.value)
    assert str(creating.value) == str(changing.value)
    assert creating.value.field == "subscriptions"


async def test_what_a_webhook_is_subscribed_to_is_not_judged_again(pool: Any, small: Path) -> None:
    """A type that has left the catalogue does not keep people from changing the URL."""
    before = await (await admin_of(pool, "off")).create_webhook("acme", draft("visit.cancelled"))
    admin = await admin_of(pool, "enforce", small)

    after = await admin.update_webhook(before.id, WebhookChanges(url="https://example.com/other"))

    assert after.subscriptions == ("visit.cancelled",)


@pytest.mark.parametrize("mode", ["warn", "enforce"])
async def test_a_format_must_be_able_to_write_what_is_subscribed_to(pool: Any, small: Path, mode: str) -> None:
    """Each documented example: or its events would fail until they die. With the mode off it binds nobody."""
    admin = await admin_of(pool, mode, small)
    broken = {"name": "b", "version": "1", "fields": [{"name": "n", "payload": "no.such"}]}
    await admin.put_format(check(broken, source="b.toml"))
    partly = {"name": "p", "version": "1", "fields": [{"name": "n", "payload": "no.such", "types": ["visit.ended"]}]}
    await admin.put_format(check(partly, source="p.toml"))
    pinned = await admin.create_webhook("acme", replace(draft("visit.created"), payload_format="p/1"))
    says = r"fields\[0\] \(`n`\): the payload has no `no.such`. It is the catalogue's example of `visit.ended`"

    for refused in (
        admin.create_webhook("acme", replace(draft("visit.*"), payload_format="p/1")),
        admin.update_webhook(pinned.id, WebhookChanges(subscriptions=["visit.ended"])),
        admin.update_webhook(pinned.id, WebhookChanges(subscriptions=["*"], payload_format="b/1")),
    ):
        with pytest.raises(InvalidInput, match=says) as refusal:
            await refused
        assert refusal.value.field == "payload_format"
    await (await admin_of(pool, "off", small)).create_webhook("acme", replace(draft("*"), payload_format="b/1"))


@pytest.mark.parametrize("mode", ["off", "warn", "enforce"])
async def test_an_alias_becomes_the_name(pool: Any, mode: str) -> None:
    """So that events, which have the name, are found; whatever the mode."""
    admin = await admin_of(pool, mode, path_of("decoda"))

    webhook = await admin.create_webhook("acme", draft("CALL_RECEIVED", "CALL_MADE", "CALL_RECIEVED"))

    assert webhook.subscriptions == ("CALL_RECIEVED", "CALL_MADE")


async def test_mode_off_and_an_empty_catalogue_let_everything_pass(pool: Any, small: Path) -> None:
    """As without a catalogue."""
    for admin in (await admin_of(pool, "off", small), await admin_of(pool, "enforce")):
        await admin.create_webhook("acme", draft("anything", "at.all.*"))
        await admin.send_event(NewEvent(tenant="acme", event_type="anything", payload="[]"))


async def test_operational_events_are_no_catalogues_to_judge(
    database: str, connection: Any, pool: Any, small: Path
) -> None:
    """They can be subscribed to, and go out, whatever the catalogue knows."""
    admin = await admin_of(pool, "enforce", small)
    await admin.create_webhook("acme", draft("dispatcher.*", "dispatcher.endpoint.failing"))
    async with Receiver() as receiver:
        await make_endpoint(connection, receiver.url, subscriptions=["dispatcher.*"])
        async with working(database, catalog__mode="enforce", catalog__files=str(small)):
            await insert_event(connection, "dispatcher.endpoint.failing", "{}")
            await receiver.wait_for(1)


# events at the door


@pytest.mark.parametrize(
    "bad, field, message",
    [
        pytest.param(("visit.ended", BAD), "payload", '/id: The value is not of type "string".', id="payload"),
        pytest.param(("visit.endet", GOOD), "event_type", "Did you mean `visit.ended`?", id="type"),
        pytest.param(("visit.over", GOOD), "event_type", "Events are of the type `visit.ended`.", id="alias"),
    ],
)
async def test_enforce_refuses_an_event_at_the_door(
    pool: Any, small: Path, bad: tuple[str, str], field: str, message: str
) -> None:
    """With field and place; nothing is in the outbox, of a batch neither."""
    admin = await admin_of(pool, "enforce", small)
    good, wrong = (
        NewEvent(tenant="acme", event_type=event_type, payload=payload)
        for event_type, payload in (("visit.ended", GOOD), bad)
    )

    with pytest.raises(InvalidInput) as caught:
        await admin.send_event(wrong)
    with pytest.raises(InvalidInput) as of_many:
        await admin.send_events([good, wrong])

    assert message in str(caught.value)
    assert caught.value.field == field
    assert of_many.value.field == f"events/1/{field}"
    assert await admin.list_events() == []


async def test_warn_lets_an_event_in(pool: Any, small: Path) -> None:
    """It is told of when it is read."""
    admin = await admin_of(pool, "warn", small)

    assert await admin.send_event(NewEvent(tenant="acme", event_type="visit.ended", payload=BAD)) is not None


# events that come by SQL


async def test_enforce_keeps_and_explains_what_came_by_sql(
    database: str, connection: Any, pool: Any, small: Path
) -> None:
    """Nobody gets it, everybody can see it, others go on; and the payload is not in the log."""
    metrics = Metrics()
    async with Receiver() as receiver:
        endpoint_id = await make_endpoint(connection, receiver.url)
        with structlog.testing.capture_logs() as lines:
            async with working(database, metrics=metrics, catalog__mode="enforce", catalog__files=str(small)):
                bad = EventId(await insert_event(connection, "visit.ended", '{"id":{"name":"Ada"}}'))
                unknown = EventId(await insert_event(connection, "visit.endet", GOOD))
                good = await insert_event(connection, "visit.ended", GOOD)
                await finished(connection)
                await until(lambda: connection.fetchval("select count(*) = 2 from dispatcher.refused_events"))

    admin = await admin_of(pool, "enforce", small)
    explanation = await admin.explain(bad)
    assert [row["event_id"] for row in await finished(connection)] == [good]
    assert explanation.summary.startswith("It was refused when it was read, at ")
    assert '/id: The value is not of type "string".' in explanation.summary
    assert [(one.endpoint_id, one.finding) for one in explanation.endpoints] == [(endpoint_id, Finding.REFUSED)]
    assert (await admin.event(bad)).payload == '{"id":{"name":"Ada"}}'
    assert "Did you mean `visit.ended`?" in ((await admin.event(unknown)).refused_because or "")
    assert {event.id for event in await admin.list_events(refused=True)} == {bad, unknown}
    assert (await admin.event(EventId(good))).refused_at is None
    told = [line for line in lines if line["event"] == "event.refused"]
    assert {line["event_type"] for line in told} == {"visit.ended", "visit.endet"}
    assert "Ada" not in str(told)
    assert b'dispatcher_events_unexpected_total{result="refused"} 2.0' in metrics.render()


async def test_warn_delivers_and_tells(database: str, connection: Any, small: Path) -> None:
    """A log line and a number."""
    metrics = Metrics()
    async with Receiver() as receiver:
        await make_endpoint(connection, receiver.url)
        with structlog.testing.capture_logs() as lines:
            async with working(database, metrics=metrics, catalog__mode="warn", catalog__files=str(small)):
                await insert_event(connection, "visit.ended", BAD)
                await finished(connection)

    (line,) = [line for line in lines if line["event"] == "event.unexpected"]
    assert line["reason"] == '/id: The value is not of type "string".'
    assert b'dispatcher_events_unexpected_total{result="delivered"} 1.0' in metrics.render()


async def test_a_refused_event_can_be_readmitted(database: str, connection: Any, pool: Any, small: Path) -> None:
    """After the catalogue was mended it is read as if it were new."""
    admin = await admin_of(pool, "enforce")
    async with Receiver() as receiver:
        await make_endpoint(connection, receiver.url)
        await admin.import_catalog([parse(SMALL, "small.yaml")])
        async with working(database, catalog__mode="enforce"):
            event_id = EventId(await insert_event(connection, "visit.cancelled", GOOD))
            await until(lambda: connection.fetchval("select count(*) = 1 from dispatcher.refused_events"))
            await admin.import_catalog([parse(SMALL.replace("visit.created", "visit.cancelled"), "small.yaml")])
            await until(lambda: told_of_import(connection, admin, event_id), timeout=15)

    (delivery,) = await finished(connection)
    assert delivery["event_id"] == event_id
    with pytest.raises(Conflict, match="is not refused"):
        await admin.readmit_event(event_id)


async def told_of_import(connection: Any, admin: Admin, event_id: EventId) -> bool:
    """Readmit the event until the worker, which looks for an import once a second, lets it pass."""
    if await connection.fetchval("select count(*) from dispatcher.finished_deliveries"):
        return True
    if (await admin.event(event_id)).refused_at is not None:
        await admin.readmit_event(event_id)
    return False


async def test_ordered_events_are_judged_like_others(database: str, connection: Any, small: Path) -> None:
    """One that is refused does not hold up those behind it with its ordering key."""
    async with Receiver() as receiver:
        await make_endpoint(connection, receiver.url)
        async with working(database, catalog__mode="enforce", catalog__files=str(small)):
            await insert_event(connection, "visit.ended", BAD, ordering_key="v1")
            good = await insert_event(connection, "visit.ended", GOOD, ordering_key="v1")
            (delivery,) = await finished(connection)

    assert delivery["event_id"] == good


@pytest.mark.parametrize("system", ["hero", "decoda", "vsee", "healthie"])
async def test_every_example_passes_the_enforced_catalogue(database: str, connection: Any, system: str) -> None:
    """Each of the systems' events can be inserted as documented, and comes out at the other end."""
    catalog = Doorkeeper("enforce", files=[path_of(system)]).of_files()
    async with Receiver() as receiver:
        await make_endpoint(connection, receiver.url, payload_format="raw")
        async with working(database, catalog__mode="enforce", catalog__files=str(path_of(system))):
            for event_type in catalog.event_types:
                await insert_event(connection, event_type.name, orjson.dumps(event_type.example).decode())
            await finished(connection, len(catalog.event_types), timeout=30)

    assert await connection.fetchval("select count(*) from dispatcher.refused_events") == 0


# catalogues in the database


async def test_an_import_replaces_what_was_imported(pool: Any) -> None:
    """Whole, in the order given; nothing forgets it."""
    admin = await admin_of(pool)

    await admin.import_catalog([parse(SMALL, "1.yaml")])
    first = await admin.catalog()
    await admin.import_catalog([parse(path_of("hero").read_text(), "2.yaml"), parse(SMALL, "3.yaml")])
    second = await admin.catalog()
    await admin.import_catalog([])

    assert list(first.names) == ["visit.ended", "visit.created"]
    assert [document.name for document in second.documents] == ["2.yaml", "3.yaml"]
    assert second.documents[1].tree == parse(SMALL, "").tree
    assert not await admin.catalog()


async def test_a_broken_document_changes_nothing(pool: Any) -> None:
    """It is refused with its place."""
    admin = await admin_of(pool)
    await admin.import_catalog([parse(SMALL, "1.yaml")])

    with pytest.raises(CatalogError, match=r"2\.yaml#/channels/visit\.ended/messages/ended/payload: .* leads nowhere"):
        await admin.import_catalog([parse(SMALL.replace("schemas/Visit'", "schemas/Vist'"), "2.yaml")])

    assert list((await admin.catalog()).names) == ["visit.ended", "visit.created"]


async def test_an_import_beside_files_is_refused(pool: Any, small: Path) -> None:
    """It would not be used."""
    admin = await admin_of(pool, "enforce", small)

    with pytest.raises(Conflict, match="would not be used"):
        await admin.import_catalog([parse(SMALL, "1.yaml")])


async def test_documents_that_became_unusable_leave_the_catalogue_as_it_is(pool: Any, connection: Any) -> None:
    """Somebody wrote into the table: what was in use stays in use; who begins with them is told."""
    admin = await admin_of(pool)
    await admin.import_catalog([parse(SMALL, "1.yaml")])
    await admin.catalog()
    await break_catalog(connection)

    assert list((await admin.catalog()).names) == ["visit.ended", "visit.created"]
    with pytest.raises(CatalogError, match=r"1\.yaml#/asyncapi"):
        await (await admin_of(pool)).catalog()


async def test_unusable_documents_hold_up_no_event(database: str, connection: Any, pool: Any) -> None:
    """A worker that begins with them says so, once, and delivers."""
    await (await admin_of(pool)).import_catalog([parse(SMALL, "1.yaml")])
    await break_catalog(connection)
    async with Receiver() as receiver:
        await make_endpoint(connection, receiver.url)
        with structlog.testing.capture_logs() as lines:
            async with working(database, catalog__mode="enforce"):
                for _ in range(2):
                    await insert_event(connection, "visit.cancelled", GOOD)
                await finished(connection, 2)

    assert [line["event"] for line in lines if line["event"].startswith("catalog.")] == ["catalog.unusable"]


async def test_a_worker_says_once_that_there_is_no_catalogue(database: str, connection: Any) -> None:
    """A mode without documents is most likely a mistake; events are delivered."""
    async with Receiver() as receiver:
        await make_endpoint(connection, receiver.url)
        with structlog.testing.capture_logs() as lines:
            async with working(database, catalog__mode="enforce"):
                for number in range(1, 3):
                    await insert_event(connection, "visit.cancelled", GOOD)
                    await finished(connection, number)

    assert [line["event"] for line in lines if line["event"].startswith("catalog.")] == ["catalog.empty"]


async def break_catalog(connection: Any) -> None:
    """Write what is no catalogue into the table."""
    await connection.execute(
        'update dispatcher.catalog_documents set import_id = gen_random_uuid(), document = \'{"asyncapi": "2.0.0"}\''
    )
