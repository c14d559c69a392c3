"""What others write, in payloads, URLs, headers, answers, names of types and of tenants, is shown and never runs."""

import html
from collections.abc import AsyncIterator, Mapping
from typing import Final
from urllib.parse import quote

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Route, expect

from support.browser import MARKS, Screen, showing
from support.console import Console
from support.hostile import MARK, TEXT, Hostile, hostile

pytestmark = MARKS

SILENT: Final = {"overview", "system", "doctor", "new_replay"}
"""Pages without a word of others."""

ASKED: Final = (
    *("search", "state", "failing", "cursor", "tenant", "webhook", "event_type", "status", "error_class", "verdict"),
    *("created_after", "created_before", "event", "id", "since", "until", "kind", "q", "target", "range", "check"),
    *("tested", "mark", "types", "causes", "rate", "url", "next"),
)
"""What addresses of pages may hold behind the question mark."""

INJECTED: Final = """
    [...document.querySelectorAll(
      'owned-x, [onerror], base, iframe, object, embed, script:not([src]):not([type="application/json"])'
    )].map((one) => one.outerHTML)
"""
"""Elements that no page of ours has."""

ODD: Final = "does not conform to the required format"
"""What browsers say of an instant that is none; they leave the field empty."""

FILL: Final = """(text) => {
    const form = document.querySelector('main form[method=post]')
    for (const field of form.querySelectorAll('input:not([type=hidden], [type=checkbox]), textarea')) {
      if (field.localName === 'input') field.type = 'text'
      field.value = text
    }
    form.submit()
}"""
"""Fill in all of a form, whatever its fields are for, and send it."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(database: str) -> AsyncIterator[Hostile]:
    """Where all mean harm."""
    async with hostile(database) as world:
        yield world


@pytest.fixture(scope="module")
def console(world: Hostile) -> Console:
    """The console that shows it."""
    return world.world.console


async def is_harmless(screen: Screen) -> bool:
    """See that nothing got into a page, and that nothing had to be stopped; return whether it tells hostile text."""
    assert await screen.page.evaluate(INJECTED) == []
    assert screen.faults == []
    return MARK in html.unescape(await screen.page.content())


def more(pages: Mapping[str, str]) -> Mapping[str, str]:
    """What pages show only if they are asked for it."""
    return {"refused": f"{pages['events']}?refused=1", "checked": f"{pages['delivery']}?check=1"}


async def test_hostile_text_is_shown_on_every_page_and_never_runs(screen: Screen, world: Hostile) -> None:
    """Each page tells it as it is; no element comes of it, and the policy had nothing to stop."""
    pages = dict(world.world.pages())
    telling = set()
    await screen.go(pages["endpoint"])
    await screen.page.get_by_role("button", name="Show or rotate").click()
    await screen.page.get_by_role("heading", name="Rotate").wait_for()
    assert await is_harmless(screen)

    for name, path in {**pages, **more(pages)}.items():
        assert await screen.go(path) == 200, name
        if await is_harmless(screen):
            telling.add(name)

    assert {*pages, *more(pages)} - telling == SILENT
    await screen.go(pages["delivery"])
    await expect(screen.page.get_by_label("Response body")).to_contain_text(TEXT)
    await expect(screen.page.get_by_label("Response headers")).to_contain_text(TEXT)


async def test_hostile_text_never_runs_in_a_tenants_pages(browser: Browser, world: Hostile) -> None:
    """What a tenant's people see is what operators see."""
    async with showing(browser, [world.world.console.api]) as screen:
        await screen.go(world.world.portal)

        for name, path in world.world.portal_pages().items():
            assert await screen.go(path) == 200, name
            assert await is_harmless(screen), name


async def test_hostile_text_never_runs_in_the_live_tail(screen: Screen, world: Hostile) -> None:
    """Rows come as HTML, made and escaped by the server."""
    await screen.go("/tail")
    await expect(screen.page.locator("#tail-state")).to_have_text("live")
    before = await screen.page.locator("#tail tr").count()

    await world.attempted()

    await expect(screen.page.locator("#tail tr")).not_to_have_count(before)
    assert await is_harmless(screen)


async def test_hostile_text_never_runs_in_the_preview_of_a_mail(screen: Screen, world: Hostile) -> None:
    """A page of its own, in which nothing may act anyway."""
    await screen.go(f"{world.world.pages()['notice']}/preview")

    assert await is_harmless(screen)


async def test_hostile_addresses_never_run(screen: Screen, world: Hostile) -> None:
    """What is asked for comes back in fields, in links to the next page, and in what is said of it."""
    screen.expect("status of (404|422)")
    screen.expect(ODD)
    query = "&".join(f"{name}={quote(TEXT)}" for name in ASKED)

    for path in ("/sign-in", "/<owned-x>", *world.world.pages().values()):
        await screen.go(f"{path}?{query}")
        await is_harmless(screen)


@pytest.mark.parametrize("path", ["/endpoints/new", "/replays/new"])
async def test_hostile_forms_never_run(screen: Screen, path: str) -> None:
    """What was typed comes back with what is wrong with it."""
    screen.expect("status of 422")
    screen.expect(ODD)
    await screen.go(path)

    async with screen.page.expect_navigation():
        await screen.page.evaluate(FILL, TEXT)

    assert await is_harmless(screen)


async def test_a_page_that_fails_to_escape_runs_nothing_and_is_told_of(screen: Screen, world: Hostile) -> None:
    """The policy of contents keeps what gets in from running; browsers report it, and the report is in the log."""
    screen.expect("^policy: ")
    screen.expect("^console: ")
    heard = len(world.world.console.service.logged("console.policy_violated"))

    async def unescape(route: Route) -> None:
        response = await route.fetch()
        await route.fulfill(response=response, body=html.unescape(await response.text()))

    await screen.page.route("**/deliveries/*", unescape)
    await screen.go(world.world.pages()["delivery"])

    assert await screen.page.locator("owned-x").count() > 0
    told = await world.world.console.service.says("console.policy_violated", count=heard + 1)
    assert "script-src" in told["report"]
