"""What a page's handler works with: who looks, on whose behalf, the administration, and how to answer."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, TypeVar
from urllib.parse import urlencode

from aiohttp import web

from dispatcher.admin import Admin, Deed
from dispatcher.console import rendering
from dispatcher.errors import NotFound

T = TypeVar("T")

ADMIN: Final = web.AppKey("admin", Admin)
IS_PORTAL: Final = web.AppKey("is_portal", bool)
"""Whether the application shows a tenant's own view."""

_COMMAND: Final = re.compile(r"(?:^|(?<=[.!?]) )[^.!?`]*(?:`[^`]*`[^.!?`]*)*?`dispatcher [^`]*`[^.!?]*[.!?]")
"""A sentence that names a command of ours."""

FLASH: Final = "flash"
"""The cookie with what the next page says first: what came of the last action."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks."""

    name: str
    """`anna`, an operator; `portal:acme`, who came by a link of that tenant."""
    tenant: str | None
    """Whose things alone are shown; null: everything."""
    form_token: str = field(repr=False)
    """What forms of this session carry."""


VIEWER: Final = web.RequestKey("viewer", Viewer)


class View:
    """One request, as pages see it; templates get it as `view`, and `url`, `has`, `viewer`, `query`, `here` beside it."""

    def __init__(self, request: web.Request) -> None:
        self.request = request
        self.admin = request.app[ADMIN]
        self.is_portal = request.app[IS_PORTAL]
        self.viewer = request[VIEWER]

    @property
    def tenant(self) -> str | None:
        """The tenant that all is restricted to; null for operators. Goes into every call of `Admin`."""
        return self.viewer.tenant

    # what was asked

    def part(self, name: str = "id") -> str:
        """Return a part of the path."""
        return self.request.match_info[name]

    def given(self, name: str) -> str | None:
        """Return a parameter of the query, without blanks around it; null if it is empty or missing."""
        return self.request.query.get(name, "").strip() or None

    async def form(self) -> Mapping[str, str]:
        """Return the form's fields as texts, without blanks around them; of several of one name the last."""
        posted = await self.request.post()
        return {name: value.strip() for name, value in posted.items() if isinstance(value, str)}

    async def form_all(self, name: str) -> list[str]:
        """Return all of a form's fields of one name."""
        return [value for value in (await self.request.post()).getall(name, []) if isinstance(value, str)]

    @property
    def is_partial(self) -> bool:
        """Whether htmx asks for a part of the page anew."""
        return self.request.headers.get("HX-Request") == "true"

    # answers

    def url(self, name: str, /, query: Mapping[str, Any] | None = None, **parts: Any) -> str:
        """Return the path of a page by its name; null values of the query are left out."""
        path = str(self.request.app.router[name].url_for(**{key: str(value) for key, value in parts.items()}))
        asked = {key: value for key, value in (query or {}).items() if value not in (None, "")}
        return f"{path}?{urlencode(asked)}" if asked else path

    def words(self, said: str) -> str:
        """Return what `Admin` says, for tenants without the commands that it names: they have no command line."""
        return _COMMAND.sub("", said).strip() if self.is_portal else said

    def has(self, name: str) -> bool:
        """Tell whether there is a page of that name here."""
        return name in self.request.app.router

    def render(self, template: str, /, *, status: int = 200, **context: Any) -> web.Response:
        """Answer with a page."""
        flash = self.request.cookies.get(FLASH)
        text = rendering.render(
            template,
            view=self,
            viewer=self.viewer,
            url=self.url,
            has=self.has,
            here=self.request.path,
            query=self.request.query,
            flash=None if flash is None else rendering.read_flash(flash),
            **context,
        )
        response = web.Response(text=text, content_type="text/html", charset="utf-8", status=status)
        if flash is not None and not self.is_partial:
            response.del_cookie(FLASH, path="/")
        return response

    def redirect(self, name: str, /, *, said: str | None = None, **parts: Any) -> web.Response:
        """Answer an action: go to a page, which says first what was done."""
        return self.go(self.url(name, **parts), said=said)

    def go(self, path: str, *, said: str | None = None) -> web.Response:
        """Answer an action: go to a path of this listener, whose page says first what was done."""
        response = web.Response(status=303, headers={"Location": path})
        if said is not None:
            # no secret and no power: only words, shown escaped
            response.set_cookie(FLASH, rendering.write_flash(said), path="/", httponly=True, samesite="Lax", max_age=60)
        return response

    def missing(self, what: str) -> NoReturn:
        """End with a page that says that there is no such thing."""
        raise NotFound(f"There is no {what}.")

    # deeds

    def deed(self, action: str, *, target: object = None, tenant: str | None = None, **details: Any) -> Deed:
        """Describe what the viewer does, for the audit log; `details` never hold a secret."""
        return Deed(
            who=self.viewer.name,
            action=action,
            address=self.request.remote,
            tenant=tenant or self.tenant,
            target=None if target is None else str(target),
            details=details,
        )

    async def audited(self, deed: Deed | Callable[[T], Deed], act: Callable[[Admin], Awaitable[T]]) -> T:
        """Act and note it, in one transaction; `act` must use the `Admin` that it is given.

        `deed` may be made of what `act` returns.
        """
        return await self.admin.audited(deed, act)


Handler = Callable[[View], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Page:
    """A page or action of the console: its name (for links), where it is, and what answers."""

    name: str
    path: str
    handler: Handler
    method: str = "GET"
    in_portal: bool = False
    """Whether tenants have it, too; then every call of `Admin` in it is restricted to `view.tenant`."""


def routed(page: Page) -> web.RouteDef:
    """Make the route of a page."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return await page.handler(View(request))

    return web.RouteDef(page.method, page.path, handle, {"name": page.name})
