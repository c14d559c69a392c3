"""Who may look: operators, by signing in or as a proxy in front says; and a tenant's people, by a link."""

import math
import secrets as entropy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlencode

import structlog
from aiohttp import web

from dispatcher.admin import Admin, ConsoleKey
from dispatcher.console.gate import Networks, carries, is_within, show_error
from dispatcher.console.throttle import Key, Throttle
from dispatcher.console.view import VIEWER, View, Viewer

logger = structlog.get_logger()

SESSION_COOKIE: Final = "dispatcher_session"
VISIT_COOKIE: Final = "dispatcher_visit"
"""Of a browser that was shown the form to sign in."""
LINK_COOKIE: Final = "dispatcher_portal"

LONGEST_NAME: Final = 255
"""Characters, as of all names."""

WRONG: Final = "That name and password do not go together."
STALE: Final = "This form was too old, or your browser keeps no cookies. Try it again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """By which rules operators are let in."""

    session: float
    """Seconds from signing in until one has to do so again."""
    trusted_header: str | None = None
    """A proxy names the operator in it; null: people sign in here."""
    trusted_proxies: Networks = ()
    secure: bool = False
    """Whether people come by https, so that cookies go no other way."""


class _KeyHolder:
    """Keeps the console's key once it was read: it never changes."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._key: ConsoleKey | None = None

    async def key(self) -> ConsoleKey:
        if self._key is None:
            self._key = await self._admin.console_key()
        return self._key


class OperatorsDoor(_KeyHolder):
    """Lets operators in."""

    def __init__(self, admin: Admin, access: Access, throttle: Throttle) -> None:
        super().__init__(admin)
        self.access = access
        self.throttle = throttle
        # a browser takes a cookie of that name only from this very host, by https: not from one beside it
        prefix = "__Host-" if access.secure else ""
        self.session_cookie = prefix + SESSION_COOKIE
        self.visit_cookie = prefix + VISIT_COOKIE

    async def identify(self, request: web.Request) -> Viewer | None:
        """Tell which operator looks."""
        if self.access.trusted_header is not None:
            name = self._named(request, self.access.trusted_header)
            return None if name is None else Viewer(name, None, (await self.key()).form_token(f"header:{name}"))
        token = request.cookies.get(self.session_cookie)
        name = None if token is None else await self._admin.operator_of(token)
        if token is None or name is None:
            return None
        return Viewer(name, None, (await self.key()).form_token(token))

    def _named(self, request: web.Request, header: str) -> str | None:
        """Return whom the proxy names; what others write into the header counts for nothing."""
        names = request.headers.getall(header, [])
        # of two one may be the browser's, to which the proxy only added; the peer, not for whom it says that it asks
        if len(names) != 1 or not is_within(_peer(request), self.access.trusted_proxies):
            return None
        name = names[0].strip().encode(errors="surrogateescape").decode(errors="replace")
        return name if name.isprintable() and 0 < len(name) <= LONGEST_NAME else None

    def refuse(self, request: web.Request) -> web.StreamResponse:
        """Send somebody to sign in, and back to where they wanted to go."""
        if self.access.trusted_header is not None:
            request[VIEWER] = Viewer("nobody", None, "")
            said = "The proxy in front did not say who you are. Come by the address that it serves."
            return show_error(request, said, status=403)
        back = {"next": request.path_qs} if request.method == "GET" and request.path != "/" else {}
        path = str(request.app.router["sign_in"].url_for())
        if request.headers.get("HX-Request"):  # a part of a page cannot become the page to sign in
            return web.Response(status=204, headers={"HX-Redirect": path})
        return web.Response(status=303, headers={"Location": f"{path}?{urlencode(back)}" if back else path})


DOOR: Final = web.AppKey("door", OperatorsDoor)


def _peer(request: web.Request) -> str:
    """Return who speaks to us, whatever they say of others."""
    peer = None if request.transport is None else request.transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""


class TenantDoor(_KeyHolder):
    """Lets the people of one tenant in, who came by a link."""

    def __init__(self, admin: Admin, *, secure: bool) -> None:
        super().__init__(admin)
        self.secure = secure

    async def identify(self, request: web.Request) -> Viewer | None:
        """Tell whose people look."""
        token = request.cookies.get(LINK_COOKIE)
        tenant = None if token is None else await self._admin.tenant_of_link(token)
        if token is None or tenant is None:
            return None
        return Viewer(f"portal:{tenant}", tenant, (await self.key()).form_token(token))

    def refuse(self, request: web.Request) -> web.StreamResponse:
        """Say that the link is over."""
        request[VIEWER] = Viewer("nobody", None, "")
        return show_error(request, OVER, status=403)


OVER: Final = "This link is over, or not whole. Get a new one where you got it."


async def sign_in_page(view: View) -> web.StreamResponse:
    """Show the form to sign in."""
    return await _form(view, None, next_path=view.request.query.get("next", ""), status=200)


async def sign_in(view: View) -> web.StreamResponse:
    """Sign somebody in."""
    door = view.request.app[DOOR]
    posted = await view.request.post()
    name, password, next_path = (_text(posted, field) for field in ("name", "password", "next"))
    name = name.strip()[:LONGEST_NAME]
    if not carries(posted, await _visit_token(view, view.request.cookies.get(door.visit_cookie, ""))):
        return await _form(view, STALE, next_path=next_path, status=409)
    keys: tuple[Key, ...] = (("name", name), ("address", view.request.remote or ""))
    wait = door.throttle.take(*keys)
    if wait:
        return await _form(view, f"Too many tries. Wait {math.ceil(wait)} s.", next_path=next_path, status=429)
    token = await view.admin.sign_in(name, password, lasting=door.access.session)
    if token is None:
        logger.warning("operator.refused", operator=name, address=view.request.remote)
        return await _form(view, WRONG, next_path=next_path, status=403)
    door.throttle.succeeded(*keys)
    logger.info("operator.signed_in", operator=name, address=view.request.remote)
    await view.admin.sign_out(view.request.cookies.get(door.session_cookie, ""))  # whose it ever was
    await view.admin.note(replace(view.deed("operator.signed_in", target=name), who=name))
    response = view.go(_local(next_path) or view.url("overview"))
    response.set_cookie(
        door.session_cookie,
        token,
        httponly=True,
        samesite="Lax",  # Strict would ask who follows a link in a mail to sign in again
        secure=door.access.secure,
        max_age=int(door.access.session),
        path="/",
    )
    return response


async def sign_out(view: View) -> web.StreamResponse:
    """End the session."""
    door = view.request.app[DOOR]
    await view.admin.sign_out(view.request.cookies.get(door.session_cookie, ""))
    await view.admin.note(view.deed("operator.signed_out", target=view.viewer.name))
    response = view.redirect("sign_in", said="You are signed out.")
    response.del_cookie(door.session_cookie, path="/", secure=door.access.secure, httponly=True)
    return response


async def _form(view: View, wrong: str | None, *, next_path: str, status: int) -> web.Response:
    """Show the form, with a token that only this browser can use: nobody is to be signed in as somebody else unawares."""
    door = view.request.app[DOOR]
    visit = view.request.cookies.get(door.visit_cookie) or entropy.token_urlsafe()
    response = view.render(
        "sign_in.html",
        status=status,
        wrong=wrong,
        next=_local(next_path),
        token=await _visit_token(view, visit),
        has_operators=await view.admin.has_operators(),
    )
    response.set_cookie(door.visit_cookie, visit, httponly=True, samesite="Strict", secure=door.access.secure, path="/")
    return response


async def _visit_token(view: View, visit: str) -> str:
    return (await view.request.app[DOOR].key()).form_token(f"visit:{visit}")


def _text(posted: Mapping[str, object], field: str) -> str:
    value = posted.get(field, "")
    return value if isinstance(value, str) else ""


def _local(path: str) -> str:
    """Let only paths of this listener through: whoever signs in must not be sent elsewhere."""
    fine = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if fine else ""


async def enter(view: View) -> web.StreamResponse:
    """Let somebody in who follows a link for a tenant."""
    token = view.request.query.get("token", "")
    tenant = await view.admin.tenant_of_link(token)
    if tenant is None:
        return show_error(view.request, OVER, status=403)
    response = view.redirect("endpoints")
    response.set_cookie(
        LINK_COOKIE, token, httponly=True, samesite="Lax", secure=view.request.app[SECURE], path=view.url("portal")
    )
    return response


SECURE: Final = web.AppKey("secure", bool)
"""Whether people come by https."""
