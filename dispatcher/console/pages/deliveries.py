"""The log of all calls, and each of them in detail: every attempt with what was sent, what came back, and where the time went."""

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from dispatcher.admin import AttemptRow, CallFilter, CallPage, DeliveryDetails, EndpointFinding
from dispatcher.console import asking
from dispatcher.console.curl import curl
from dispatcher.console.view import Page, View
from dispatcher.console.waterfall import Waterfall, waterfall
from dispatcher.errors import InvalidInput
from dispatcher.model import DeliveryId, DeliveryState, EndpointId, EventId, UnreachableReason

ERROR_CLASSES: Final = (*(str(reason) for reason in UnreachableReason), "blocked", "unrecordable")


@dataclass(frozen=True, slots=True)
class Shown:
    """An attempt as the page shows it."""

    attempt: AttemptRow
    waterfall: Waterfall | None
    curl: str | None


async def listing(view: View) -> web.StreamResponse:
    """List deliveries, the newest first."""
    number = view.given("id")
    if number is not None:
        return view.redirect("delivery", id=asking.whole_number(number, "delivery"))
    wrong: dict[str | None, str] = {}
    page = CallPage((), None, None)
    try:
        page = await view.admin.calls(_filter(view), tenant=view.tenant, cursor=view.given("cursor"))
    except InvalidInput as error:
        wrong[error.field] = str(error)
    return view.render(
        "deliveries.html",
        page=page,
        wrong=wrong,
        states=[str(state) for state in DeliveryState],
        error_classes=ERROR_CLASSES,
        status=422 if wrong else 200,
    )


def _filter(view: View) -> CallFilter:
    webhook, event = asking.uuid(view, "webhook"), asking.uuid(view, "event")
    return CallFilter(
        tenant=None if view.is_portal else view.given("tenant"),
        webhook=None if webhook is None else EndpointId(webhook),
        event_type=view.given("event_type"),
        state=asking.one_of(view, "state", tuple(DeliveryState)),
        status=view.given("status"),
        error_class=asking.one_of(view, "error_class", ERROR_CLASSES),
        created_after=asking.instant(view, "created_after"),
        created_before=asking.instant(view, "created_before"),
        event=None if event is None else EventId(event),
    )


async def show(view: View) -> web.StreamResponse:
    """Show a delivery with all its attempts, and why it stands as it does."""
    details = await view.admin.delivery(_id(view), tenant=view.tenant)
    attempts = [Shown(one, waterfall(one), curl(details.delivery.url, one)) for one in reversed(details.attempts)]
    asked = view.given("check")
    number = None if asked is None else asking.whole_number(asked, "attempt")
    return view.render(
        "delivery.html",
        delivery=details.delivery,
        event=details.event,
        attempts=attempts,
        finding=await _finding(view, details),
        checked=number,
        check=None
        if number is None
        else await view.admin.signature_check(details.delivery.id, number, tenant=view.tenant),
    )


async def _finding(view: View, details: DeliveryDetails) -> EndpointFinding | None:
    """Return what is to be said of the event at this endpoint; None once it is past retention."""
    if details.event is None:
        return None
    explanation = await view.admin.explain(details.event.id, tenant=view.tenant)
    mine = [one for one in explanation.endpoints if one.endpoint_id == details.delivery.endpoint_id]
    # of an older one of several deliveries nothing is explained: the newest tells how things stand
    newest = bool(mine) and mine[0].deliveries[:1] == (details.delivery,)
    return mine[0] if newest else None


async def retry(view: View) -> web.StreamResponse:
    """Send a delivery again."""
    delivery_id = _id(view)
    was = (await view.admin.delivery(delivery_id, tenant=view.tenant)).delivery
    deed = view.deed("delivery.retried", target=delivery_id, tenant=was.tenant)
    new = await view.audited(deed, lambda admin: admin.retry_delivery(delivery_id, tenant=view.tenant))
    said = "It is due now." if new.id == delivery_id else f"It is sent again, as the delivery {new.id}."
    return view.redirect("delivery", id=new.id, said=said)


async def cancel(view: View) -> web.StreamResponse:
    """Give a pending delivery up."""
    delivery_id = _id(view)
    was = (await view.admin.delivery(delivery_id, tenant=view.tenant)).delivery
    deed = view.deed("delivery.cancelled", target=delivery_id, tenant=was.tenant)
    await view.audited(deed, lambda admin: admin.cancel_delivery(delivery_id, tenant=view.tenant))
    return view.redirect("delivery", id=delivery_id, said="It is cancelled; it can still be sent again.")


def _id(view: View) -> DeliveryId:
    return DeliveryId(asking.whole_number(view.part(), "delivery"))


PAGES: Final = (
    Page("deliveries", "/deliveries", listing, in_portal=True),
    Page("delivery", "/deliveries/{id}", show, in_portal=True),
    Page("retry_delivery", "/deliveries/{id}/retry", retry, "POST", in_portal=True),
    Page("cancel_delivery", "/deliveries/{id}/cancel", cancel, "POST", in_portal=True),
)
