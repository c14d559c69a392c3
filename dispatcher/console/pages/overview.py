"""The first page: how things stand, and how they went."""

from typing import Final

from aiohttp import web

from dispatcher.console.view import Page, View


async def show(view: View) -> web.StreamResponse:
    """Show how things stand."""
    return view.render("overview.html")


PAGES: Final = (Page("overview", "/", show),)
