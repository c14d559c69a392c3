"""The tenants' HTTP API on loopback, and a client that shows a key."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from dispatcher.addresses import AddressPolicy
from dispatcher.admin import Admin
from dispatcher.api.app import make_app
from dispatcher.clock import Clock
from dispatcher.doorkeeper import Doorkeeper
from dispatcher.sealing import Sealer
from dispatcher.store.pool import open_pool

HOOK = "https://example.com/hook"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: Any
    """Parsed, if it was JSON; else the text."""

    @property
    def problem(self) -> dict[str, Any]:
        """The problem that it is."""
        assert self.headers["Content-Type"] == "application/problem+json", self
        problem: dict[str, Any] = self.body
        return problem


@dataclass(frozen=True, slots=True)
class Client:
    """Calls the API as one tenant."""

    url: str
    admin: Admin
    tenant: str
    key: str
    session: aiohttp.ClientSession

    async def __call__(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        """Call it; `body` is sent as JSON, `options` are aiohttp's."""
        headers = {"TENANT": self.tenant, "API-KEY": self.key} | options.pop("headers", {})
        if body is not None:
            options["json"] = body
        sent = {name: value for name, value in headers.items() if value is not None}
        async with self.session.request(method, f"{self.url}{path}", headers=sent, **options) as answer:
            is_json = answer.content_type.endswith("json")
            return Answer(
                answer.status, answer.headers, await (answer.json(content_type=None) if is_json else answer.text())
            )

    async def ok(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """Call it, and return what it answers if that is no problem."""
        answer = await self(method, path, body, **options)
        assert answer.status < 300, answer
        return answer.body

    async def webhook(self, *subscriptions: str, **fields: Any) -> dict[str, Any]:
        """Create a webhook; without subscriptions it gets all."""
        draft = {"url": HOOK, "subscriptions": list(subscriptions) or ["*"]} | fields
        created: dict[str, Any] = await self.ok("POST", "/v1/webhook/create", draft)
        return created

    async def event(self, event_type: str = "appointment.created", payload: Any = None, **fields: Any) -> str:
        """Send an event and return its id."""
        sent = await self.ok("POST", "/v1/events", {"type": event_type, "payload": payload or {}} | fields)
        return str(sent["id"])

    async def other(self, tenant: str, *, operator: bool = False) -> "Client":
        """Return a client of another tenant, which is made if need be."""
        return await _client(self.url, self.admin, self.session, tenant, operator=operator)


@asynccontextmanager
async def serving_api(
    database: str,
    *,
    tenant: str = "acme",
    body_limit: int = 1 << 20,
    rate_limit: float = 0,
    sealer: Sealer | None = None,
    clock: Clock | None = None,
    https_only: bool = True,
    allow: Any = (),
    doorkeeper: Doorkeeper | None = None,
    statement_seconds: float | None = None,
) -> AsyncIterator[Client]:
    """Serve the API in this process, and give a client of a tenant."""
    pool = await open_pool(database, maximum=4, command_timeout=statement_seconds)
    clock = clock or Clock()
    admin = Admin(
        pool,
        sealer=sealer or Sealer(),
        policy=AddressPolicy(allow),
        https_only=https_only,
        clock=clock,
        doorkeeper=doorkeeper,
    )
    app = make_app(admin, body_limit=body_limit, rate_limit=rate_limit, monotonic=clock.monotonic)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with aiohttp.ClientSession() as session:
            yield await _client(f"http://{host}:{port}", admin, session, tenant, operator=False)
    finally:
        await runner.cleanup()
        await pool.close()


async def _client(url: str, admin: Admin, session: aiohttp.ClientSession, tenant: str, *, operator: bool) -> Client:
    if tenant not in {known.name for known in await admin.list_tenants()}:
        await admin.create_tenant(tenant)
    new = await admin.create_key(tenant, operator=operator)
    return Client(url, admin, tenant, new.key, session)
