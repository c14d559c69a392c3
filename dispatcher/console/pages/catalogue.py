"""The catalogue's event types: what their payloads look like, and how many endpoints want them."""

from typing import Final

from aiohttp import web

from dispatcher.catalog.page import describe
from dispatcher.console.view import Page, View


async def listing(view: View) -> web.StreamResponse:
    """List the event types."""
    catalog = await view.admin.catalog()
    wanted = (view.given("q") or "").lower()
    found = [
        one
        for one in catalog.event_types
        if wanted in " ".join((one.name, one.title, one.summary, *one.aliases, *one.tags)).lower()
    ]
    return view.render("catalogue.html", found=found, count=len(catalog.event_types))


async def show(view: View) -> web.StreamResponse:
    """Show one event type."""
    catalog = await view.admin.catalog()
    event_type = catalog.get(view.part("name"))
    if event_type is None:
        view.missing("such event type in the catalogue")
    return view.render("event_type.html", entry=describe(event_type), event_type=event_type)


PAGES: Final = (
    Page("catalogue", "/catalogue", listing),
    Page("event_type", "/catalogue/{name:.+}", show),
)
