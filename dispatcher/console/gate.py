"""What every request of the console passes: security headers, who looks, protection of forms, and errors as pages."""

import asyncio
from hmac import compare_digest
from typing import Final, Protocol
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from dispatcher.console.view import VIEWER, View, Viewer
from dispatcher.errors import Conflict, DispatcherError, InvalidInput, NotFound

logger = structlog.get_logger()

SAFE: Final = ("GET", "HEAD")

FORM_TOKEN: Final = "form_token"  # noqa: S105 - a name
"""The field of every form that shows that it came from a page of this session."""

LONGEST: Final = 60.0
"""Seconds for a request; a stream has an end of its own."""

MACHINES: Final = ("/metrics", "/healthz", "/readyz")
"""Not for people: nobody signs in for them."""

OPEN: Final = ("/static/", "/sign-in", "/enter", "/csp-report")
"""What anybody may ask for, behind the place where the pages are mounted."""

STREAMS: Final = "/stream"
"""The end of the paths that go on answering."""

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; report-uri {report}"
)
"""No script but our files: a text that came with an event, an answer or a URL never runs, even if a page failed to escape it."""

REPORT_BYTES: Final = 4096
"""Of a report that are logged."""

HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
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


def guard(app: web.Application, door: Door, *, prefix: str = "") -> None:
    """Put the gate before an application's pages, which are mounted at `prefix` (no slash at its end)."""
    policy = POLICY.format(report=f"{prefix}/csp-report")

    async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
        if request.path in MACHINES:
            return
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Content-Security-Policy", policy)

    app.on_response_prepare.append(add_headers)
    app.middlewares.append(_gate(door, prefix))
    app.router.add_post("/csp-report", _reported)


def _gate(door: Door, prefix: str) -> Middleware:
    @web.middleware
    async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let in whom we know, and only forms that came from a page of theirs."""
        path = request.path.removeprefix(prefix)
        if path in MACHINES:
            return await handler(request)
        if path.startswith(OPEN):
            request[VIEWER] = Viewer("nobody", None, "")
            return await _answered(request, handler)
        viewer = await door.identify(request)
        if viewer is None:
            return door.refuse(request)
        request[VIEWER] = viewer
        return await _answered(request, handler)

    return gate


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer in time, and with a page where the person can mend what is wrong."""
    try:
        if request.path.endswith(STREAMS):
            return await handler(request)
        async with asyncio.timeout(LONGEST):
            if request.method not in SAFE and not request.path.endswith("/csp-report"):
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
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    # behind a proxy the host may be another than the browser's: the token decides there
    foreign = site not in ("same-origin", "none") or (origin is not None and not urlsplit(origin).netloc)
    viewer: Viewer = request[VIEWER]
    if viewer.form_token:
        posted = await request.post()
        shown = posted.get(FORM_TOKEN, "")
        foreign = (
            foreign or not isinstance(shown, str) or not compare_digest(shown.encode(), viewer.form_token.encode())
        )
    if foreign:
        raise Conflict(
            "This form did not come from a page of your session, or the session is another one. Load the page anew."
        )


async def _reported(request: web.Request) -> web.Response:
    """Log what a browser refused to run: somebody tried, or a page of ours is wrong."""
    report = (await request.content.read(REPORT_BYTES)).decode(errors="replace")
    logger.warning("console.policy_violated", report=report, address=request.remote)
    return web.Response(status=204)
