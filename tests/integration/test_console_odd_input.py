"""Whatever is typed into an address or a form, the console answers with a page, and never with a fault of ours."""

import re
from collections.abc import AsyncIterator, Iterator
from urllib.parse import quote

import pytest

from dispatcher.console.pages import PAGES
from dispatcher.embedded import EmbeddedPostgres
from support.admin import make_webhook
from support.pages import Served, Visitor, serving_pages
from support.postgres import shared_clone

ODD = (
    "\0",
    "x" * 3000,
    "'; drop table x --",
    "<script>",
    "%",
    "-1",
    "9" * 30,
    "١٢",
    "\ufffd\u202e",
    "2026-13-45T99:99",
)

FILTERS = (
    *("search", "state", "failing", "tenant", "webhook", "event", "event_type", "type", "status", "error_class"),
    *("created_after", "created_before", "since", "until", "id", "q", "target", "tested", "range", "check", "kind"),
    *("refused", "url", "mark"),
)

ENDLESS = "/stream"


@pytest.fixture(scope="module")
def database(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """One for all."""
    with shared_clone(postgres_server) as url:
        yield url


@pytest.fixture
async def served(database: str) -> AsyncIterator[Served]:
    """Both listeners."""
    async with serving_pages(database) as served:
        yield served


@pytest.fixture
async def operator(served: Served) -> Visitor:
    """Somebody who sees everything."""
    return await served.operator()


LISTS = [page.path for page in PAGES if page.method == "GET" and "{" not in page.path and ENDLESS not in page.path]
THINGS = [page.path for page in PAGES if page.method == "GET" and "{" in page.path and ENDLESS not in page.path]


@pytest.mark.parametrize("path", LISTS)
async def test_odd_filters_are_answered(operator: Visitor, path: str) -> None:
    """With what is wrong, or with nothing found."""
    faults = []
    for text in ODD:
        queries = [dict.fromkeys(FILTERS, text), {"cursor": text}, *({name: text} for name in FILTERS)]
        for query in queries if text == "\0" else queries[:2]:
            answer = await operator.get(path, params=query, allow_redirects=False)
            if answer.status >= 500:
                faults.append((text[:20], sorted(query)))

    assert faults == []


@pytest.mark.parametrize("path", THINGS)
async def test_odd_ids_lead_nowhere(operator: Visitor, path: str) -> None:
    """404, as any other that is not there."""
    answers = [
        await operator.get(re.sub(r"\{[a-z_]+\}", quote(text, safe=""), path), allow_redirects=False) for text in ODD
    ]

    assert {answer.status for answer in answers} <= {404, 422}


async def test_odd_texts_of_a_form_are_answered(served: Served, operator: Visitor) -> None:
    """At the field, or they are taken."""
    webhook = await make_webhook(served.admin, "odd")
    form = await operator.get(f"/endpoints/{webhook}/edit")
    names = [name for name in form.page.form("/edit").fields if name != "form_token"]

    statuses = {
        (name, text[:10]): (await operator.submit(form, "/edit", **{name: text})).status
        for name in names
        for text in ODD
    }

    assert {key: status for key, status in statuses.items() if status not in (200, 422)} == {}
