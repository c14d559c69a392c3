"""Answer machines that watch: `/metrics` for Prometheus, `/healthz` (is it alive?), `/readyz` (can it do its work?)."""

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Render = Callable[[], bytes]
Checks = Callable[[], Awaitable[Mapping[str, str | None]]]
"""What must hold, by name: null if it does, else what is wrong, for people."""

RENDER: web.AppKey[Render] = web.AppKey("render")
READY: web.AppKey[Checks] = web.AppKey("ready")


def add_to(app: web.Application, *, render: Render, ready: Checks) -> None:
    """Add what machines ask for to the ops listener's application."""
    app[RENDER] = render
    app[READY] = ready
    app.router.add_get("/metrics", _metrics, name="metrics")
    app.router.add_get("/healthz", _healthz, name="healthz")
    app.router.add_get("/readyz", _readyz, name="readyz")


async def _metrics(request: web.Request) -> web.Response:
    return web.Response(body=request.app[RENDER](), headers={"Content-Type": METRICS_TYPE})


async def _healthz(_: web.Request) -> web.Response:
    """Alive: the event loop answers. Whether the database does is no reason to be killed and started again."""
    return web.json_response({"status": "ok"})


async def _readyz(request: web.Request) -> web.Response:
    checks = await request.app[READY]()
    ok = all(wrong is None for wrong in checks.values())
    body = {"status": "ok" if ok else "unavailable", "checks": {name: wrong or "ok" for name, wrong in checks.items()}}
    return web.json_response(body, status=200 if ok else 503)
