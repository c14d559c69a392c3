"""The machine's own Chromium, and what a test wants to know of a page: is it sound, can it be reached, what does it ask for?

    async with running() as browser, showing(browser, [service.console]) as screen:
        await screen.go("/sign-in")
        assert await screen.barriers() == []

A screen takes note of whatever must not happen: a request that leaves the listeners, an error in the browser's console, a
breach of the content security policy. `faults` holds them; `showing` fails in the end if there are any.
"""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Request, async_playwright

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")

NOWHERE: Final = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
"""Whatever a page asks for elsewhere, no name is looked up."""

PHONE: Final = (360, 740)
DESK: Final = (1280, 800)
"""Width and height in pixels."""

GRAVE: Final = ("serious", "critical")
"""What axe-core calls a barrier for people; the rest is advice."""

WAIT_MILLISECONDS: Final = 20_000
"""For a page, or for something to appear on it, on a machine that does much else."""

MOST_TABBED: Final = 60
"""Things of a page that are gone through by the Tab key; what is behind is rows like those before."""

REPORTS: Final = "/csp-report"

INTERACTIVE: Final = """
    [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex="0"]')].filter(
      (one) => one.tabIndex >= 0 && !one.disabled && one.type !== 'hidden' && one.checkVisibility({visibilityProperty: true})
        && !(one.type === 'radio' && !one.checked && document.querySelector(`input[name="${one.name}"]:checked`))
    )
"""
"""What a person can act upon."""

NAME: Final = """
    (one) => `${one.localName} ${(one.ariaLabel || one.textContent || one.name || one.id || '').trim().slice(0, 60)}`
"""


def program() -> str | None:
    """The browser; None if the machine has none (Debian: `apt-get install chromium`)."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


MARKS: Final = [
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="session"),  # one browser serves all
    pytest.mark.xdist_group("browser"),
]
"""Of every module with browser tests: `pytestmark = MARKS`."""


@asynccontextmanager
async def running() -> AsyncIterator[Browser]:
    """Run the browser, without a window."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program(),
            chromium_sandbox=False,  # which root cannot have
            args=[NOWHERE],
        )
        yield browser
        await browser.close()


@asynccontextmanager
async def showing(
    browser: Browser,
    origins: Sequence[str],
    *,
    size: tuple[int, int] = DESK,
    colours: Literal["light", "dark"] = "light",
    scripts: Literal["on", "off"] = "on",
    state: Any = None,
) -> AsyncIterator["Screen"]:
    """Open a page of its own; the first of `origins`, the only ones that it may ask, is what paths are meant of.

    `state`: cookies of somebody who is signed in, see `Screen.state`.
    """
    width, height = size
    context = await browser.new_context(
        base_url=origins[0],
        viewport={"width": width, "height": height},
        color_scheme=colours,
        java_script_enabled=scripts == "on",
        storage_state=state,
        reduced_motion="reduce",
        locale="en-GB",
        timezone_id="UTC",
    )
    try:
        context.set_default_timeout(WAIT_MILLISECONDS)
        screen = Screen(context, await context.new_page(), origins)
        yield screen
        assert not screen.faults, "\n".join(screen.faults)
    finally:
        await context.close()


class Screen:
    """One page, and what happened on it that must not."""

    def __init__(self, context: BrowserContext, page: Page, origins: Sequence[str]) -> None:
        self.page = page
        self.asked: list[str] = []
        """Every address that was asked for."""
        self._context = context
        self._origins = tuple(f"{origin}/" for origin in origins)
        self._faults: list[str] = []
        self._expected: list[str] = []
        context.on("request", self._on_request)
        context.on("console", self._on_console)
        context.on("dialog", self._on_dialog)
        context.on("weberror", lambda error: self._faults.append(f"script: {error.error}"))

    def _on_request(self, request: Request) -> None:
        self.asked.append(request.url)
        if request.url.endswith(REPORTS):
            self._faults.append(f"policy: {request.post_data}")
        elif not request.url.startswith((*self._origins, "data:", "about:", "blob:")):
            self._faults.append(f"outside: {request.url}")

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._faults.append(f"console: {message.text}")

    async def _on_dialog(self, dialog: Dialog) -> None:
        self._faults.append(f"dialog: {dialog.message}")
        await dialog.dismiss()

    @property
    def faults(self) -> list[str]:
        """What must not happen and did: `outside: …`, `policy: …`, `console: …`, `script: …`, `dialog: …`."""
        return [fault for fault in self._faults if not any(re.search(one, fault) for one in self._expected)]

    def expect(self, fault: str) -> None:
        """Let what matches this regular expression happen."""
        self._expected.append(fault)

    async def go(self, path: str) -> int:
        """Go to a path, or a whole address; its status."""
        response = await self.page.goto(path)
        assert response is not None
        return response.status

    async def become(self, size: tuple[int, int], colours: Literal["light", "dark"]) -> None:
        """Show the same page in another size, and in other colours."""
        width, height = size
        await self.page.set_viewport_size({"width": width, "height": height})
        await self.page.emulate_media(color_scheme=colours, reduced_motion="reduce")

    async def state(self) -> Any:
        """The cookies, for other screens."""
        return await self._context.storage_state()

    async def barriers(self) -> list[str]:
        """What axe-core finds that keeps people out: rule, and the first element that breaks it."""
        await self.page.evaluate(axe())
        found = await self.page.evaluate("axe.run({resultTypes: ['violations']})")
        return [
            f"{violation['id']}: {violation['nodes'][0]['html']} ({violation['nodes'][0]['failureSummary']})"
            for violation in found["violations"]
            if violation["impact"] in GRAVE
        ]

    async def unreachable(self) -> list[str]:
        """What a person could act upon, but does not get to with the Tab key, or does not see that they are there."""
        await self.page.evaluate(f"""() => {{
            window.wanted = {INTERACTIVE}
            window.seen = new Set()
            document.activeElement.blur()
            document.addEventListener('focusin', ({{target}}) => {{
              const style = getComputedStyle(target)
              if (style.outlineStyle !== 'none' || style.boxShadow !== 'none') window.seen.add(target)
            }})
        }}""")
        count = min(await self.page.evaluate("window.wanted.length"), MOST_TABBED)
        for _ in range(count + 1):  # a field for a date takes up to eight, one for each of its parts
            await asyncio.gather(*(self.page.keyboard.press("Tab") for _ in range(8)))
            if await self.page.evaluate(
                "(count) => window.wanted.slice(0, count).every((one) => window.seen.has(one))", count
            ):
                break
        await self.page.evaluate(
            "(count) => window.wanted.slice(count).forEach((one) => one.focus({focusVisible: true}))", count
        )
        missed: list[str] = await self.page.evaluate(
            f"window.wanted.filter((one) => one.isConnected && !window.seen.has(one)).map({NAME})"
        )
        return missed

    async def overflowing(self) -> list[str]:
        """What sticks out of the page to the right, so that one has to scroll sideways; what scrolls by itself may."""
        sticking: list[str] = await self.page.evaluate(f"""() => {{
            const root = document.documentElement
            if (root.scrollWidth <= root.clientWidth) return []
            const scrolls = (one) => one && (['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(one).overflowX)
              || scrolls(one.parentElement))
            return ['the page', ...[...document.body.querySelectorAll('*')].filter(
              (one) => one.getBoundingClientRect().right > root.clientWidth + 1 && !scrolls(one.parentElement)
            ).map({NAME})]
        }}""")
        return sticking

    async def press(self, *keys: str) -> None:
        """Press keys, one after the other: `Tab`, `Enter`, `Space`, letters."""
        for key in keys:
            await self.page.keyboard.press(key)


Open = Callable[..., Any]
"""As `showing` without its first arguments: opens a screen that is closed, and judged, when the test ends."""


@cache
def axe() -> str:
    """axe-core, as text."""
    return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
