"""Events, and for each of them who got it, who did not, and why."""

from typing import Final

from aiohttp import web

from dispatcher.console import asking
from dispatcher.console.view import Page, View
from dispatcher.errors import InvalidInput
from dispatcher.model import EventId


async def listing(view: View) -> web.StreamResponse:
    """List events, the newest first."""
    wrong: dict[str | None, str] = {}
    page = None
    try:
        wanted = asking.uuid(view, "id")
        if wanted is not None:
            return view.redirect("event", id=wanted)
        page = await view.admin.event_page(
            tenant=view.given("tenant"),
            event_type=view.given("event_type"),
            since=asking.instant(view, "since"),
            until=asking.instant(view, "until"),
            refused=view.given("refused") is not None,
            cursor=view.given("cursor"),
        )
    except InvalidInput as error:
        wrong[error.field] = str(error)
    return view.render("events.html", page=page, wrong=wrong, status=422 if wrong else 200)


async def show(view: View) -> web.StreamResponse:
    """Show an event, and what became of it endpoint by endpoint."""
    explanation = await view.admin.explain(_id(view))
    return view.render("event.html", event=explanation.event, explanation=explanation)


async def readmit(view: View) -> web.StreamResponse:
    """Let a refused event be read again."""
    event_id = _id(view)
    event = await view.admin.event(event_id)
    deed = view.deed("event.readmitted", target=event_id, tenant=event.tenant)
    await view.audited(deed, lambda admin: admin.readmit_event(event_id))
    return view.redirect("event", id=event_id, said="It is read again, and judged anew.")


def _id(view: View) -> EventId:
    return EventId(asking.identifier(view.part(), "event"))


PAGES: Final = (
    Page("events", "/events", listing),
    Page("event", "/events/{id}", show),
    Page("readmit_event", "/events/{id}/readmit", readmit, "POST"),
)
