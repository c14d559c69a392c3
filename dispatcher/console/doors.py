"""Who may look: operators, by signing in or as a proxy in front says; and a tenant's people, by a link."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final
from urllib.parse import urlencode

import structlog
from aiohttp import web

from dispatcher.admin import Admin, ConsoleKey
from dispatcher.console.gate import show_error
from dispatcher.console.throttle import Throttle
from dispatcher.console.view import VIEWER, View, Viewer

logger = structlog.get_logger()

SESSION_COOKIE: Final = "dispatcher_session"
LINK_COOKIE: Final = "dispatcher_portal"

WRONG: Final = "That name and password do not go together."


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """By which rules operators are let in."""

    session: float
    """Seconds from signing in until one has to do so again."""
    trusted_header: str | None = None
    """A proxy names the operator in it; null: people sign in here."""
    trusted_proxies: Sequence[IPv4Network | IPv6Network] = ()
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

    async def identify(self, request: web.Request) -> Viewer | None:
        """Tell which operator looks."""
        if self.access.trusted_header is not None:
            name = self._named(request, self.access.trusted_header)
            return None if name is None else Viewer(name, None, (await self.key()).form_token(f"header:{name}"))
        token = request.cookies.get(SESSION_COOKIE)
        name = None if token is None else await self._admin.operator_of(token)
        if token is None or name is None:
            return None
        return Viewer(name, None, (await self.key()).form_token(token))

    def _named(self, request: web.Request, header: str) -> str | None:
        """Return whom the proxy names; what others write into the header counts for nothing."""
        name = request.headers.get(header, "").strip()
        try:
            address = ip_address(request.remote or "")
        except ValueError:
            return None
        believed = any(address in network for network in self.access.trusted_proxies)
        return name if believed and name.isprintable() and 0 < len(name) <= 255 else None  # noqa: PLR2004 - as all names

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
    return await _form(view, None, status=200)


async def sign_in(view: View) -> web.StreamResponse:
    """Sign somebody in."""
    door = view.request.app[DOOR]
    form = await view.form()
    posted = await view.request.post()
    name, password = form.get("name", ""), posted.get("password", "")
    keys = (f"name:{name}", f"address:{view.request.remote}")
    wait = door.throttle.wait(*keys)
    if wait:
        return await _form(view, f"Too many tries. Wait {wait:.0f} s.", status=429)
    password = password if isinstance(password, str) else ""
    token = await view.admin.sign_in(name, password, lasting=door.access.session)
    if token is None:
        door.throttle.failed(*keys)
        logger.warning("operator.refused", operator=name[:100], address=view.request.remote)
        return await _form(view, WRONG, status=403)
    door.throttle.succeeded(*keys)
    logger.info("operator.signed_in", operator=name, address=view.request.remote)
    await view.admin.note(replace(view.deed("operator.signed_in", target=name), who=name))
    response = view.go(_local(form.get("next", "")) or view.url("overview"))
    response.set_cookie(
        SESSION_COOKIE,
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
    await view.admin.sign_out(view.request.cookies.get(SESSION_COOKIE, ""))
    response = view.redirect("sign_in", said="You are signed out.")
    response.del_cookie(SESSION_COOKIE, path="/")
    return response


async def _form(view: View, wrong: str | None, *, status: int) -> web.Response:
    return view.render(
        "sign_in.html",
        status=status,
        wrong=wrong,
        next=_local(view.request.query.get("next", "")),
        has_operators=await view.admin.has_operators(),
    )


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
