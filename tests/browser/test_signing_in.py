"""Operators get in by name and password, nobody else does, and the way in is open to everybody who has them."""

from typing import Any, Literal

import pytest

from support.browser import MARKS, PHONE, Open, Screen
from support.console import OPERATOR, PASSWORD, Console

pytestmark = MARKS


async def test_an_operator_signs_in(stranger: Screen, console: Console) -> None:
    """Who wanted to see a page gets there by signing in, and the page says who looks."""
    await stranger.go("/audit")
    await stranger.page.get_by_label("Name").fill(OPERATOR)
    await stranger.page.get_by_label("Password").fill(PASSWORD)
    await stranger.page.get_by_role("button", name="Sign in").click()

    await stranger.page.get_by_role("heading", name="Audit log").wait_for()
    assert await stranger.page.get_by_text(f"signed in as {OPERATOR}").is_visible()
    assert stranger.page.url == f"{console.url}/audit"


async def test_an_operator_signs_in_by_keyboard(stranger: Screen) -> None:
    """The first field has the focus; Tab and Enter do the rest."""
    await stranger.go("/sign-in")
    await stranger.page.keyboard.type(OPERATOR)
    await stranger.press("Tab")
    await stranger.page.keyboard.type(PASSWORD)
    await stranger.press("Enter")

    await stranger.page.get_by_role("heading", name="Overview").wait_for()


async def test_an_operator_signs_in_without_scripts(open_screen: Open, console: Console) -> None:
    """The form is a form."""
    screen = await open_screen(scripts="off")

    await console.sign_in(screen)

    await screen.page.get_by_role("heading", name="Overview").wait_for()


async def test_a_wrong_password_is_refused(stranger: Screen, console: Console) -> None:
    """It is said what is wrong, not which of the two, and no page is seen."""
    stranger.expect("status of 403")

    await console.sign_in(stranger, password="wrong")

    assert "do not go together" in await stranger.page.get_by_role("alert").inner_text()
    await stranger.go("/")
    assert stranger.page.url == f"{console.url}/sign-in"


async def test_an_operator_signs_out(open_screen: Open, console: Console) -> None:
    """The session is over, also for who kept the cookie."""
    screen = await open_screen()
    await console.sign_in(screen)
    await screen.page.get_by_role("heading", name="Overview").wait_for()
    kept = await screen.state()

    await screen.page.get_by_role("button", name="Sign out").click()

    await screen.page.get_by_text("You are signed out.").wait_for()
    again = await open_screen(state=kept)
    await again.go("/audit")
    assert "/sign-in" in again.page.url


@pytest.mark.parametrize("colours", ["light", "dark"])
async def test_nobody_is_kept_out(open_screen: Open, colours: Literal["light", "dark"]) -> None:
    """The page to sign in has no barrier, in both colours, on a phone, and with the keyboard alone."""
    screen = await open_screen(colours=colours, size=PHONE)

    await screen.go("/sign-in")

    assert await screen.barriers() == []
    assert await screen.overflowing() == []
    assert await screen.unreachable() == []


async def test_nothing_is_asked_elsewhere(stranger: Screen, console: Console) -> None:
    """Every script and style comes from the console itself."""
    await console.sign_in(stranger)
    await stranger.page.get_by_role("heading", name="Overview").wait_for()

    assert {".css", ".js"} <= {f".{url.partition('?')[0].rpartition('.')[2]}" for url in stranger.asked}
    assert all(url.startswith(f"{console.url}/") for url in stranger.asked)


async def test_a_session_is_no_use_to_scripts(screen: Screen, signed_in: Any) -> None:
    """No cookie is within their reach."""
    await screen.go("/")

    assert signed_in["cookies"]
    assert await screen.page.evaluate("document.cookie") == ""
