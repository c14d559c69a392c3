"""What every request of the console passes: security headers, who looks, protection of forms, and errors as pages."""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from hmac import compare_digest
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, Protocol
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from dispatcher.console.view import VIEWER, View, Viewer
from dispatcher.errors import Conflict, DispatcherError, InvalidInput, NotFound

logger = structlog.get_logger()

Networks = Sequence[IPv4Network | IPv6Network]

SAFE: Final = ("GET", "HEAD")

FORM_TYPE: Final = "application/x-www-form-urlencoded"

FORM_TOKEN: Final = "form_token"  # noqa: S105 - a name
"""The field of every form that shows that it came from a page of this session."""

LONGEST: Final = 55.0
"""Seconds for a request, less than the tenants' listener gives one; a stream has an end of its own."""

MACHINES: Final = ("metrics", "healthz", "readyz")
"""Names of what is not for people: nobody signs in for them."""

OPEN: Final = ("static", "sign_in", "signing_in", "enter", "csp_report")
"""Names of what anybody may ask for. By name, which the router decides: a path can be spelled in many ways."""

OPEN_BYTES: Final = 16_384
"""Of what somebody whom we do not know may send: a name, a password and an address are less."""

STREAMS: Final = "/stream"
"""The end of the paths that go on answering."""

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; report-uri {report}"
)
"""No script but our files: a text that came with an event, an answer or a URL never runs, even if a page failed to escape it."""

REPORT_BYTES: Final = 4096
"""Of a report that are logged."""

REPORTS: Final = 10
"""Reports logged within `REPORTS_SECONDS`: one page that is wrong in many places; anybody may send more."""

REPORTS_SECONDS: Final = 60.0

HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # `no-referrer` would make browsers call the origin of our own forms `null`
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


class Door(Protocol):
    """Knows people."""

    async def identify(self, request: web.Request) -> Viewer | None:
        """Tell who looks; None: nobody we know."""
        ...

    def refuse(self, request: web.Request) -> web.StreamResponse:
        """Answer somebody whom we do not know."""
        ...


def guard(
    app: web.Application,
    door: Door,
    *,
    monotonic: Callable[[], float],
    prefix: str = "",
    proxies: Networks = (),
) -> None:
    """Put the gate before an application's pages, which are mounted at `prefix` (no slash at its end).

    `proxies`: who is believed when they say, in `X-Forwarded-For`, for whom they ask.
    """
    policy = POLICY.format(report=f"{prefix}/csp-report")

    async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Content-Security-Policy", policy)

    app.on_response_prepare.append(add_headers)
    app.middlewares.append(_gate(door, proxies))
    app.router.add_post("/csp-report", Reports(monotonic).take, name="csp_report")


def _gate(door: Door, proxies: Networks) -> Middleware:
    @web.middleware
    async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let in whom we know, and only forms that came from a page of theirs."""
        name = request.match_info.route.name
        if name in MACHINES:
            return await handler(request)
        if proxies:
            request = request.clone(remote=client_address(request, proxies))
        if name in OPEN:
            request[VIEWER] = Viewer("nobody", None, "")
            return await _answered(request, handler)
        viewer = await door.identify(request)
        if viewer is None:
            return door.refuse(request)
        request[VIEWER] = viewer
        return await _answered(request, handler)

    return gate


def client_address(request: web.Request, proxies: Networks) -> str:
    """Return from where a request comes: what the last proxy that is believed saw, itself if it does not say."""
    address = request.remote or ""
    told = [part.strip() for line in request.headers.getall("X-Forwarded-For", []) for part in line.split(",")]
    # from the end: what stands before the first address that is no proxy of ours, its owner wrote
    while told and is_within(address, proxies):
        address = told.pop()
    return address if as_address(address) is not None else request.remote or ""


def as_address(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address; IPv4 within IPv6, as a listener for both has it, is IPv4. None: it is none."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_within(text: str, networks: Networks) -> bool:
    """Tell whether an address is in one of some networks."""
    address = as_address(text)
    return address is not None and any(address in network for network in networks)


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer in time, and with a page where the person can mend what is wrong."""
    try:
        if request.path.endswith(STREAMS):
            return await handler(request)
        async with asyncio.timeout(LONGEST):
            _refuse_unstorable([*request.query.values(), *request.match_info.values()])
            if request.method not in SAFE:
                await _check_form(request)
            return await handler(request)
    except DispatcherError as error:
        return show_error(request, str(error), status=status_of(error))
    except web.HTTPException as error:
        if error.status < 400:  # noqa: PLR2004 - not an error
            raise
        said = "There is no such page." if isinstance(error, web.HTTPNotFound) else f"{error.reason}."
        return show_error(request, said, status=error.status)
    except TimeoutError:
        return show_error(request, "That took too long. Narrow it down, or try again in a while.", status=503)
    except Exception:
        logger.exception("console.failed", path=request.path)
        return show_error(request, "That is our fault, and it is in the log.", status=500)


def show_error(request: web.Request, said: str, *, status: int) -> web.Response:
    """Answer with a page that says what is wrong."""
    return View(request).render("error.html", said=said, number=status, status=status)


def status_of(error: DispatcherError) -> int:
    """Return the HTTP status of an expected failure."""
    match error:
        case NotFound():
            return 404
        case Conflict():
            return 409
        case InvalidInput():
            return 422
        case _:
            return 503


async def _check_form(request: web.Request) -> None:
    """Refuse what another site made the browser send (CSRF): by what the browser says of it, and by the form's token."""
    if request.match_info.route.name == "csp_report":  # browsers send it by themselves, and it changes nothing
        _refuse_big(request)
        return
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    # behind a proxy the host may be another than the browser's: the token decides there
    foreign = site not in ("same-origin", "none") or (origin is not None and not urlsplit(origin).netloc)
    viewer = request[VIEWER]
    if not viewer.form_token:
        _refuse_big(request)
    if not foreign:
        posted = await _posted(request)
        foreign = bool(viewer.form_token) and not carries(posted, viewer.form_token)
    if foreign:
        raise Conflict(
            "This form did not come from a page of your session, or the session is another one. Load the page anew."
        )


async def _posted(request: web.Request) -> Mapping[str, object]:
    """Read a form as our pages send them: no other kind, files above all, is even looked into."""
    if request.body_exists and request.content_type != FORM_TYPE:
        raise web.HTTPUnsupportedMediaType
    try:
        posted = await request.post()
    except (ValueError, LookupError):  # not UTF-8, or an encoding that is none
        raise web.HTTPBadRequest from None
    _refuse_unstorable(value for value in posted.values() if isinstance(value, str))
    return posted


def _refuse_unstorable(texts: Iterable[str]) -> None:
    """Refuse what no database can hold, wherever it was typed."""
    if any(re.search(r"[\x00\ud800-\udfff]", text) for text in texts):
        raise InvalidInput("There is a character in it that nothing can hold (NUL, or half of a pair).")


def carries(posted: Mapping[str, object], token: str) -> bool:
    """Tell whether a form carries a token."""
    shown = posted.get(FORM_TOKEN, "")
    return isinstance(shown, str) and compare_digest(shown.encode(errors="surrogatepass"), token.encode())


def _refuse_big(request: web.Request) -> None:
    """Read little from somebody whom we do not know: parsing costs time, and what it comes to memory."""
    length = request.content_length
    if length is None and request.body_exists:
        raise web.HTTPLengthRequired
    if length is not None and length > OPEN_BYTES:
        raise web.HTTPRequestEntityTooLarge(OPEN_BYTES, length)


class Reports:
    """Takes what browsers refused to run: somebody tried, or a page of ours is wrong."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._until = monotonic()
        self._count = 0

    async def take(self, request: web.Request) -> web.Response:
        """Log a report, unless there were many."""
        now = self._monotonic()
        if now >= self._until:
            if self._count > REPORTS:
                logger.warning("console.policy_reports_dropped", count=self._count - REPORTS)
            self._until, self._count = now + REPORTS_SECONDS, 0
        self._count += 1
        if self._count <= REPORTS:
            report = (await request.content.read(REPORT_BYTES)).decode(errors="replace")
            logger.warning("console.policy_violated", report=report, address=request.remote)
        return web.Response(status=204)
