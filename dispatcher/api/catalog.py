"""The catalogue for everybody: `/asyncapi.json`, and `/catalog`, a searchable page that needs no network; and, for its
owner, the part of it that a webhook is subscribed to.

What is made of a catalogue is kept until another one comes into force.
"""

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from dispatcher.api.operations import ADMIN, Answer, Call, Operation, Reply
from dispatcher.catalog.catalog import Catalog
from dispatcher.catalog.export import export
from dispatcher.catalog.page import render
from dispatcher.model import EndpointId

TAG: Final = "Event types"

INLINE: Final = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)
"""What the page brings along; the template has no other spelling of these."""


class AsyncApi(BaseModel):
    """An AsyncAPI 3.0 document."""

    model_config = ConfigDict(extra="allow")

    asyncapi: str
    info: dict[str, Any]
    channels: dict[str, Any] = {}
    """One for each event type; left out where there is none."""


@dataclass(frozen=True, slots=True)
class _Made:
    """What is served of one catalogue."""

    catalog: Catalog
    document: bytes
    page: str
    policy: str


MADE: Final = web.AppKey("made", list[_Made])
"""At most one: of the catalogue in force."""


def add_to(app: web.Application) -> None:
    """Add the open routes."""
    app[MADE] = []
    app.add_routes([web.get("/asyncapi.json", _asyncapi), web.get("/catalog", _page)])


async def _asyncapi(request: web.Request) -> web.Response:
    return web.Response(body=(await _made(request)).document, content_type="application/json")


async def _page(request: web.Request) -> web.Response:
    made = await _made(request)
    headers = {"Content-Security-Policy": made.policy, "Referrer-Policy": "no-referrer"}
    return web.Response(text=made.page, content_type="text/html", headers=headers)


async def _made(request: web.Request) -> _Made:
    catalog = await request.app[ADMIN].catalog()
    kept = request.app[MADE]
    if not kept or kept[0].catalog is not catalog:
        kept[:] = [_make(catalog)]
    return kept[0]


def _make(catalog: Catalog) -> _Made:
    page = render(catalog)
    return _Made(catalog, json.dumps(export(catalog), ensure_ascii=False, indent=1).encode(), page, _policy(page))


def _policy(page: str) -> str:
    """Allow the page's own script and styles, by their hashes, and nothing else."""
    allowed: dict[str, list[str]] = {"script": [], "style": []}
    for kind, text in INLINE.findall(page):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        allowed[kind].append(f"'sha256-{digest}'")
    scripts, styles = (" ".join(allowed[kind]) or "'none'" for kind in ("script", "style"))
    return (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )


async def of_webhook(call: Call) -> Reply:
    """Give the part of the catalogue that a webhook is subscribed to."""
    webhook = await call.admin.webhook(EndpointId(call.uuid()), tenant=call.tenant)
    catalog = await call.admin.catalog()
    names = {one.name for pattern in webhook.subscriptions for one in catalog.matching(pattern)}
    return Reply(export(catalog, names, payloads=False))


OPERATIONS: Final = (
    Operation(
        name="describeWebhookEvents",
        method="GET",
        path="/v1/webhook/{id}/asyncapi.json",
        handler=of_webhook,
        summary="Describe a webhook's event types",
        description=(
            "An AsyncAPI 3.0 document of the catalogue's event types that the webhook is subscribed to. "
            "The whole catalogue is at `/asyncapi.json`, and as a page at `/catalog`."
        ),
        tag=TAG,
        thing="webhook",
        answers={200: Answer("An AsyncAPI 3.0 document.", AsyncApi)},
    ),
)
