"""A sample receiver, as a subscriber would write one: verifies each request by the public recipe, and drops duplicates.

It shares no code with the sender. The recipe is Standard Webhooks': HMAC-SHA256 over `id.timestamp.body` with the decoded
secret, base64, one of the signatures in the header.
"""

import base64
import hashlib
import hmac
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from dispatcher.clock import Clock

TOLERANCE = 300
"""Seconds between the two clocks, as the standard's libraries have it."""

UNNAMED = "(the body names no type)"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request, as it came and was answered."""

    received_at: float
    """Unix seconds."""
    path: str
    webhook_id: str
    event_type: str
    body: bytes
    problem: str | None
    """Why it was not believed."""
    attempt: int
    """How often this message came to this path, with this one."""
    duplicate: bool
    """It had been accepted before."""
    status: int

    @property
    def accepted(self) -> bool:
        """True if the receiver took it for the first time."""
        return self.problem is None and self.status < web.HTTPMultipleChoices.status_code and not self.duplicate


@dataclass(frozen=True, slots=True)
class Subscriber:
    """What the receiver knows of one of its paths."""

    secret: str
    type_member: str


class Receiver:
    """Answers 204, or 500 at the paths in `out_of_order`; `on_arrival` is told of each request."""

    def __init__(self) -> None:
        self.subscribers: dict[str, Subscriber] = {}
        self.out_of_order: set[str] = set()
        self.arrivals: list[Arrival] = []
        self.on_arrival: Callable[[Arrival], None] = _ignore
        self._clock = Clock()

    async def answer(self, request: web.Request) -> web.Response:
        """Handle one request."""
        body = await request.read()
        now = self._clock.now()
        subscriber = self.subscribers.get(request.path)
        webhook_id = request.headers.get("webhook-id", "")
        before = [one for one in self.arrivals if (one.path, one.webhook_id) == (request.path, webhook_id)]
        problem = (
            "nobody knows this path" if subscriber is None else refusal(subscriber.secret, request.headers, body, now)
        )
        status, text = self._judge(request.path, problem)
        arrival = Arrival(
            received_at=now,
            path=request.path,
            webhook_id=webhook_id,
            event_type=_event_type(body, "" if subscriber is None else subscriber.type_member),
            body=body,
            problem=problem,
            attempt=len(before) + 1,
            duplicate=any(one.accepted for one in before),
            status=status,
        )
        self.arrivals.append(arrival)
        self.on_arrival(arrival)
        return web.Response(status=status, text=text)

    def _judge(self, path: str, problem: str | None) -> tuple[int, str | None]:
        if problem is not None:
            return 401, problem
        if path in self.out_of_order:
            return 500, "the ledger is locked"
        return 204, None


def refusal(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> str | None:
    """Say why a request is not to be believed; None if it is."""
    try:
        message_id, timestamp, given = (headers[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
        recent = abs(now - int(timestamp)) <= TOLERANCE
    except (KeyError, ValueError):
        return "a header is missing or wrong"
    if not recent:
        return "it is too old"
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{message_id}.{timestamp}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    if any(hmac.compare_digest(expected.encode(), one.encode()) for one in given.split(" ")):
        return None
    return "no signature matches"


def _event_type(body: bytes, member: str) -> str:
    try:
        document: Any = json.loads(body)
    except ValueError:
        return UNNAMED
    return str(document.get(member, UNNAMED)) if isinstance(document, dict) else UNNAMED


def _ignore(_: Arrival) -> None:
    pass


@asynccontextmanager
async def receiving(receiver: Receiver, listener: socket.socket) -> AsyncIterator[None]:
    """Answer on a socket that listens already."""
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.answer)
    async with serving(app, listener):
        yield


@asynccontextmanager
async def serving(app: web.Application, listener: socket.socket) -> AsyncIterator[None]:
    """Serve a web application on a socket that listens already."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        yield
    finally:
        await runner.cleanup()
