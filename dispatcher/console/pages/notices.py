"""Notices: what was mailed, to whom, what waits, and what each mail says."""

from typing import Final

from aiohttp import web

from dispatcher.admin.mails import MailPage
from dispatcher.console import asking
from dispatcher.console.view import Page, View
from dispatcher.errors import InvalidInput
from dispatcher.model import EndpointId, NoticeKind
from dispatcher.store.mails import MailState

PREVIEW_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; sandbox; base-uri 'none'; frame-ancestors 'none'"
)
"""A mail carries its styles with it, and nothing in it may act."""


async def listing(view: View) -> web.StreamResponse:
    """List mails, the latest first, and what is not in a mail yet."""
    wrong: dict[str | None, str] = {}
    page = MailPage((), None)
    webhook = None
    try:
        asked = asking.uuid(view, "webhook")
        webhook = None if asked is None else EndpointId(asked)
        page = await view.admin.mails(
            tenant=view.given("tenant"),
            webhook=webhook,
            kind=asking.one_of(view, "kind", tuple(NoticeKind)),
            state=asking.one_of(view, "state", tuple(MailState)),
            cursor=view.given("cursor"),
        )
    except InvalidInput as error:
        wrong[error.field] = str(error)
    waiting = () if wrong else await view.admin.waiting_notices(tenant=view.given("tenant"), webhook=webhook)
    return view.render(
        "notices.html",
        page=page,
        waiting=waiting,
        wrong=wrong,
        kinds=tuple(NoticeKind),
        states=tuple(MailState),
        status=422 if wrong else 200,
    )


async def show(view: View) -> web.StreamResponse:
    """Show a mail."""
    details = await view.admin.mail(asking.identifier(view.part(), "mail"))
    return view.render("notice.html", mail=details.mail, text=details.text, notices=details.notices)


async def preview(view: View) -> web.StreamResponse:
    """Show a mail as its reader sees it, cut off from everything."""
    details = await view.admin.mail(asking.identifier(view.part(), "mail"))
    return web.Response(
        text=details.html, content_type="text/html", headers={"Content-Security-Policy": PREVIEW_POLICY}
    )


PAGES: Final = (
    Page("notices", "/notices", listing),
    Page("notice", "/notices/{id}", show),
    Page("preview_notice", "/notices/{id}/preview", preview),
)
