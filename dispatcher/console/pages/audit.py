"""What was done in the console, and by whom."""

from typing import Final

from aiohttp import web

from dispatcher.console.view import Page, View


async def show(view: View) -> web.StreamResponse:
    """List what was done, the latest first."""
    target = view.given("target")
    page = await view.admin.audit_page(target=target, cursor=view.given("cursor"))
    return view.render("audit.html", page=page, target=target)


PAGES: Final = (Page("audit", "/audit", show),)
