"""Take a picture of every page of the console, full of made-up data: `make screenshots`, or

python -m support.screenshots docs/screenshots
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from playwright.async_api import Browser

from dispatcher.embedded import EmbeddedPostgres
from support.browser import DESK, PHONE, Screen, program, running, showing
from support.lively import Lively, lively
from support.postgres import clone_template, running_server

COLOURS: Final[Sequence[Literal["light", "dark"]]] = ("light", "dark")

TALLEST: Final = 1600
"""Pixels; what is below is more of the same."""

ON_A_PHONE: Final = ("overview", "deliveries", "delivery")
"""Pages that are shown small, too."""

SETTLE_MILLISECONDS: Final = 400
"""For plots to be drawn, and for the live tail to say something."""


async def take(server: EmbeddedPostgres, folder: Path) -> None:
    """Make the data, and take the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    async with lively(server.url_of(await clone_template(server))) as world, running() as browser:
        operator = await _signed_in(world, browser, folder)
        guest = await _came_by_link(world, browser)
        for colours in COLOURS:
            await _shoot(browser, world.console.url, operator, world.pages(), folder, suffix=colours, colours=colours)
        await _shoot(browser, world.console.api, guest, world.portal_pages(), folder, suffix="portal")
        small = {name: path for name, path in world.pages().items() if name in ON_A_PHONE}
        await _shoot(browser, world.console.url, operator, small, folder, suffix="phone", size=PHONE)


async def _signed_in(world: Lively, browser: Browser, folder: Path) -> Any:
    async with showing(browser, [world.console.url]) as screen:
        await screen.go("/sign-in")
        await _picture(screen, folder / "sign_in-light.png")
        await world.console.sign_in(screen)
        await screen.page.get_by_role("heading", level=1).wait_for()
        return await screen.state()


async def _came_by_link(world: Lively, browser: Browser) -> Any:
    async with showing(browser, [world.console.api]) as screen:
        await screen.go(world.portal)
        return await screen.state()


async def _shoot(
    browser: Browser,
    origin: str,
    state: Any,
    pages: Mapping[str, str],
    folder: Path,
    *,
    suffix: str,
    colours: Literal["light", "dark"] = "light",
    size: tuple[int, int] = DESK,
) -> None:
    """Take pictures of pages as one person sees them."""
    async with showing(browser, [origin], state=state, colours=colours, size=size) as screen:
        for name, path in pages.items():
            status = await screen.go(path)
            if status != 200:
                raise SystemExit(f"{path} answers {status}")
            await screen.page.wait_for_timeout(SETTLE_MILLISECONDS)
            await _picture(screen, folder / f"{name}-{suffix}.png")


async def _picture(screen: Screen, file: Path) -> None:
    """Take a picture of a page as if the window were as tall as the page is."""
    width = await screen.page.evaluate("window.innerWidth")
    height = await screen.page.evaluate("Math.max(document.documentElement.scrollHeight, window.innerHeight)")
    before = screen.page.viewport_size
    await screen.page.set_viewport_size({"width": width, "height": min(height, TALLEST)})
    await screen.page.screenshot(path=file)
    if before is not None:
        await screen.page.set_viewport_size(before)


def main(arguments: Sequence[str]) -> int:
    """Take the pictures into the folder that is named; the exit code."""
    if len(arguments) != 1 or program() is None:
        sys.stderr.write(
            "Name the folder for the pictures.\n"
            if program()
            else "No Chromium here (Debian: apt-get install chromium).\n"
        )
        return 2
    with running_server(None) as server:
        asyncio.run(take(server, Path(arguments[0])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
