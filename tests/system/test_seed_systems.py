"""The four systems that people move from: every event type arrives as documented, signed as documented.

Each test runs a real `dispatcher serve`, makes webhooks by the system's preset, inserts every documented example into the
outbox, and holds what a receiver on loopback got against the catalogue's bodies and the system's own recipe.
"""

import hmac
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from standardwebhooks import Webhook

from dispatcher.addresses import AddressPolicy
from dispatcher.admin import Admin, EndpointRow, WebhookDraft
from dispatcher.catalog.reading import EventType, Message
from dispatcher.catalog.schemas import Schemas
from dispatcher.configuration import load
from dispatcher.model import EndpointId
from dispatcher.sealing import Sealer
from dispatcher.store.pool import open_pool
from support.catalogs import example
from support.mail import Sink, mail_server
from support.receiver import Received, Receiver, answer
from support.serving import Serving, serving
from support.world import make_tenant, until

pytestmark = pytest.mark.system

PATIENCE = 30.0
"""Seconds for some hundred deliveries on a machine that does much else."""


@dataclass(frozen=True, slots=True)
class World:
    """A service, who administers it, a receiver, and a connection as producers have one."""

    admin: Admin
    receiver: Receiver
    connection: Any
    process: Serving

    async def webhook(self, path: str, *, tenant: str = "acme", **fields: Any) -> EndpointRow:
        """Create a webhook for everything at a path of the receiver."""
        url = f"{self.receiver.url}{path}"
        return await self.admin.create_webhook(tenant, WebhookDraft(**{"url": url, "subscriptions": ["*"]} | fields))

    async def insert(self, event_type: str, payload: str, *, tenant: str = "acme", occurred_at: float = 0.0) -> UUID:
        """Insert an event as a producer does."""
        event_id: UUID = await self.connection.fetchval(
            "insert into dispatcher.outbox (tenant, event_type, payload, occurred_at) "
            "values ($1, $2, $3, to_timestamp($4)) returning id",
            tenant,
            event_type,
            payload,
            occurred_at,
        )
        return event_id

    async def insert_examples(self, system: str, *, occurred_at: float = 0.0) -> dict[str, EventType]:
        """Insert the example of every event type, compact, in one transaction; by event id."""
        inserted = {}
        async with self.connection.transaction():
            for event_type in example(system).event_types:
                payload = json.dumps(event_type.example, separators=(",", ":"))
                event_id = await self.insert(event_type.name, payload, occurred_at=occurred_at)
                inserted[str(event_id)] = event_type
        return inserted

    async def arrived(self, path: str, count: int) -> Sequence[Received]:
        """Wait until so many requests came to a path, and return them; there must not be more."""
        found = await self.receiver.wait_for(count, PATIENCE, path=path)
        assert len(found) == count
        return found


@asynccontextmanager
async def living(database: str, connection: Any, *, mail: Sink | None = None) -> AsyncIterator[World]:
    """Run the service for the tenant acme, with a mail server if there is one."""
    service = (
        serving(database, delivery__in_flight_start="32")
        if mail is None
        else serving(database, delivery__in_flight_start="32", smtp__host="127.0.0.1", smtp__port=str(mail.port))
    )
    settings = load(None, {"DISPATCHER_EGRESS__ALLOW_SUBNETS": "127.0.0.0/8"})
    pool = await open_pool(database, maximum=2)
    admin = Admin(pool, sealer=Sealer(), policy=AddressPolicy(settings.egress.allow_subnets), https_only=False)
    await make_tenant(connection)
    try:
        async with Receiver() as receiver, service as process:
            yield World(admin, receiver, connection, process)
    finally:
        await pool.close()


def document_of(request: Received) -> dict[str, Any]:
    """The body."""
    document: dict[str, Any] = json.loads(request.body)
    return document


def body_message(event_type: EventType, payload_format: str) -> Message:
    """The catalogue's description of the body in a format."""
    (found,) = (one for one in event_type.messages if one.payload_format == payload_format)
    return found


def fits(event_type: EventType, message: Message, body: Any) -> bool:
    """Whether a body meets the catalogue's schema of it."""
    assert message.schema is not None
    schema = Schemas(event_type.document).compile(message.schema, schema_format=message.schema_format)
    return schema.faults(body) == []


def shape(value: Any) -> Any:
    """Names in their order, and types; not the values."""
    if isinstance(value, dict):
        return [(name, shape(member)) for name, member in value.items()]
    return type(value).__name__


# --- Hero Health ------------------------------------------------------------------------------------------------------


def hero_accepts(signing_key: str, request: Received) -> bool:
    """Hero's recipe: HMAC-SHA256 of `timestamp.body`, in hex."""
    content = request.headers["x-herohealth-timestamp"].encode() + b"." + request.body
    return hmac.new(signing_key.encode(), content, "sha256").hexdigest() == request.headers["x-herohealth-signature"]


async def test_hero(database: str, connection: Any) -> None:
    """Own signing key, own headers, thin bodies as inserted: nine event types."""
    async with living(database, connection) as world:
        headers = {"X-Practice": "north", "Authorization": "Bearer of-theirs"}
        await world.webhook("/hero", preset="hero", secret="your-secret-key", headers=headers)

        inserted = await world.insert_examples("hero")
        requests = await world.arrived("/hero", 9)

    assert {document_of(one)["event"] for one in requests} == {one.name for one in inserted.values()}
    for request in requests:
        event_type = inserted[request.headers["webhook-id"]]
        assert list(document_of(request)) == ["object", "id", "practice_group_id", "event"]
        assert document_of(request) == event_type.example
        assert fits(event_type, body_message(event_type, "raw"), document_of(request))
        assert hero_accepts("your-secret-key", request)
        assert not hero_accepts("another-key", request)
        assert (request.headers["x-practice"], request.headers["authorization"]) == ("north", "Bearer of-theirs")


# --- Decoda Health ----------------------------------------------------------------------------------------------------


def decoda_accepts(secret: str, request: Received) -> bool:
    """Decoda's recipe: hex HMAC-SHA256 of the raw body, keyed with the secret's characters."""
    return hmac.new(secret.encode(), request.body, "sha256").hexdigest() == request.headers["decoda-signature"]


async def test_decoda(database: str, connection: Any) -> None:
    """Twenty-eight event types in their envelope, misspelt names byte for byte."""
    secret = "961c2c1c9c66dad600f29a26e0320a96"
    async with living(database, connection) as world:
        webhook = await world.webhook("/decoda", preset="decoda", secret=secret)

        inserted = await world.insert_examples("decoda", occurred_at=1710498600)
        requests = await world.arrived("/decoda", 28)

    assert webhook.retry_schedule == (1, 5, 15, 60, 300, 900)
    for request in requests:
        event_type = inserted[request.headers["webhook-id"]]
        message = body_message(event_type, "decoda/1.0")
        document = document_of(request)
        documented = message.examples[0].value
        assert list(document) == ["id", "type", "data", "createdDate", "alertId"]
        assert shape(document["data"]) == shape(documented["data"])
        assert document == {
            "id": f"evt_{request.headers['webhook-id']}",
            "type": event_type.name,
            "data": event_type.example,
            "createdDate": "2024-03-15T10:30:00Z",
            "alertId": f"alert_{request.headers['webhook-id']}",
        }
        assert fits(event_type, message, document)
        assert decoda_accepts(secret, request)
    assert {"CALL_RECIEVED", "MESSAGE_RECIEVED", "EMAIL_RECIEVED"} <= {document_of(one)["type"] for one in requests}


async def test_decodas_create_call(database: str, connection: Any) -> None:
    """As published, without a word about presets: the tenant's decides, and the new webhook behaves as theirs did."""
    async with living(database, connection) as world:
        await world.admin.set_defaults("acme", preset="decoda")
        key = (await world.admin.create_key("acme")).key
        address = (await world.process.says("api.listening"))["address"]
        url = f"{world.receiver.url}/decoda"
        asked = {"notificationEmail": None, "subscriptions": ["PATIENT_CREATED", "CALL_RECIEVED"], "url": url}
        async with (
            aiohttp.ClientSession(headers={"TENANT": "acme", "API-KEY": key}) as session,
            session.post(f"{address}/v1/webhook/create", json=asked) as response,
        ):
            assert response.status == 200, await response.text()
            created = await response.json()

        await world.insert("CALL_RECIEVED", '{"id": "call_1"}')
        await world.insert("CALL_MADE", '{"id": "call_2"}')
        (request,) = await world.arrived("/decoda", 1)

    published = ["createdDate", "id", "notificationEmail", "secret", "subscriptions", "updatedDate", "url"]
    assert list(created)[:7] == published
    assert {name: created[name] for name in asked} == asked
    assert created["updatedDate"] is None
    assert created["retrySchedule"] == [1, 5, 15, 60, 300, 900]
    assert document_of(request)["type"] == "CALL_RECIEVED"
    assert list(document_of(request)) == ["id", "type", "data", "createdDate", "alertId"]
    assert decoda_accepts(created["secret"], request)


async def test_decoda_mails_after_the_last_attempt(database: str, connection: Any) -> None:
    """And not before; without an address there is no mail."""
    async with mail_server() as sink, living(database, connection, mail=sink) as world:
        world.receiver.on("/told", answer(500))
        world.receiver.on("/untold", answer(500))
        delays = {"retry_schedule": "10ms,10ms", "preset": "decoda"}  # its own would take 21 minutes
        await world.webhook("/told", notification_email="it@example.com", **delays)
        await world.webhook("/untold", **delays)

        await world.insert("PATIENT_CREATED", '{"id": "pat_1"}')
        await until(
            lambda: connection.fetchval("select count(*) = 2 from dispatcher.finished_deliveries"), timeout=PATIENCE
        )
        await until(lambda: sink.mails, timeout=PATIENCE, why="a mail")

    (mail,) = sink.mails
    assert mail.recipients == ("it@example.com",)
    assert len([one for one in world.receiver.received if one.path == "/told"]) == 3
    assert "PATIENT_CREATED" in mail.message.get_body(("plain",)).get_content()  # type: ignore[union-attr]


# --- VSee Clinic ------------------------------------------------------------------------------------------------------


async def test_vsee(database: str, connection: Any) -> None:
    """Six event types, each to two webhooks that are pinned to 1.0 and 2.0: two bodies of one event."""
    async with living(database, connection) as world:
        old = await world.webhook("/1.0", preset="vsee-1.0")
        new = await world.webhook("/2.0", preset="vsee")

        inserted = await world.insert_examples("vsee", occurred_at=1546950556)
        bodies = {
            version: {one.headers["webhook-id"]: one for one in await world.arrived(f"/{version}", 6)}
            for version in ("1.0", "2.0")
        }

    assert (old.payload_format, new.payload_format) == ("vsee/1.0", "vsee/2.0")
    for event_id, event_type in inserted.items():
        for version, webhook in (("1.0", old), ("2.0", new)):
            request = bodies[version][event_id]
            message = body_message(event_type, f"vsee/{version}")
            documented = message.examples[0].value
            assert webhook.secret is not None
            Webhook(webhook.secret).verify(request.body, dict(request.headers))
            assert document_of(request) == documented | {"id": event_id}
            assert shape(document_of(request)) == shape(documented)
            assert fits(event_type, message, document_of(request))
    note = next(event_id for event_id, one in inserted.items() if one.name == "visit.note.signed_and_sent")
    first, second = document_of(bodies["1.0"][note]), document_of(bodies["2.0"][note])
    assert (first["account_code"], second["clinic_code"]) == ("acme", "acme")
    assert (first["data"]["start"], second["data"]["start"]) == ("1546950546", 1546950546)
    assert (first["data"]["status"], second["data"]["status"]) == ("40", "completed")
    assert (first["data"]["completed_by"], second["data"]["status_updated_by"]) == ("60610", "60610")
    assert "note" not in first["data"]
    assert second["data"]["note"] == {"id": "71", "status": "signed"}


# --- Healthie ---------------------------------------------------------------------------------------------------------


def healthie_accepts(secret: str, request: Received, *, sample: bool) -> bool:
    """Healthie's recipe; as the documentation's sample reads the digest, or whole, as live traffic has it."""
    path, _, query = request.path.partition("?")
    given = request.headers["content-digest"]
    digest = given.split("=")[1] if sample else given.removeprefix("SHA-256=")
    document = json.loads(request.body)
    length = len(json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-16-le")) // 2
    data = f"{request.method.lower()} {path} {query} {digest} application/json {length}"
    expected = hmac.new(secret.encode(), data.encode(), sha256).hexdigest()
    return request.headers["signature"] == f"sig1={expected}"


async def test_healthie(database: str, connection: Any) -> None:
    """All 167 event types, in every form of the digest.

    A reader of the whole digest accepts all three forms; the documentation's own sample those two without padding.
    """
    secret = "whsec_my-secret-key"
    forms = {"/live": "healthie", "/sample": "healthie:base64-nopad", "/hex": "healthie:hex"}
    async with living(database, connection) as world:
        for path, form in forms.items():
            await world.webhook(f"{path}?practiceId=42", preset="healthie", signing_profiles=[form], secret=secret)

        inserted = await world.insert_examples("healthie")
        requests = {path: await world.arrived(path, 167) for path in forms}

    assert len(inserted) == 167
    for path, of_form in requests.items():
        for request in of_form:
            event_type = inserted[request.headers["webhook-id"]]
            assert request.body == json.dumps(event_type.example, separators=(",", ":")).encode()
            assert document_of(request)["event_type"] == event_type.name
            assert healthie_accepts(secret, request, sample=False)
            assert healthie_accepts(secret, request, sample=True) is (path != "/live")
    assert {document_of(one)["event_type"] for one in requests["/live"]} == {one.name for one in inserted.values()}


async def test_healthie_leaves_the_payload_as_it_is(database: str, connection: Any) -> None:
    """`changed_fields` and fields that nobody documented go out untouched, to the byte."""
    payload = '{"resource_id":"1", "changed_fields" : ["b","a","b"],"x":1.50,"name":"\\u00e9é","event_type":"patient.updated"}'
    async with living(database, connection) as world:
        await world.webhook("/", preset="healthie")

        await world.insert("patient.updated", payload)
        (request,) = await world.arrived("/", 1)

    assert request.body == payload.encode()


async def test_healthies_parent_organisation_gets_what_is_below(database: str, connection: Any) -> None:
    """The parent's webhook the events of all sub-organisations, a sub-organisation's only its own."""
    async with living(database, connection) as world:
        await world.admin.create_tenant("north", parent="acme")
        await world.admin.create_tenant("south", parent="acme")
        await world.webhook("/parent", preset="healthie", include_descendants=True)
        await world.webhook("/north", tenant="north", preset="healthie")

        for tenant in ("acme", "north", "south"):
            await world.insert("patient.created", json.dumps({"resource_id": tenant}), tenant=tenant)
        parent = await world.arrived("/parent", 3)
        north = await world.arrived("/north", 1)

    assert sorted(document_of(one)["resource_id"] for one in parent) == ["acme", "north", "south"]
    assert [document_of(one)["resource_id"] for one in north] == ["north"]


async def test_healthies_test_event(database: str, connection: Any) -> None:
    """`test.created` has the documented fields, and is signed like any other."""
    async with living(database, connection) as world:
        webhook = await world.webhook("/", preset="healthie", subscriptions=["patient.created"])

        await world.admin.test_webhook(webhook.id)
        (request,) = await world.arrived("/", 1)

    documented = example("healthie").get("test.created")
    assert documented is not None
    assert shape(document_of(request)) == shape(documented.example)
    assert document_of(request)["event_type"] == "test.created"
    assert document_of(request)["resource_id_type"] == "Test"
    assert webhook.secret is not None
    assert healthie_accepts(webhook.secret, request, sample=False)


async def test_healthie_warns_after_a_day_and_disables_after_three(database: str, connection: Any) -> None:
    """By mail, to the additional addresses, too; the warning names the day of disabling."""
    more = ["it@example.com", "ops@example.com"]
    everybody = {"owner@example.com", *more}
    async with mail_server() as sink, living(database, connection, mail=sink) as world:
        world.receiver.on("/", answer(500))
        webhook = await world.webhook(
            "/", preset="healthie", notification_email="owner@example.com", additional_notification_emails=more
        )
        await failing_since(connection, webhook.id, hours=25)
        await world.insert("patient.created", "{}")
        await until(lambda: told_by(sink) == everybody, timeout=PATIENCE, why="the warning")
        warning = await connection.fetchrow("select * from dispatcher.notices where kind = 'endpoint_failing'")
    # another process, which knows what is written down
    await failing_since(connection, webhook.id, hours=73, warned=49)
    async with mail_server() as later, living(database, connection, mail=later) as world:
        await world.insert("patient.created", "{}")
        await until(lambda: told_by(later) == everybody, timeout=PATIENCE, why="the mail about disabling")
        after = await world.admin.webhook(webhook.id)

    # two days from the warning, which came an hour late
    assert timedelta(days=2) - (warning["deadline"] - warning["last_attempt_at"]) < timedelta(minutes=1)
    assert (str(after.state), after.disabled_reason) == ("disabled", "it kept failing")


def told_by(sink: Sink) -> set[str]:
    """Who got a mail."""
    return {address for mail in sink.mails for address in mail.recipients}


async def failing_since(connection: Any, webhook_id: EndpointId, *, hours: int, warned: int | None = None) -> None:
    """Write down, before a worker takes it over, that a webhook has failed for so long."""
    await connection.execute(
        """
        insert into dispatcher.endpoint_health as health (endpoint_id, failing_since, warned_at)
        values ($1, now() - make_interval(hours => $2), now() - make_interval(hours => $3))
        on conflict (endpoint_id) do update
        set failing_since = excluded.failing_since, warned_at = excluded.warned_at, cool_until = null
        """,
        webhook_id,
        hours,
        warned,
    )
