"""The console and the tenants' pages, served in this process, and a visitor who reads them as a browser would."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from html.parser import HTMLParser
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from dispatcher.addresses import AddressPolicy
from dispatcher.admin import Admin
from dispatcher.api.app import make_app as make_api
from dispatcher.clock import Clock
from dispatcher.console.app import PREFIX, make_app, make_portal
from dispatcher.console.doors import Access
from dispatcher.doorkeeper import Doorkeeper
from dispatcher.sealing import Sealer
from dispatcher.store.pool import open_pool

OPERATOR: Final = "anna"
PASSWORD: Final = "correct horse battery"

_ALONE: Final = frozenset({"input", "meta", "link", "br", "hr", "img"})
_UNREAD: Final = frozenset({"script", "style", "title"})


@dataclass(slots=True)
class Form:
    """A form of a page."""

    action: str
    method: str
    fields: dict[str, Any] = field(default_factory=dict)
    """As the page filled them in; of several of one name a list."""
    buttons: list[str] = field(default_factory=list)

    def put(self, name: str, value: str) -> None:
        """Note a field."""
        if name in self.fields:
            before = self.fields[name]
            self.fields[name] = [*(before if isinstance(before, list) else [before]), value]
        else:
            self.fields[name] = value


class Reading(HTMLParser):
    """What a page says and offers."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: dict[str, str] = {}
        """Words to addresses; the first of the same words."""
        self.elements: list[tuple[str, dict[str, str]]] = []
        """All of them with their attributes, in order."""
        self.words: list[str] = []
        self.title = ""
        self._open: list[tuple[str, dict[str, str]]] = []
        self._select: str | None = None
        self._area: tuple[str, list[str]] | None = None
        self._link: tuple[str, list[str]] | None = None
        self.feed(text)
        self.close()

    @cached_property
    def text(self) -> str:
        """All that is written, with single blanks."""
        return " ".join(" ".join(self.words).split())

    def form(self, action: str) -> Form:
        """Return the form whose address has this end."""
        found = [form for form in self.forms if urlsplit(form.action).path.endswith(action)]
        assert found, (action, [form.action for form in self.forms])
        return found[0]

    def having(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        """Return the elements of a kind with these attributes (`class_` for `class`, `_` for `-`)."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [found for name, found in self.elements if name == tag and wanted.items() <= found.items()]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append((tag, attributes))
        if tag not in _ALONE:
            self._open.append((tag, attributes))
        match tag:
            case "form":
                self.forms.append(Form(attributes.get("action", ""), attributes.get("method", "get")))
            case "input" if self._in("form") and attributes.get("name"):
                if attributes.get("type") not in ("checkbox", "radio") or "checked" in attributes:
                    self.forms[-1].put(attributes["name"], attributes.get("value", ""))
            case "select" if self._in("form"):
                self._select = attributes["name"]
            case "option" if self._select is not None:
                if "selected" in attributes or self._select not in self.forms[-1].fields:
                    self.forms[-1].fields[self._select] = attributes.get("value", "")
            case "textarea" if self._in("form"):
                self._area = (attributes["name"], [])
            case "a":
                self._link = (attributes.get("href", ""), [])
            case _:
                pass

    def handle_endtag(self, tag: str) -> None:
        """Note the end of an element."""
        match tag:
            case "select":
                self._select = None
            case "textarea" if self._area is not None:
                self.forms[-1].put(self._area[0], "".join(self._area[1]))
                self._area = None
            case "a" if self._link is not None:
                self.links.setdefault(" ".join("".join(self._link[1]).split()), self._link[0])
                self._link = None
            case _:
                pass
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        """Note words."""
        if self._in("title"):
            self.title += data
        if self._in(*_UNREAD):
            return
        self.words.append(data)
        if self._area is not None:
            self._area[1].append(data)
        if self._link is not None:
            self._link[1].append(data)
        if self._in("button") and self._in("form"):
            self.forms[-1].buttons.append(data.strip())

    def _in(self, *tags: str) -> bool:
        return any(tag in tags for tag, _ in self._open)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    path: str
    """Where it ended, after redirects."""
    headers: Mapping[str, str]
    cookies: Sequence[str]
    """Set by it: whole lines."""
    html: str

    @property
    def page(self) -> Reading:
        """Read as a page."""
        return Reading(self.html)

    @property
    def text(self) -> str:
        """What the page says."""
        return self.page.text


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody with a browser: keeps cookies, follows redirects."""

    url: str
    session: aiohttp.ClientSession

    async def __call__(self, method: str, path: str, **options: Any) -> Answer:
        """Ask for something; `options` are aiohttp's."""
        address = path if path.startswith("http") else f"{self.url}{path}"
        async with self.session.request(method, address, **options) as answer:
            return Answer(
                answer.status,
                answer.url.path_qs,
                dict(answer.headers),
                answer.headers.getall("Set-Cookie", []),
                await answer.text(errors="replace"),
            )

    async def get(self, path: str, **options: Any) -> Answer:
        """Look at a page."""
        return await self("GET", path, **options)

    async def submit(self, page: Answer, action: str, /, sending: Any = None, **fields: Any) -> Answer:
        """Send a form of a page, with these fields filled in (null leaves one out); `sending`: headers."""
        form = page.page.form(action)
        sent = form.fields | fields
        pairs = [
            (name, one)
            for name, value in sent.items()
            if value is not None
            for one in (value if isinstance(value, list) else [value])
        ]
        if form.method == "get":
            return await self("GET", form.action or urlsplit(page.path).path, params=pairs)
        return await self("POST", form.action, data=aiohttp.FormData(pairs), headers=sending)

    async def sign_in(self, name: str = OPERATOR, password: str = PASSWORD) -> Answer:
        """Sign in as a person does."""
        return await self.submit(await self.get("/sign-in"), "/sign-in", name=name, password=password)

    def cookie(self, name: str) -> str | None:
        """Return the value of a cookie that is kept."""
        return next((one.value for one in self.session.cookie_jar if one.key == name), None)


@dataclass(frozen=True, slots=True)
class Served:
    """Both listeners."""

    admin: Admin
    ops: str
    """Where operators look."""
    api: str
    """Where tenants ask; their pages are below `/portal`."""
    _sessions: list[aiohttp.ClientSession]

    def visitor(self, url: str | None = None) -> Visitor:
        """Return somebody new, of operators unless told otherwise."""
        session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self._sessions.append(session)
        return Visitor(url or self.ops, session)

    async def operator(self) -> Visitor:
        """Return somebody who has signed in."""
        visitor = self.visitor()
        answer = await visitor.sign_in()
        assert answer.status == 200, answer.text
        return visitor

    async def guest(self, tenant: str) -> Visitor:
        """Return somebody who has followed a link of a tenant."""
        visitor = self.visitor(self.api)
        answer = await visitor.get((await self.admin.create_portal_link(tenant)).url)
        assert answer.status == 200, answer.text
        return visitor


@asynccontextmanager
async def serving_pages(
    database: str,
    *,
    access: Access | None = None,
    clock: Clock | None = None,
    secure: bool = False,
    https_only: bool = True,
    allow: Any = (),
    doorkeeper: Doorkeeper | None = None,
) -> AsyncIterator[Served]:
    """Serve the console and the tenants' pages, with one operator registered."""
    pool = await open_pool(database, maximum=4)
    clock = clock or Clock()
    admin = Admin(
        pool,
        sealer=Sealer(),
        policy=AddressPolicy(allow),
        https_only=https_only,
        clock=clock,
        doorkeeper=doorkeeper,
    )

    async def ready() -> Mapping[str, str | None]:
        return {"database": None}

    access = replace(access or Access(session=3600.0), secure=secure)
    ops = make_app(admin, render=lambda: b"", ready=ready, access=access, monotonic=clock.monotonic)
    api = make_api(admin, body_limit=1 << 20, rate_limit=0, monotonic=clock.monotonic)
    api.add_subapp(PREFIX, make_portal(admin, secure=secure, monotonic=clock.monotonic))
    sessions: list[aiohttp.ClientSession] = []
    runners = [web.AppRunner(app, access_log=None) for app in (ops, api)]
    try:
        urls = [await _listen(runner) for runner in runners]
        admin._portal_url = f"{urls[1]}{PREFIX}"  # its port is known only now
        if not await admin.has_operators():
            await admin.create_operator(OPERATOR, PASSWORD)
        yield Served(admin, urls[0], urls[1], sessions)
    finally:
        for session in sessions:
            await session.close()
        for runner in runners:
            await runner.cleanup()
        await pool.close()


async def _listen(runner: web.AppRunner) -> str:
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    return f"http://{host}:{port}"
