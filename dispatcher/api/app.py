"""Puts the API together: its operations, its documentation, and what all requests share."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from dispatcher.admin import Admin
from dispatcher.api import attempts, catalog, docs, event_types, events, portal, replays, webhooks
from dispatcher.api.limits import Buckets
from dispatcher.api.operations import ADMIN, BUCKETS, Operation, route
from dispatcher.api.problems import as_problems

OPERATIONS: Final[Sequence[Operation]] = (
    *webhooks.OPERATIONS,
    *attempts.OPERATIONS,
    *replays.OPERATIONS,
    *events.OPERATIONS,
    *event_types.OPERATIONS,
    *catalog.OPERATIONS,
    *portal.OPERATIONS,
)

LONGEST: Final = 60.0
"""Seconds for a request: more than a test's attempt takes, and than a statement may."""


def make_app(admin: Admin, *, body_limit: int, rate_limit: float, monotonic: Callable[[], float]) -> web.Application:
    """Make the application. `body_limit`: bytes; `rate_limit`: requests a second for each key, 0 for any number."""
    app = web.Application(client_max_size=body_limit, middlewares=[as_problems, in_time])
    app[ADMIN] = admin
    app[BUCKETS] = Buckets(rate_limit, monotonic=monotonic)
    # the fixed paths first: `/v1/webhook/events/{id}` is no webhook called `events`
    ordered = sorted(OPERATIONS, key=lambda operation: operation.path.startswith("/v1/webhook/{id}/"))
    app.add_routes([route(operation) for operation in ordered])
    app.add_routes(docs.routes(OPERATIONS))
    catalog.add_to(app)
    return app


@web.middleware
async def in_time(request: web.Request, handler: Handler) -> web.StreamResponse:
    """End what takes too long, a wait for a free connection to the database above all."""
    async with asyncio.timeout(LONGEST):
        return await handler(request)
