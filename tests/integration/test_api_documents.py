"""The API's documentation: a document that programs accept, a page that needs nothing from elsewhere."""

import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any

import pytest
from openapi_spec_validator import validate

from dispatcher.api.app import OPERATIONS
from dispatcher.api.openapi import document
from dispatcher.api.problems import KINDS
from support.api import Client, serving_api


@pytest.fixture
async def api(database: str) -> AsyncIterator[Client]:
    """Anybody: no key is shown."""
    async with serving_api(database) as client:
        yield Client(client.url, client.admin, "", "", client.session)


async def test_the_served_document_is_valid(api: Client) -> None:
    """OpenAPI 3.1, with what arrives at webhooks."""
    served = await api.ok("GET", "/openapi.json")

    validate(served)
    assert served["openapi"].startswith("3.1.")
    assert set(served["webhooks"]["event"]["post"]["requestBody"]["content"]) == {"application/json"}
    assert served == document(OPERATIONS)


def test_every_operation_is_described() -> None:
    """Each has a name of its own, a summary, and a tag that has a description."""
    described = document(OPERATIONS)

    tags = {tag["name"] for tag in described["tags"]}
    assert len({operation.name for operation in OPERATIONS}) == len(OPERATIONS)
    assert {operation.tag for operation in OPERATIONS} == tags
    assert all(operation.summary for operation in OPERATIONS)


def test_every_reference_leads_somewhere_and_nothing_lies_about() -> None:
    """Each schema is used, each reference is there."""
    described = document(OPERATIONS)

    def references(node: Any) -> set[str]:
        match node:
            case dict():
                own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
                return own.union(*map(references, node.values()))
            case list():
                return set().union(*map(references, node))
        return set()

    schemas = {f"#/components/schemas/{name}" for name in described["components"]["schemas"]}
    responses = {f"#/components/responses/{name}" for name in described["components"]["responses"]}
    found = references(described)
    assert found <= schemas | responses
    assert schemas <= found


class Page(HTMLParser):
    """Takes note of what a page loads, and where it leads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note it."""
        self.tags.append(tag)
        for name, value in attributes:
            if name in {"href", "src"} and value is not None:
                self.links.append(value)
            if name == "id" and value is not None:
                self.ids.add(value)


async def test_the_page_loads_nothing_but_its_own_style(api: Client) -> None:
    """No script, no other host, no inline style; the policy forbids all of it besides."""
    answer = await api("GET", "/docs")
    page = Page(answer.body)
    style = await api("GET", "/docs/docs.css")

    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert not {"script", "iframe", "img", "style"} & set(page.tags)
    assert all(link.startswith(("#", "/")) for link in page.links)
    assert (style.status, style.headers["Content-Type"]) == (200, "text/css")
    assert not re.search(r"url\(|@import", style.body)


async def test_the_page_shows_everything_and_its_links_hold(api: Client) -> None:
    """Every operation, schema and sort of problem has its place, and every link into the page its target."""
    page = Page((await api("GET", "/docs")).body)

    missing = {link for link in page.links if link.startswith("#")} - {f"#{name}" for name in page.ids}
    assert missing == set()
    assert {operation.name for operation in OPERATIONS} <= page.ids
    assert {kind.name for kind in KINDS} <= page.ids


async def test_the_documentation_needs_no_key(api: Client) -> None:
    """It is the same for all."""
    statuses = [(await api("GET", path)).status for path in ("/openapi.json", "/docs", "/docs/docs.css")]

    assert statuses == [200, 200, 200]
