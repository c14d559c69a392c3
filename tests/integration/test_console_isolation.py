"""A tenant's own pages lead to nothing of another tenant: on every path that there is, with every id."""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from dispatcher.admin import ReplayDraft
from dispatcher.console.pages import PAGES
from dispatcher.console.view import Page
from dispatcher.model import EndpointId
from support.admin import attempt, fan_out, make_webhook, pending_of, send
from support.pages import Answer, Served, Visitor, serving_pages

OF_TENANTS = [page for page in PAGES if page.in_portal]

OWN = ("endpoints", "deliveries", "replays")
"""What a tenant has pages of."""


@dataclass(frozen=True, slots=True)
class Things:
    """Somebody's things, by noun of the path."""

    ids: Mapping[str, str]
    event: str

    @property
    def all(self) -> list[str]:
        """Whatever can be named."""
        return [*self.ids.values(), self.event]


@pytest.fixture
async def served(database: str) -> AsyncIterator[Served]:
    """Both listeners."""
    async with serving_pages(database) as served:
        yield served


async def things_of(served: Served, database: str, tenant: str) -> Things:
    """Make one of each."""
    webhook = await make_webhook(served.admin, tenant, "*", description=f"of {tenant}")
    event = await send(served.admin, tenant)
    connection = await asyncpg.connect(database)
    try:
        # no number that pages are full of
        sequence = await connection.fetchval("select pg_get_serial_sequence('dispatcher.deliveries', 'id')")
        await connection.execute("select setval($1::regclass, 700000000 + nextval($1::regclass) % 1000)", sequence)
        await fan_out(connection)
        delivery = await pending_of(connection, event)
        await attempt(connection, delivery, status=500)
    finally:
        await connection.close()
    replay = await served.admin.create_replay(EndpointId(webhook), ReplayDraft())
    return Things({"endpoints": str(webhook), "deliveries": str(delivery), "replays": str(replay.id)}, str(event))


def missing() -> Things:
    """Ids that nobody has."""
    return Things({"endpoints": str(uuid4()), "deliveries": "999999999", "replays": str(uuid4())}, str(uuid4()))


async def asked(guest: Visitor, page: Page, things: Things, token: str) -> Answer:
    """Ask for a page of a thing, with all that a form could name, too."""
    noun = page.path.split("/")[1]
    path = "/portal" + re.sub(r"\{id\}", things.ids[noun], page.path)
    path = re.sub(r"\{[a-z_]+\}", "1", path)
    if page.method == "GET":
        return await guest.get(path, allow_redirects=False)
    fields: dict[str, Any] = {"form_token": token, "webhook": things.ids["endpoints"], "subscriptions": "*"}
    return await guest("POST", path, data=fields, allow_redirects=False)


def told(answer: Answer, things: Things) -> tuple[int, str]:
    """What an answer says, but for the ids that were asked for."""
    html = answer.html
    for id_ in things.all:
        html = html.replace(id_, "ID")
    return answer.status, html


async def test_every_page_with_an_id_is_walked() -> None:
    """A noun that comes new needs an example here."""
    assert {page.path.split("/")[1] for page in OF_TENANTS} == set(OWN)


async def test_anothers_things_answer_as_if_they_did_not_exist(served: Served, database: str) -> None:
    """To the letter, on every path; and nothing of theirs changes."""
    theirs, nobodys = await things_of(served, database, "beta"), missing()
    await things_of(served, database, "acme")
    guest = await served.guest("acme")
    token = (await guest.get("/portal/endpoints/new")).page.form("/endpoints/new").fields["form_token"]
    webhook = EndpointId(UUID(theirs.ids["endpoints"]))
    before = await served.admin.webhook(webhook)

    walked = [page for page in OF_TENANTS if "{id}" in page.path]
    others = [told(await asked(guest, page, theirs, token), theirs) for page in walked]
    unknown = [told(await asked(guest, page, nobodys, token), nobodys) for page in walked]

    assert [(page.path, status) for page, (status, _) in zip(walked, others, strict=True)] == [
        (page.path, 404) for page in walked
    ]
    assert others == unknown
    assert await served.admin.webhook(webhook) == before
    assert (await served.admin.audit_page(tenant="beta")).entries == ()


async def test_anothers_ids_find_nothing_as_filters(served: Served, database: str) -> None:
    """In the query or the form of every page."""
    theirs, nobodys = await things_of(served, database, "beta"), missing()
    await served.admin.create_tenant("acme")
    guest = await served.guest("acme")
    token = (await guest.get("/portal/endpoints/new")).page.form("/endpoints/new").fields["form_token"]

    async def found(things: Things) -> list[tuple[int, str]]:
        answers = []
        for page in (page for page in OF_TENANTS if "{" not in page.path):
            webhook, delivery = things.ids["endpoints"], things.ids["deliveries"]
            for query in (
                {"webhook": webhook},
                {"event": things.event},
                {"search": webhook},
                {"id": delivery},
                {"tested": delivery},
            ):
                if page.method == "GET":
                    answers.append(await guest.get(f"/portal{page.path}", params=query))
                else:
                    answers.append(await guest("POST", f"/portal{page.path}", data={"form_token": token, **query}))
        return [told(answer, things) for answer in answers]

    assert await found(theirs) == await found(nobodys)


async def test_no_list_shows_anothers(served: Served, database: str) -> None:
    """Neither ids nor names, whatever tenant is asked for."""
    theirs = await things_of(served, database, "beta")
    mine = await things_of(served, database, "acme")
    guest = await served.guest("acme")

    texts = [
        (await guest.get(f"/portal/{noun}{query}")).html
        for noun in OWN
        for query in ("", "?tenant=beta", "?search=beta")
    ]

    assert not any(id_ in text for text in texts for id_ in theirs.all)
    assert not any("of beta" in text for text in texts)
    assert mine.ids["endpoints"] in texts[0]


async def test_no_page_of_operators_is_there(served: Served) -> None:
    """It answers as a path that nobody has."""
    await served.admin.create_tenant("acme")
    guest = await served.guest("acme")
    hidden = {page.path for page in PAGES if not page.in_portal} - {page.path for page in OF_TENANTS}

    statuses = {
        path: (await guest.get(f"/portal{re.sub(r'{[a-z_]+}', '1', path)}")).status for path in hidden if path != "/"
    }

    assert set(statuses.values()) == {404}
