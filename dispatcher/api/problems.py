"""Turns everything that can go wrong into `application/problem+json` (RFC 9457), in one place.

    {"type": "/docs#invalid", "title": "…", "status": 422, "detail": "…", "instance": "/v1/webhook/create",
     "errors": [{"detail": "…", "pointer": "/url"}]}

`errors` says what is wrong where: at a JSON pointer into the body, or in a query parameter or a header.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

import orjson
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from dispatcher.api.wording import for_http
from dispatcher.errors import Conflict, DispatcherError, InvalidInput, NotFound
from dispatcher.store.pool import is_late, is_outage

CONTENT_TYPE: Final = "application/problem+json"

RETRY_SECONDS: Final = 5
"""After which a caller may try again while the database is away: restarts take a few."""

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Kind:
    """A sort of problem; its `name` is an anchor of the documentation."""

    name: str
    status: int
    title: str
    meaning: str
    """For the documentation: when it comes, and what to do."""


MALFORMED = Kind(
    "malformed", 400, "The request cannot be read", "The body is not JSON, or a header is not what it must be."
)
UNAUTHORISED = Kind(
    "unauthorised",
    401,
    "The request is not authorised",
    "A header is missing, or `API-KEY` is not a key that may act for `TENANT`.",
)
NOT_FOUND = Kind(
    "not-found", 404, "There is no such thing", "No such path, or the tenant has nothing with the id in the path."
)
METHOD = Kind("method", 405, "The path takes another method", "`Allow` lists those that it takes.")
CONFLICT = Kind(
    "conflict",
    409,
    "That cannot be done as things stand",
    "For example, a disabled webhook cannot be paused. The detail says what to do first.",
)
TOO_LARGE = Kind("too-large", 413, "The request is too large", "Send less at once.")
MEDIA_TYPE = Kind("media-type", 415, "The body is not declared as JSON", "Send `Content-Type: application/json`.")
INVALID = Kind("invalid", 422, "A value cannot be used", "`errors` says which one, and how to mend it.")
TOO_MANY = Kind("too-many", 429, "Too many requests", "Wait as many seconds as `Retry-After` says.")
FAULT = Kind("fault", 500, "Something is wrong with the service", "It is not the request's fault; it has been logged.")
TOO_SLOW = Kind(
    "too-slow",
    503,
    "It took too long",
    "The database did not answer in time. Narrow down what you ask for, or try again after `Retry-After`; what changes "
    "something may be done or not: look first, or repeat it with the same `Idempotency-Key`.",
)
UNAVAILABLE = Kind(
    "unavailable", 503, "The service cannot reach its database", "Nothing was changed. Try again after `Retry-After`."
)
KINDS: Final = (
    *(MALFORMED, UNAUTHORISED, NOT_FOUND, METHOD, CONFLICT, TOO_LARGE),
    *(MEDIA_TYPE, INVALID, TOO_MANY, FAULT, TOO_SLOW, UNAVAILABLE),
)
_BY_STATUS: Final[Mapping[int, Kind]] = MappingProxyType({kind.status: kind for kind in KINDS})


@dataclass(frozen=True, slots=True)
class Wrong:
    """One thing that is wrong, and where: in one place of the three."""

    detail: str
    pointer: str | None = None
    """RFC 6901, into the body; empty: the whole of it."""
    parameter: str | None = None
    header: str | None = None

    def as_json(self) -> dict[str, str]:
        """Leave out the places that it is not in."""
        places = {"pointer": self.pointer, "parameter": self.parameter, "header": self.header}
        return {"detail": self.detail} | {name: place for name, place in places.items() if place is not None}


class Problem(Exception):
    """A request that is answered with a problem. `detail` says for people what it was and how to mend it."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        errors: Sequence[Wrong] = (),
        *,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = headers


def response(problem: Problem, *, instance: str) -> web.Response:
    """Write a problem down."""
    kind = problem.kind
    body: dict[str, Any] = {
        "type": f"/docs#{kind.name}",
        "title": kind.title,
        "status": kind.status,
        "detail": problem.detail,
        "instance": instance,
    }
    if problem.errors:
        body["errors"] = [wrong.as_json() for wrong in problem.errors]
    return web.Response(
        body=orjson.dumps(body), status=kind.status, content_type=CONTENT_TYPE, headers=dict(problem.headers)
    )


def refused(error: InvalidInput, *, where: Wrong | None) -> Problem:
    """Turn a refusal of `admin` into a problem; `where` is how the caller calls the field."""
    kind = CONFLICT if isinstance(error, Conflict) else INVALID
    said = for_http(str(error))
    return Problem(kind, said, () if where is None else (replace(where, detail=said),))


def invalid(errors: Sequence[Wrong]) -> Problem:
    """Make one problem of several wrong values."""
    more = f" There are {len(errors)} wrong values." if len(errors) > 1 else ""
    return Problem(INVALID, f"{errors[0].detail}{more}", tuple(errors))


def judge(error: Exception) -> Problem:
    """Say what an exception means to the caller; anything unforeseen is a fault of ours."""
    match error:
        case Problem():
            return error
        case InvalidInput():
            return refused(error, where=None)
        case NotFound():
            return Problem(NOT_FOUND, for_http(str(error)))
        case web.HTTPException() if error.status in _BY_STATUS:
            return _of_aiohttp(error)
        case _ if is_late(error):
            return _too_slow()
        case _ if is_outage(error):
            return _unavailable()
        case DispatcherError():
            return Problem(FAULT, "The service is not set up as it should be. It has been logged.")
        case _:
            return Problem(FAULT, "It has been logged. Trying again may help.")


def _of_aiohttp(error: web.HTTPException) -> Problem:
    """Say what the router, or the reader of bodies, refuses."""
    match error:
        case web.HTTPRequestEntityTooLarge():
            return Problem(TOO_LARGE, "The body has more bytes than are taken at once. Send less, in several requests.")
        case web.HTTPNotFound():
            return Problem(NOT_FOUND, "There is nothing at this path. `/docs` shows the paths that there are.")
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            return Problem(METHOD, f"This path takes {allowed}, not {error.method}.", headers={"Allow": allowed})
        case _:
            return Problem(_BY_STATUS[error.status], error.reason)


def _too_slow() -> Problem:
    return Problem(
        TOO_SLOW,
        "The database did not answer in time, and was not waited for. Narrow down what you ask for, or try again in "
        f"{RETRY_SECONDS} seconds.",
        headers={"Retry-After": str(RETRY_SECONDS)},
    )


def _unavailable() -> Problem:
    return Problem(
        UNAVAILABLE,
        f"The database cannot be used at this moment; nothing was changed. Try again in {RETRY_SECONDS} seconds.",
        headers={"Retry-After": str(RETRY_SECONDS)},
    )


@web.middleware
async def as_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer whatever is raised with a problem, and let nothing of an answer be kept or guessed at."""
    try:
        answer = await handler(request)
    except Exception as error:
        problem = judge(error)
        if problem.kind is FAULT:
            logger.exception("api.failed", method=request.method, path=request.path)
        elif problem.kind in {UNAVAILABLE, TOO_SLOW}:
            name = "api.unavailable" if problem.kind is UNAVAILABLE else "api.late"
            logger.warning(name, method=request.method, path=request.path, error=type(error).__name__)
        answer = response(problem, instance=request.path)
    answer.headers.setdefault("Cache-Control", "no-store")
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Server"] = "dispatcher"  # aiohttp would name itself and Python, with their versions
    return answer
