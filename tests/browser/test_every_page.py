"""Every page, full of things: no barrier, room on a telephone, keys reach all of it, and it can be read without scripts.

Pages are found by themselves; a new collection needs a sample in `support/lively.py`.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from dispatcher.console.pages import PAGES
from dispatcher.console.pages.system import EXAMINATION
from support.browser import MARKS, PHONE, Open, showing
from support.console import Console
from support.lively import Lively, is_page, lively

pytestmark = MARKS

NAMES = sorted(page.name for page in (*PAGES, *EXAMINATION) if is_page(page))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(database: str) -> AsyncIterator[Lively]:
    """Where much has happened."""
    async with lively(database) as world:
        yield world


@pytest.fixture(scope="module")
def console(world: Lively) -> Console:
    """The console that shows it."""
    return world.console


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def by_link(browser: Browser, world: Lively) -> Any:
    """The cookies of somebody who came by a tenant's link."""
    async with showing(browser, [world.console.api]) as screen:
        await screen.go(world.portal)
        return await screen.state()


@pytest.mark.parametrize("name", NAMES)
async def test_no_page_keeps_anybody_out(open_screen: Open, signed_in: Any, world: Lively, name: str) -> None:
    """No barrier, and nothing sticks out, in light on a desk and in dark on a telephone; keys reach all there is to act upon."""
    screen = await open_screen(state=signed_in)

    status = await screen.go(world.pages()[name])

    assert status == 200
    assert await screen.barriers() == []
    assert await screen.overflowing() == []
    assert await screen.unreachable() == []
    await screen.become(PHONE, "dark")
    assert await screen.barriers() == []
    assert await screen.overflowing() == []


async def test_every_page_can_be_read_without_scripts(open_screen: Open, signed_in: Any, world: Lively) -> None:
    """Headings and words are there; nothing waits for a script to come."""
    screen = await open_screen(state=signed_in, scripts="off")

    for name, path in world.pages().items():
        assert await screen.go(path) == 200, name
        assert len(await screen.page.locator("main").inner_text()) > 40, name
        assert await screen.page.locator("h1").count() == 1, name
        assert await screen.page.locator("[hx-trigger~=load]").count() == 0, name


async def test_no_page_of_the_portal_keeps_anybody_out(open_screen: Open, by_link: Any, world: Lively) -> None:
    """A tenant's people see the same pages, on a telephone."""
    screen = await open_screen(state=by_link, size=PHONE)

    for name, path in world.portal_pages().items():
        assert await screen.go(world.console.api + path) == 200, name
        assert await screen.barriers() == [], name
        assert await screen.overflowing() == [], name
