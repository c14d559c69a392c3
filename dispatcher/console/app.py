"""Puts the console together: for operators on the ops listener, and for the people of one tenant on the tenants' listener."""

from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web

from dispatcher.admin import Admin
from dispatcher.console import ops
from dispatcher.console.doors import (
    DOOR,
    SECURE,
    Access,
    OperatorsDoor,
    TenantDoor,
    enter,
    sign_in,
    sign_in_page,
    sign_out,
)
from dispatcher.console.gate import guard
from dispatcher.console.pages import PAGES
from dispatcher.console.rendering import STATIC
from dispatcher.console.throttle import Throttle
from dispatcher.console.view import ADMIN, IS_PORTAL, Page, View, routed
from dispatcher.errors import NotFound

FOR_EVER: Final = "public, max-age=31536000, immutable"
"""Static files' addresses change with their content."""

TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}

PREFIX: Final = "/portal"
"""Where tenants' pages are mounted on their listener."""

FORM_BYTES: Final = 1 << 20
"""Of a posted form: far more than any has."""


def make_app(
    admin: Admin,
    *,
    render: ops.Render,
    ready: ops.Checks,
    access: Access,
    monotonic: Callable[[], float],
) -> web.Application:
    """Make the ops listener's application: what machines ask for, and the operators' pages."""
    app = web.Application(client_max_size=FORM_BYTES)
    ops.add_to(app, render=render, ready=ready)
    door = OperatorsDoor(admin, access, Throttle(monotonic=monotonic))
    app[ADMIN], app[IS_PORTAL], app[DOOR] = admin, False, door
    own = [Page("sign_in", "/sign-in", sign_in_page), Page("signing_in", "/sign-in", sign_in, "POST")]
    if access.trusted_header is None:
        own.append(Page("sign_out", "/sign-out", sign_out, "POST"))
    _add(app, [*own, *PAGES])
    guard(app, door)
    return app


def make_portal(admin: Admin, *, secure: bool) -> web.Application:
    """Make the application for tenants' people, to be mounted at `PREFIX`; `secure`: they come by https."""
    app = web.Application(client_max_size=FORM_BYTES)
    app[ADMIN], app[IS_PORTAL], app[SECURE] = admin, True, secure
    own = [Page("enter", "/enter", enter), Page("portal", "", _begin)]
    _add(app, [*own, *(page for page in PAGES if page.in_portal)])
    guard(app, TenantDoor(admin, secure=secure), prefix=PREFIX)
    return app


def _add(app: web.Application, pages: Sequence[Page]) -> None:
    app.add_routes([routed(page) for page in pages])
    app.router.add_get("/static/{file}", _static, name="static")


async def _begin(view: View) -> web.StreamResponse:
    return view.redirect("endpoints")


async def _static(request: web.Request) -> web.Response:
    """Serve one of our own files."""
    name = request.match_info["file"]
    kind = TYPES.get(name.rpartition(".")[2])
    if kind is None or not (STATIC / name).is_file():
        raise NotFound("There is no such file.")
    return web.Response(
        body=(STATIC / name).read_bytes(), headers={"Content-Type": f"{kind}; charset=utf-8", "Cache-Control": FOR_EVER}
    )
