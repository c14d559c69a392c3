"""Puts the console together: for operators on the ops listener, and for the people of one tenant on the tenants' listener."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
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
from dispatcher.console.pages import PAGES, system
from dispatcher.console.pages.system import EXAMINE, Examine
from dispatcher.console.pages.tail import OPEN, SLEEP
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
    examine: Examine | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> web.Application:
    """Make the ops listener's application: what machines ask for, and the operators' pages.

    `examine` makes the doctor's checks; `sleep` waits between two looks of a live tail.
    """
    app = web.Application(client_max_size=FORM_BYTES)
    ops.add_to(app, render=render, ready=ready)
    door = OperatorsDoor(admin, access, Throttle(monotonic=monotonic))
    app[ADMIN], app[IS_PORTAL], app[DOOR] = admin, False, door
    app[OPEN], app[SLEEP] = set(), sleep
    own = [
        Page("sign_in", "/sign-in", sign_in_page),
        Page("signing_in", "/sign-in", sign_in, "POST"),
        Page("sign_out", "/sign-out", sign_out, "POST"),
    ]
    _add(app, [*(own if access.trusted_header is None else ()), *PAGES])
    app.router.add_get("/static/{file}", _static, name="static")
    if examine is not None:
        app[EXAMINE] = examine
        _add(app, system.EXAMINATION)
    guard(app, door, monotonic=monotonic, proxies=access.trusted_proxies)
    return app


def make_portal(admin: Admin, *, secure: bool, monotonic: Callable[[], float]) -> web.Application:
    """Make the application for tenants' people, to be mounted at `PREFIX`; `secure`: they come by https."""
    app = web.Application(client_max_size=FORM_BYTES)
    app[ADMIN], app[IS_PORTAL], app[SECURE] = admin, True, secure
    own = [Page("enter", "/enter", enter), Page("portal", "", _begin)]
    _add(app, [*own, *(page for page in PAGES if page.in_portal)])
    app.router.add_get("/static/{file}", _static, name="static")
    guard(app, TenantDoor(admin, secure=secure), monotonic=monotonic, prefix=PREFIX)
    return app


def _add(app: web.Application, pages: Sequence[Page]) -> None:
    app.add_routes([routed(page) for page in pages])


async def _begin(view: View) -> web.StreamResponse:
    return view.redirect("endpoints")


async def _static(request: web.Request) -> web.Response:
    """Serve one of our own files."""
    found = _files().get(request.match_info["file"])
    if found is None:
        raise NotFound("There is no such file.")
    kind, data = found
    return web.Response(body=data, headers={"Content-Type": f"{kind}; charset=utf-8", "Cache-Control": FOR_EVER})


@cache
def _files() -> Mapping[str, tuple[str, bytes]]:
    """Read all that may be asked for, by name: no name leads out of the folder."""
    types = {file.name: TYPES.get(file.name.rpartition(".")[2]) for file in STATIC.iterdir()}
    return {name: (kind, (STATIC / name).read_bytes()) for name, kind in types.items() if kind is not None}
