"""The list of replays over all endpoints: in order, filtered, page by page, each to those it belongs to."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from dispatcher.admin import Admin, ReplayDraft, ReplayState
from dispatcher.errors import InvalidInput, NotFound
from support.admin import URL, make_webhook, open_admin


@pytest.fixture
async def admin(database: str) -> AsyncIterator[Admin]:
    """An `Admin` on a fresh database."""
    async with open_admin(database) as admin:
        yield admin


async def test_replays_are_listed_page_by_page_and_filtered(admin: Admin) -> None:
    """The latest first; by tenant, webhook and state."""
    ours, theirs = await make_webhook(admin), await make_webhook(admin, "other")
    first = (await admin.create_replay(ours, ReplayDraft())).id
    second = (await admin.create_replay(ours, ReplayDraft())).id
    other = (await admin.create_replay(theirs, ReplayDraft())).id
    await admin.cancel_replay(first)
    cases: list[tuple[dict[str, Any], list[Any]]] = [
        ({}, sorted([first, second, other], reverse=True)),
        ({"tenant": "acme"}, sorted([first, second], reverse=True)),
        ({"webhook": theirs}, [other]),
        ({"state": ReplayState.CANCELLED}, [first]),
        ({"state": ReplayState.DONE}, []),
        ({"tenant": "other", "state": ReplayState.CANCELLED}, []),
    ]

    for chosen, ids in cases:
        for limit in (1, 50):
            page = await admin.replay_page(**chosen, limit=limit)
            found = list(page.replays)
            while page.next_cursor is not None:
                page = await admin.replay_page(**chosen, limit=limit, cursor=page.next_cursor)
                found += page.replays
            assert [one.replay.id for one in found] == ids, chosen
            assert {one.url for one in found} <= {URL}


async def test_others_replays_do_not_exist(admin: Admin) -> None:
    """Nor do their webhooks."""
    await make_webhook(admin)
    theirs = await make_webhook(admin, "other")
    await admin.create_replay(theirs, ReplayDraft())

    assert (await admin.replay_page(tenant="acme")).replays == ()
    with pytest.raises(NotFound):
        await admin.replay_page(tenant="acme", webhook=theirs)
    with pytest.raises(NotFound):
        await admin.replay_page(tenant="none")


@pytest.mark.parametrize("keywords", [{"limit": 0}, {"limit": 251}, {"cursor": "x"}, {"cursor": "WyJyZXBsYXlzIiwxXQ"}])
async def test_what_cannot_be_meant_is_refused(admin: Admin, keywords: dict[str, Any]) -> None:
    """A limit out of bounds, a cursor that is none."""
    with pytest.raises(InvalidInput):
        await admin.replay_page(**keywords)
