"""What a call of the API is: one table of operations makes the routes and the OpenAPI document alike.

A handler gets a `Call`, and what it reads as models; it returns a `Reply`, or raises what `admin` raises.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import orjson
from aiohttp import web
from pydantic import BaseModel

from dispatcher.admin import Admin
from dispatcher.admin.once import Given
from dispatcher.api import auth, reading
from dispatcher.api.limits import Buckets
from dispatcher.api.problems import MALFORMED, NOT_FOUND, Problem, Wrong, refused
from dispatcher.errors import InvalidInput, NotFound

ADMIN: Final = web.AppKey("admin", Admin)
BUCKETS: Final = web.AppKey("buckets", Buckets)

IDEMPOTENCY_KEY: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"


@dataclass(frozen=True, slots=True)
class Call:
    """One request, let in and read."""

    admin: Admin
    """Through it all is done: under an `Idempotency-Key` as parts of one transaction."""
    tenant: str
    path: Mapping[str, str]
    text: str = ""
    """The body as it was sent."""

    def uuid(self) -> UUID:
        """Return the id in the path. Raises NotFound for one that is no UUID: it leads to nothing, as any unknown one."""
        try:
            return UUID(self.path["id"])
        except ValueError:
            raise NotFound("There is nothing with such an id.") from None


@dataclass(frozen=True, slots=True)
class Reply:
    """What a handler answers with; `body` is anything that orjson writes."""

    body: Any
    status: int = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """For the documentation: what a status means, and the shape that comes with it."""

    meaning: str
    model: Any
    """A model, or a list of one."""


Handler = Callable[..., Awaitable[Reply]]
"""Takes the call, then the body and the query where there is a model for them, by these names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call of the API."""

    name: str
    """Unique: `operationId`."""
    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    thing: str = ""
    """What the id in the path is of."""
    answers: Mapping[int, Answer]
    description: str = ""
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    creates: bool = False
    """It takes an `Idempotency-Key`."""
    asks_others: Callable[[Any], bool] = field(default=lambda _: False)
    """Whether a body makes it speak to others, so that it cannot be one transaction under an `Idempotency-Key`."""
    conflicts: bool = False
    """Answers 409 in some states."""
    example: Any = field(default=None)
    """Of a body."""


def absent(what: str) -> Problem:
    """Say that there is no such thing for this tenant: the same words whether it is another's or nobody's."""
    return Problem(NOT_FOUND, f"This tenant has no {what} with this id.")


def route(operation: Operation) -> web.RouteDef:
    """Make the route of an operation."""

    async def handle(request: web.Request) -> web.Response:
        tenant = await auth.admit(request, request.app[ADMIN], request.app[BUCKETS])
        text = await reading.body_text(request) if operation.body is not None else ""
        arguments = _arguments(operation, request, text)

        async def act(admin: Admin) -> Given:
            call = Call(admin, tenant, request.match_info, text)
            reply = await operation.handler(call, **arguments)
            return Given(reply.status, orjson.dumps(reply.body).decode())

        try:
            outside = operation.asks_others(arguments.get("body"))
            given, replayed = await _do(request, operation, act, tenant=tenant, text=text, outside=outside)
        except InvalidInput as error:
            raise refused(error, where=_place(operation, error.field)) from error
        except NotFound as error:
            raise absent(operation.thing) from error
        headers = {REPLAYED: "true"} if replayed else {}
        return web.Response(
            body=given.body.encode(), status=given.status, content_type="application/json", headers=headers
        )

    return web.route(operation.method, operation.path, handle)


def _arguments(operation: Operation, request: web.Request, text: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    if operation.query is None:
        reading.no_query(request)
    else:
        arguments["query"] = reading.query(operation.query, request)
    if operation.body is not None:
        arguments["body"] = reading.body(operation.body, text)
    return arguments


async def _do(
    request: web.Request,
    operation: Operation,
    act: Callable[[Admin], Awaitable[Given]],
    *,
    tenant: str,
    text: str,
    outside: bool,
) -> tuple[Given, bool]:
    """Act; under an `Idempotency-Key` once only."""
    admin = request.app[ADMIN]
    key = request.headers.get(IDEMPOTENCY_KEY)
    if key is None or not operation.creates:
        return await act(admin), False
    if not key.isprintable() or not key:
        wrong = Wrong("An idempotency key is 1 to 255 printable characters.", header=IDEMPOTENCY_KEY)
        raise Problem(MALFORMED, wrong.detail, [wrong])
    fingerprint = hashlib.sha256(f"{request.method} {request.path_qs}\n{text}".encode()).digest()
    once = admin.once_outside if outside else admin.once
    return await once(tenant, key, fingerprint, act)


def _place(operation: Operation, name: str | None) -> Wrong | None:
    place = reading.place_of(name, operation.body, operation.query)
    if place is None and name == "idempotency_key":
        return Wrong("", header=IDEMPOTENCY_KEY)
    return place
