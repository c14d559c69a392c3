"""A service in which much has happened: what pages look like that are full, for tests of them and for pictures.

Deliveries, attempts, mails and a replay are real ones, of a real service and a receiver that answers as subscribers do;
then hosts are given other names, and the weeks before are made up.
"""

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

import asyncpg

from dispatcher.console.pages import PAGES
from dispatcher.console.pages.system import EXAMINATION
from dispatcher.console.view import Page
from dispatcher.store.queries import load
from dispatcher.tally import LATENCIES
from support.console import Console, console_of
from support.mail import mail_server
from support.receiver import Behaviour, Receiver, answer, hang
from support.world import insert_event, make_endpoint, until

CATALOGUE: Final = Path(__file__).parents[2] / "examples" / "healthie" / "asyncapi.yaml"

TENANT: Final = "meadow-clinic"
"""Whose things the samples are, and whom the portal is shown for."""

SPREAD: Final = (*(0, 0, 0, 1, 1, 3, 6, 10, 18, 22, 14, 9, 5, 3, 2, 2, 1, 1, 1, 1), *([0] * (len(LATENCIES) - 19)))
"""Of a hundred attempts: most take 20 to 70 ms, a few a second."""


@dataclass(frozen=True, slots=True)
class Subscriber:
    """An endpoint, and how it answers."""

    tenant: str
    host: str
    path: str
    description: str
    behaviour: Behaviour
    calls: int = 60
    """Deliveries in a quarter of an hour of the past."""
    failing: int = 0
    """Hours for which it has failed by now."""
    columns: Mapping[str, Any] | None = None


FULL: Final = answer(
    500, headers={"Content-Type": "application/json"}, body=b'{"error": "database is read-only", "trace": "c1f2"}'
)
BUSY: Final = answer(503, headers={"Retry-After": "3600", "Content-Type": "text/plain"}, body=b"Back in an hour.")
GONE: Final = answer(404, headers={"Content-Type": "text/html"}, body=b"<h1>Not Found</h1>")
THANKS: Final = answer(200, headers={"Content-Type": "application/json"}, body=b'{"received": true}')
MAIL: Final = {"notification_email": "integrations@meadow-clinic.example"}

SUBSCRIBERS: Final = (
    Subscriber(TENANT, "app.meadow-clinic.example", "/webhooks", "Scheduling", THANKS, 220),
    Subscriber(TENANT, "billing.meadow-clinic.example", "/hooks/healthie", "Billing", answer(204), 90),
    Subscriber(TENANT, "crm.meadow-clinic.example", "/inbound", "CRM", FULL, 40, 19, MAIL),
    Subscriber(TENANT, "reports.meadow-clinic.example", "/events", "Reports", GONE, 30, 2, MAIL | {"retry_schedule": [0.1]}),
    Subscriber("northwind-physio", "hooks.northwind-physio.example", "/dispatcher", "", THANKS, 150),
    Subscriber("northwind-physio", "legacy.northwind-physio.example", "/in", "Old system", hang, 20, 30, {"timeout": 0.3}),
    Subscriber("glow-dermatology", "api.glow-dermatology.example", "/v2/webhooks", "", BUSY, 70, 1),
    Subscriber("glow-dermatology", "data.glow-dermatology.example", "/lake", "Data lake", THANKS, 310, 0, {"state": "paused"}),
    Subscriber("harbour-telehealth", "notify.harbour-telehealth.example", "/hook", "", answer(410), 10, 3, MAIL),
    Subscriber("harbour-telehealth", "events.harbour-telehealth.example", "/", "", answer(204), 120),
)  # fmt: skip

EVENTS: Final = (
    ("appointment.created", {"resource_id": "67890", "resource_id_type": "Appointment", "changed_fields": []}),
    ("appointment.updated", {"resource_id": "67890", "resource_id_type": "Appointment", "changed_fields": ["date", "provider_id"]}),
    ("patient.created", {"resource_id": "1208", "resource_id_type": "User", "changed_fields": []}),
    ("form_answer_group.created", {"resource_id": "553", "resource_id_type": "FormAnswerGroup", "changed_fields": []}),
    ("billing_item.created", {"resource_id": "90312", "resource_id_type": "BillingItem", "changed_fields": []}),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Lively:
    """A console with much to see."""

    console: Console
    samples: Mapping[str, str]
    """An id for each collection: `{"deliveries": "17"}`; all of them are `TENANT`'s."""
    portal: str
    """A link for the people of `TENANT`."""

    def pages(self) -> Mapping[str, str]:
        """Path of every page that operators have, by name."""
        return {page.name: self._path(page.path) for page in (*PAGES, *EXAMINATION) if is_page(page)}

    def portal_pages(self) -> Mapping[str, str]:
        """Path of every page that a tenant's people have, by name."""
        return {page.name: f"/portal{self._path(page.path)}" for page in PAGES if is_page(page) and page.in_portal}

    def _path(self, path: str) -> str:
        collection = path.split("/")[1]
        return re.sub(r"\{\w+(:[^}]*)?\}", lambda _: quote(self.samples[collection], safe=""), path)


def is_page(page: Page) -> bool:
    """Whether people read it: streams go on for ever, and a mail's preview is no page of ours."""
    return page.method == "GET" and not page.path.endswith(("/stream", "/preview"))


@asynccontextmanager
async def lively(database: str) -> AsyncIterator[Lively]:
    """Run a service on a database, and let much happen."""
    connection = await asyncpg.connect(database)
    try:
        async with Receiver() as receiver, mail_server() as mails:
            settings = {"smtp__host": "127.0.0.1", "smtp__port": str(mails.port), "retry__schedule": "2s,30m,2h,10h"}
            async with console_of(database, delivery__grace="1s", **settings) as console:
                await console.call("catalog", "import", str(CATALOGUE))
                endpoints = await _subscribe(connection, receiver)
                await _happen(connection)
                crm, reports = endpoints[2], endpoints[3]
                await until(lambda: len(mails.mails) >= 2, timeout=60, why="mails")
                await until(
                    partial(_waits, connection, endpoints[2]), timeout=60, why="what fails to have been tried twice"
                )
                receiver.on(SUBSCRIBERS[3].path, THANKS)
                replay = json.loads(await console.call("replay", "create", "--webhook", str(reports), "--since", "-1h"))
                await until(partial(_ended, connection, replay["id"]), timeout=30, why="the replay")
                await _make_up(connection, receiver, endpoints)
                samples = await _samples(connection, crm) | {"replays": replay["id"], "endpoints": str(crm)}
                yield Lively(console, samples, await portal_link(console, TENANT))
    finally:
        await connection.close()


async def portal_link(console: Console, tenant: str, *, expires_in: str = "1h") -> str:
    """Make a link for a tenant's people, as it is where the listener is."""
    made = json.loads(await console.call("portal", "link", tenant, "--expires-in", expires_in))
    return re.sub("^https?://[^/]+", console.api, made["url"])


async def _subscribe(connection: Any, receiver: Receiver) -> list[UUID]:
    endpoints = []
    for one in SUBSCRIBERS:
        receiver.on(one.path, one.behaviour)
        columns = {"description": one.description or None, **(one.columns or {})}
        endpoints.append(await make_endpoint(connection, receiver.url + one.path, tenant=one.tenant, **columns))
    return endpoints


async def _happen(connection: Any) -> None:
    """Insert events, some of a type that nobody knows."""
    for number in range(8):
        for tenant in sorted({one.tenant for one in SUBSCRIBERS}):
            event_type, payload = EVENTS[number % len(EVENTS)]
            await insert_event(connection, event_type, json.dumps(payload), tenant=tenant)
    await insert_event(connection, "lab_result.arrived", '{"id": 5, "note": "<b>not</b> bold"}', tenant=TENANT)


async def _ended(connection: Any, replay_id: str) -> bool:
    ended: bool = await connection.fetchval(
        "select finished_at is not null from dispatcher.replays where id = $1", UUID(replay_id)
    )
    return ended


async def _waits(connection: Any, endpoint: UUID) -> bool:
    """Whether nothing of an endpoint is tried again soon."""
    waits: bool = await connection.fetchval(
        "select count(*) > 0 and min(due_at) > now() + interval '1 minute' from dispatcher.deliveries where endpoint_id = $1",
        endpoint,
    )
    return waits


async def _make_up(connection: Any, receiver: Receiver, endpoints: list[UUID]) -> None:
    """Give hosts other names, and the service a past."""
    queries = load(__file__)
    await connection.execute(queries["remember_service"], list(SPREAD))
    for endpoint, one in zip(endpoints, SUBSCRIBERS, strict=True):
        await connection.execute(queries["name_endpoint"], endpoint, f"127.0.0.1:{receiver.port}", one.host)
        await connection.execute(queries["remember_endpoint"], endpoint, one.calls, one.failing)
    await connection.execute(queries["remember_tenants"])


async def _samples(connection: Any, endpoint: UUID) -> dict[str, str]:
    """Ids of a delivery that fails, of its event and of the mail about that."""
    delivery = await connection.fetchrow(
        "select id, event_id from dispatcher.deliveries where endpoint_id = $1 order by id limit 1", endpoint
    )
    mail = await connection.fetchval(
        "select mails.id from dispatcher.mails join dispatcher.endpoints on endpoints.id = endpoint_id where tenant = $1 limit 1",
        TENANT,
    )
    return {
        "deliveries": str(delivery["id"]),
        "events": str(delivery["event_id"]),
        "notices": str(mail),
        "catalogue": EVENTS[0][0],
    }
