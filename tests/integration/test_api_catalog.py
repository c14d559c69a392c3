"""The catalogue over HTTP: the AsyncAPI document, the page, and the part of one webhook."""

import base64
import hashlib
import re
from pathlib import Path

from dispatcher.catalog.documents import read
from dispatcher.doorkeeper import Doorkeeper, Mode
from support.api import serving_api

HEALTHIE = Path(__file__).parents[2] / "examples" / "healthie" / "asyncapi.yaml"


async def test_without_a_catalogue_the_document_is_empty_and_valid(database: str) -> None:
    """Nobody needs to know whether there is one."""
    async with serving_api(database) as api:
        document = await api.ok("GET", "/asyncapi.json")
        page = await api("GET", "/catalog")

    assert (document["asyncapi"], document.get("channels") or {}) == ("3.0.0", {})
    assert page.status == 200


async def test_the_catalogue_is_served_to_everybody(database: str) -> None:
    """Without a key; an import is seen at once."""
    async with serving_api(database) as api:
        await api.admin.import_catalog(read([HEALTHIE]))

        document = await api.ok("GET", "/asyncapi.json", headers={"TENANT": None, "API-KEY": None})
        page = await api("GET", "/catalog", headers={"TENANT": None, "API-KEY": None})

    assert len(document["channels"]) == 167
    assert "appointment.created" in page.body


async def test_the_pages_policy_allows_its_own_script_and_nothing_else(database: str) -> None:
    """Every inline script and style is named by its hash; no other source is."""
    async with serving_api(database) as api:
        await api.admin.import_catalog(read([HEALTHIE]))
        page = await api("GET", "/catalog")

    policy = page.headers["Content-Security-Policy"]
    inline = re.findall(r"<(?:script|style)[^>]*>(.*?)</(?:script|style)>", page.body, re.DOTALL)
    hashes = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inline}
    assert hashes == set(re.findall(r"'sha256-([^']+)'", policy))
    assert "default-src 'none'" in policy
    assert not re.search(r"\son[a-z]+=|\sstyle=|https?://[^\"]*\.(?:js|css)", page.body)


async def test_a_webhook_is_described_by_what_it_is_subscribed_to(database: str) -> None:
    """Patterns and names of its subscriptions pick the channels; a stranger's webhook does not exist."""
    async with serving_api(database) as api:
        await api.admin.import_catalog(read([HEALTHIE]))
        created = await api.webhook("appointment.*")
        stranger = await api.other("other")

        document = await api.ok("GET", f"/v1/webhook/{created['id']}/asyncapi.json")
        refused = await stranger("GET", f"/v1/webhook/{created['id']}/asyncapi.json")

    addresses = {channel.get("address") or name for name, channel in document["channels"].items()}
    assert len(addresses) == 10
    assert all("appointment" in address for address in addresses)
    assert refused.status == 404


async def test_an_unknown_subscription_is_refused_with_near_misses(database: str) -> None:
    """When a catalogue is loaded and enforced, a typing error is a 422 that says what may have been meant."""
    async with serving_api(database, doorkeeper=Doorkeeper(Mode.ENFORCE)) as api:
        await api.admin.import_catalog(read([HEALTHIE]))

        answer = await api(
            "POST", "/v1/webhook/create", {"url": "https://example.com/", "subscriptions": ["apointment.created"]}
        )

    assert answer.status == 422
    assert "appointment.created" in str(answer.problem)
