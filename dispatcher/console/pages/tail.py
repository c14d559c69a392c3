"""The live tail: attempts as they are made, by server-sent events."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import orjson
from aiohttp import web

from dispatcher.admin import Tail, TailFilter
from dispatcher.console import asking, rendering
from dispatcher.console.pages.deliveries import ERROR_CLASSES
from dispatcher.console.view import Page, View
from dispatcher.errors import InvalidInput
from dispatcher.model import EndpointId

EVERY: Final = 1.0
"""Seconds between two looks."""

SHOWN: Final = 100
"""Attempts a look: more flies past too fast to be read."""

LONGEST: Final = 600.0
"""Seconds: then the browser comes again, and shows anew who it is."""

MOST: Final = 20
"""Streams at once: each looks into the database every second."""

VERDICTS: Final = ("done", "retry", "give_up")

OPEN: Final = web.AppKey("open_streams", set[object])

SLEEP: Final = web.AppKey[Callable[[float], Awaitable[None]]]("sleep")


async def show(view: View) -> web.StreamResponse:
    """Show the latest attempts; the page's script adds those that come."""
    wrong: dict[str | None, str] = {}
    tail = None
    try:
        tail = await view.admin.attempts_since(None, _filter(view), limit=SHOWN)
    except InvalidInput as error:
        wrong[error.field] = str(error)
    return view.render(
        "tail.html",
        tail=tail,
        wrong=wrong,
        verdicts=VERDICTS,
        error_classes=ERROR_CLASSES,
        stream=view.url("tail_stream", query=dict(view.request.query)),
        status=422 if wrong else 200,
    )


async def stream(view: View) -> web.StreamResponse:
    """Send attempts as they are made: events `attempts` of `{rows: HTML, leftOut: number|null}`, with the mark as id."""
    streams = view.request.app[OPEN]
    if len(streams) >= MOST:
        return web.Response(status=503, text="Too many live tails are open.", headers={"Retry-After": "30"})
    chosen = _filter(view)
    mark = view.request.headers.get("Last-Event-ID") or view.given("mark")
    # before anything is sent: what cannot be meant is refused here
    tail = await view.admin.attempts_since(mark, chosen, limit=SHOWN)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
    await response.prepare(view.request)
    me = object()
    streams.add(me)
    try:
        async with asyncio.timeout(LONGEST):
            while True:
                await response.write(_told(view, tail))
                await view.request.app[SLEEP](EVERY)
                tail = await view.admin.attempts_since(tail.mark, chosen, limit=SHOWN)
    except (TimeoutError, ConnectionError):  # long enough; or the browser is gone
        pass
    finally:
        streams.discard(me)
    return response


def _told(view: View, tail: Tail) -> bytes:
    """Write what one look brought; the page that begins has the latest attempts already."""
    if not tail.attempts or tail.left_out is None:
        return f": nothing\nid: {tail.mark}\n\n".encode()
    rows = rendering.render("tail_rows.html", attempts=tail.attempts, url=view.url, has=view.has, view=view)
    data = orjson.dumps({"rows": rows, "leftOut": tail.left_out}).decode()
    return f"event: attempts\nid: {tail.mark}\ndata: {data}\n\n".encode()


def _filter(view: View) -> TailFilter:
    webhook = asking.uuid(view, "webhook")
    return TailFilter(
        tenant=view.given("tenant"),
        webhook=None if webhook is None else EndpointId(webhook),
        event_type=view.given("event_type"),
        status=view.given("status"),
        error_class=asking.one_of(view, "error_class", ERROR_CLASSES),
        verdict=asking.one_of(view, "verdict", VERDICTS),
    )


PAGES: Final = (
    Page("tail", "/tail", show),
    Page("tail_stream", "/tail/stream", stream),
)
