"""Endpoints: how each does, what it gets, its secrets, and all that can be done to it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from aiohttp import web

from dispatcher.admin import Admin, CallFilter, DeliveryDetails, EndpointPage, EndpointRow, EndpointSeries
from dispatcher.console import asking
from dispatcher.console.pages import endpoint_forms
from dispatcher.console.pages.endpoint_forms import identity
from dispatcher.console.sparkline import sparkline
from dispatcher.console.view import Handler, Page, View
from dispatcher.errors import Conflict, InvalidInput, NotFound
from dispatcher.model import DeliveryId, EndpointId, EndpointState
from dispatcher.retry import parse_duration

STATES: Final = (*(str(state) for state in EndpointState), "archived")

RANGES: Final[Mapping[str, timedelta]] = {
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
USUAL: Final = "24h"

RECENT: Final = 10
"""Deliveries on an endpoint's page."""

TEST_SECONDS: Final = 8.0
"""That a person waits for the attempt of a test; the page goes on looking for a slower one."""


async def listing(view: View) -> web.StreamResponse:
    """List endpoints, the newest first."""
    wrong: dict[str | None, str] = {}
    page = EndpointPage((), (), None)
    try:
        page = await view.admin.endpoint_page(
            search=view.given("search"),
            state=view.given("state"),
            failing=True if view.given("failing") else None,
            tenant=view.tenant,
            cursor=view.given("cursor"),
        )
    except InvalidInput as error:
        wrong[error.field] = str(error)
    return view.render(
        "endpoints.html",
        status=422 if wrong else 200,
        page=page,
        wrong=wrong,
        states=STATES,
        sparks={glance.endpoint.id: sparkline(glance.ok, glance.failed) for glance in page.endpoints},
    )


async def show(view: View) -> web.StreamResponse:
    """Show an endpoint with its settings, how it does, and what it got last."""
    webhook = identity(view)
    glance = await view.admin.endpoint_glance(webhook, tenant=view.tenant)
    chosen = view.given("range") or USUAL
    now = view.admin.now()
    series = await view.admin.endpoint_series(
        webhook, since=now - RANGES.get(chosen, RANGES[USUAL]), until=now, tenant=view.tenant
    )
    return view.render(
        "endpoint.html",
        endpoint=glance.endpoint,
        glance=glance,
        spark=sparkline(glance.ok, glance.failed),
        totals=series.totals,
        plot=_plot(series),
        ranges=tuple(RANGES),
        chosen=chosen if chosen in RANGES else USUAL,
        page=await view.admin.calls(CallFilter(webhook=webhook), tenant=view.tenant, limit=RECENT),
        test=await _test(view, webhook),
    )


def _plot(series: EndpointSeries) -> Mapping[str, Any]:
    failed = [sum(values) if None not in values else None for values in zip(*series.failed.values(), strict=True)]
    return {
        "unit": "",
        "times": series.times,
        "lines": [
            _line("succeeded", "good", series.delivered),
            _line("failed", "bad", failed),
            _line("died", "warn", series.deaths, dashed=True),
        ],
    }


def _line(label: str, colour: str, values: Sequence[int | None], *, dashed: bool = False) -> Mapping[str, Any]:
    return {"label": label, "colour": colour, "values": values, "dashed": dashed}


async def _test(view: View, webhook: EndpointId) -> DeliveryDetails | None:
    """Return the test that was sent last, if the address names it and it went to this endpoint."""
    tested = view.given("tested")
    if tested is None:
        return None
    try:
        number = DeliveryId(asking.whole_number(tested, "delivery"))
        details = await view.admin.delivery(number, tenant=view.tenant)
    except NotFound:
        return None
    return details if details.delivery.endpoint_id == webhook else None


async def send_test(view: View) -> web.StreamResponse:
    """Send a test now, and show how it was answered."""
    endpoint = await view.admin.webhook(identity(view), tenant=view.tenant)
    delivery = await view.audited(
        view.deed("endpoint.tested", target=endpoint.id, tenant=endpoint.tenant),
        lambda admin: admin.test_webhook(endpoint.id, tenant=view.tenant),
    )
    await view.admin.wait_for_attempt(delivery, TEST_SECONDS)
    return view.go(view.url("endpoint", query={"tested": delivery}, id=endpoint.id) + "#test")


async def secrets(view: View) -> web.StreamResponse:
    """Show the secrets in use; it is noted that somebody looked."""
    endpoint = await view.admin.webhook(identity(view), tenant=view.tenant)
    deed = view.deed("endpoint.secrets_shown", target=endpoint.id, tenant=endpoint.tenant)
    try:
        shown = await view.audited(deed, lambda admin: admin.webhook_secrets(endpoint.id, tenant=view.tenant))
    except Conflict as error:  # with the form to rotate it, which is the way out
        return await _secrets(view, endpoint, (), wrong={None: str(error)}, status=409)
    return await _secrets(view, endpoint, shown)


async def rotate(view: View) -> web.StreamResponse:
    """Give an endpoint a new secret, and show it."""
    endpoint = await view.admin.webhook(identity(view), tenant=view.tenant)
    form = await view.form()
    try:
        overlap = parse_duration(form.get("overlap") or "24h", field="overlap")
        deed = view.deed("endpoint.secret_rotated", target=endpoint.id, tenant=endpoint.tenant, overlap_seconds=overlap)
        await view.audited(
            deed,
            lambda admin: admin.rotate_secret(
                endpoint.id, secret=form.get("secret") or None, overlap=overlap, tenant=view.tenant
            ),
        )
    except InvalidInput as error:
        return await _secrets(view, endpoint, (), wrong={error.field: str(error)}, typed=form)
    shown = await view.admin.webhook_secrets(endpoint.id, tenant=view.tenant)
    return await _secrets(view, endpoint, shown, said="There is a new secret.")


async def _secrets(
    view: View,
    endpoint: EndpointRow,
    shown: Sequence[Any],
    *,
    said: str | None = None,
    wrong: Mapping[str | None, str] | None = None,
    typed: Mapping[str, str] | None = None,
    status: int = 422,
) -> web.Response:
    """Show secrets; `status` is for where something is `wrong`."""
    return view.render(
        "endpoint_secrets.html",
        status=status if wrong else 200,
        endpoint=endpoint,
        secrets=shown,
        public_keys=await view.admin.public_keys(endpoint.id, tenant=view.tenant) if shown else (),
        said=said,
        wrong=wrong or {},
        typed=typed or {},
    )


def _acting(action: str, said: str, act: Callable[[Admin, EndpointId, str | None], Awaitable[EndpointRow]]) -> Handler:
    """Make a handler that does something to an endpoint."""

    async def handle(view: View) -> web.StreamResponse:
        endpoint = await view.admin.webhook(identity(view), tenant=view.tenant)
        deed = view.deed(f"endpoint.{action}", target=endpoint.id, tenant=endpoint.tenant)
        await view.audited(deed, lambda admin: act(admin, endpoint.id, view.tenant))
        return view.redirect("endpoint", id=endpoint.id, said=said)

    return handle


async def archive(view: View) -> web.StreamResponse:
    """Take an endpoint out of use for good."""
    endpoint = await view.admin.webhook(identity(view), tenant=view.tenant)
    # it cancels what is pending batch by batch, each in a transaction of its own
    await view.admin.note(view.deed("endpoint.archived", target=endpoint.id, tenant=endpoint.tenant))
    await view.admin.archive_webhook(endpoint.id, tenant=view.tenant)
    return view.redirect("endpoint", id=endpoint.id, said="It is archived.")


_ACTS: Final[Mapping[str, Handler]] = {
    "pause": _acting(
        "paused",
        "It is paused: events still match and wait.",
        lambda admin, id_, tenant: admin.pause_webhook(id_, tenant=tenant),
    ),
    "resume": _acting(
        "resumed", "What waited is sent.", lambda admin, id_, tenant: admin.resume_webhook(id_, tenant=tenant)
    ),
    "enable": _acting(
        "enabled",
        "It is in use again. What died meanwhile can be replayed.",
        lambda admin, id_, tenant: admin.enable_webhook(id_, tenant=tenant),
    ),
    "disable": _acting(
        "disabled",
        "It is disabled: nothing matches it, and what was pending dies.",
        lambda admin, id_, tenant: admin.disable_webhook(id_, tenant=tenant),
    ),
    "archive": archive,
    "test": send_test,
    "secrets": secrets,
    "rotate": rotate,
}


PAGES: Final = (
    Page("endpoints", "/endpoints", listing, in_portal=True),
    *endpoint_forms.PAGES,
    Page("endpoint", "/endpoints/{id}", show, in_portal=True),
    *(
        Page(f"{name}_endpoint", f"/endpoints/{{id}}/{name}", act, "POST", in_portal=True)
        for name, act in _ACTS.items()
    ),
)
